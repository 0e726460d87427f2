"""`python -m serow`: the command line."""

from serow.cli.main import main

main()
