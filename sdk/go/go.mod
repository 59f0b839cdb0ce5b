module arouter

go 1.21
