"""What a thread sleeps on that is to hear signals: one byte comes for each, whichever thread the signal hits."""

import os
import select
import signal


class Signals:
    """Signals, and the calls of other threads. Made by the main thread.

    The handlers do nothing, because the main thread may sleep in a call or hold any lock. What counts is the byte
    that the interpreter writes for each signal.

    Args:
        numbers: the signals that are heard.
    """

    def __init__(self, *numbers: signal.Signals) -> None:
        self._end, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake)
        for number in numbers:
            signal.signal(number, lambda *_: None)

    def wake(self) -> None:
        """Wakes the thread that waits."""
        os.write(self._wake, b"\0")

    def fileno(self) -> int:
        """For select(2): readable when `wait` would not sleep."""
        return self._end

    def wait(self, timeout: float | None = None) -> int | None:
        """Sleeps until a signal has come, and gives its number; 0 if `ring` was called, None when the time is up."""
        ready, _, _ = select.select([self._end], [], [], timeout)
        return os.read(self._end, 1)[0] if ready else None
