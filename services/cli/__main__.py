"""`python -m services.cli`: how the demo starts its own processes, whatever PATH says."""

from services.cli.main import main

main()
