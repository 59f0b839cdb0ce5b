package arouter

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func read(t *testing.T, source io.Reader) []string {
	t.Helper()
	reader := newEventReader(source)
	var found []string
	for {
		data, err := reader.next()
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, string(data))
	}
}

func TestEvents(t *testing.T) {
	long := strings.Repeat("x", 3<<20)
	for name, test := range map[string]struct {
		text string
		want []string
	}{
		"usual":                     {"data: a\n\ndata: b\n\n", []string{"a", "b"}},
		"without a space":           {"data:a\n\n", []string{"a"}},
		"two spaces":                {"data:  a\n\n", []string{" a"}},
		"carriage returns":          {"data: a\r\n\r\ndata: b\r\r", []string{"a", "b"}},
		"several lines":             {"data: a\ndata: b\n\n", []string{"a\nb"}},
		"comments and other fields": {": ping\n\nevent: x\nid: 1\nretry: 5\ndata: a\n\n:\n\n", []string{"a"}},
		"an event without data":     {"event: ping\n\ndata: a\n\n", []string{"a"}},
		"empty data":                {"data\n\ndata:\n\n", []string{"", ""}},
		"no empty line at the end":  {"data: a\n\ndata: [DONE]", []string{"a", "[DONE]"}},
		"byte order mark":           {"\xef\xbb\xbfdata: a\n\n", []string{"a"}},
		"a very long line":          {"data: " + long + "\n\n", []string{long}},
		"separators of JSON text":   {"data: a\u2028b\u0085c\n\n", []string{"a\u2028b\u0085c"}},
		"nothing":                   {"", nil},
	} {
		t.Run(name, func(t *testing.T) {
			for way, source := range map[string]io.Reader{
				"at once":   strings.NewReader(test.text),
				"bit by it": iotest.OneByteReader(strings.NewReader(test.text)),
			} {
				found := read(t, source)
				if strings.Join(found, "|") != strings.Join(test.want, "|") || len(found) != len(test.want) {
					t.Errorf("%s: %d events %.80q, want %.80q", way, len(found), found, test.want)
				}
			}
		})
	}
}

func TestAnErrorOfTheSourceIsNoEnd(t *testing.T) {
	broken := errors.New("reset by peer")
	reader := newEventReader(io.MultiReader(strings.NewReader("data: a\n\ndata: b"), iotest.ErrReader(broken)))
	if data, err := reader.next(); err != nil || string(data) != "a" {
		t.Fatalf("%q, %v", data, err)
	}
	if _, err := reader.next(); !errors.Is(err, broken) {
		t.Fatalf("%v, want the source's own error", err)
	}
}

func FuzzEvents(f *testing.F) {
	for _, seed := range []string{"data: a\n\n", ": x\r\ndata:b\r\n\r\n", "data: 1\rdata: 2\r\r", "\xef\xbb\xbfdata", "\n\r\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		whole := read(t, bytes.NewReader(text))
		if pieces := read(t, iotest.OneByteReader(bytes.NewReader(text))); strings.Join(whole, "|") != strings.Join(pieces, "|") {
			t.Fatalf("%q is read as %q at once and as %q in pieces", text, whole, pieces)
		}
		unix := bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), []byte("\r"), []byte("\n"))
		if same := read(t, bytes.NewReader(unix)); strings.Join(whole, "|") != strings.Join(same, "|") {
			t.Fatalf("%q is read as %q, with other ends of lines as %q", text, whole, same)
		}
	})
}
