"""``python -m framesrv``: the command line."""

from framesrv.cli import main

if __name__ == "__main__":
    main(prog_name="framesrv")
