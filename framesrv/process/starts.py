"""A program that ends soon after its start, again and again, waits before it goes on.

A unit of systemd starts it anew after the same second for ever. So it counts: in a file of the directory that systemd
keeps while it starts the program again and removes when it is stopped, see RuntimeDirectoryPreserve= in
systemd.exec(5).
"""

import logging
import os
import time
from collections.abc import Callable, Mapping

import msgspec

from framesrv.process import report
from framesrv.process.atomic import write_file
from framesrv.process.retry import pause_after

NAME = "starts.json"
SHORT_LIFE = 60.0  # s

logger = logging.getLogger(__name__)


class _Start(msgspec.Struct, frozen=True):
    began: float  # Unix seconds
    soon: int  # starts before it that ended soon


class Starts:
    """The starts of this program.

    Args:
        environment: says where they are remembered: nowhere, so that none waits, where no service manager has made a
            place.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        place = report.place(environment)
        self._path = place.with_name(NAME) if place else None

    def begin(
        self, longest: float, told: Callable[[str], None], wait: Callable[[float], object] = time.sleep
    ) -> None:
        """Notes that it has started; waits first, and says so, where several before ended soon.

        Args:
            longest: seconds to wait at most.
            told: is told in words.
            wait: waits so many seconds.
        """
        if self._path is None:
            return
        before = self._before()
        now = time.time()
        soon = before.soon + 1 if before and 0 <= now - before.began < SHORT_LIFE else 0
        pause = pause_after(soon, longest)
        try:
            write_file(self._path, msgspec.json.encode(_Start(now + pause, soon)), mode=0o644)
        except OSError as error:
            logger.warning("Starts are not counted path=%s reason=%s", self._path, error.strerror)
        if pause:
            told(f"{soon} starts before this one ended soon: waits {pause:.0f} s")
            wait(pause)

    def end(self) -> None:
        """It ends as it should."""
        if self._path is None:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            logger.warning("Starts are not counted path=%s reason=%s", self._path, error.strerror)

    def _before(self) -> _Start | None:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Start) if self._path else None
        except (OSError, ValueError):
            return None
