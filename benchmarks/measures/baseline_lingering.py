"""Programs of ours as they were before they learnt to stop: the other side of `idle`.

Decoding goes on for two seconds after each question, whether anybody asks again or not, and all cameras that are
asked catch up at once.
"""

import runpy
import sys

from framesrv.camera import policy
from snapd.pictures import capture

ALL = 10_000  # cameras at a time


def main() -> None:
    """Runs the module that the first argument names, with the others."""
    policy.Demand._linger = policy.LINGER  # type: ignore[method-assign, assignment]
    capture.PLACES = ALL
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
