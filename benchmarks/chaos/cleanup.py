"""Removes what a run leaves in the file system when the run has ended, even by SIGKILL.

``python -m benchmarks.chaos.cleanup DIRECTORY PREFIX`` waits for the end of its standard input, which the kernel
brings about when the program at the other end is gone; then it removes the directory and the segments of that prefix.
"""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.measures.process import ROOT

SHM = Path("/dev/shm")  # noqa: S108  where segments are
QUIET = 1.0  # s in which nothing came back: the last children may be dying yet
PATIENCE = 30.0


@contextmanager
def scratch_directory(prefix: str) -> Iterator[Path]:
    """A directory for the length of the block; after it, that and every segment of `prefix` are gone."""
    directory = Path(mkdtemp(prefix=f"{prefix}-"))
    cleaner = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.chaos.cleanup", directory, prefix],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is not meant for it
    )
    try:
        yield directory
    finally:
        assert cleaner.stdin is not None
        cleaner.stdin.close()
        cleaner.wait()


def clean(directory: Path, prefix: str) -> None:
    """Removes both until they stay away."""
    began = quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < QUIET and time.monotonic() - began < PATIENCE:
        left = [directory] if directory.exists() else []
        for segment in SHM.glob(f"{prefix}.*"):
            left.append(segment)
            with suppress(OSError):
                segment.unlink()
        shutil.rmtree(directory, ignore_errors=True)
        if left:
            quiet_since = time.monotonic()
        time.sleep(0.05)


if __name__ == "__main__":
    sys.stdin.read()
    clean(Path(sys.argv[1]), sys.argv[2])
