"""What goes on beside a test, in a thread of its own."""

import threading
from types import TracebackType
from typing import Self

PATIENCE = 5.0  # s that it may take to end


class Background:
    """Runs while a block lasts.

    Attributes:
        stopped: set at the end of the block, before `end`.
    """

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self._thread = threading.Thread(target=self.run, name=type(self).__name__, daemon=True)

    def run(self) -> None:
        """What it does, until it is ended."""
        raise NotImplementedError

    def end(self) -> None:
        """Has `run` return, where `stopped` alone does not."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopped.set()
        self.end()
        self._thread.join(PATIENCE)
