"""`python -m medseg` is the `medseg` program."""

from medseg.cli.main import main

main()
