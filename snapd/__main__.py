"""`python -m snapd`."""

from snapd.cli import main

main(prog_name="snapd")
