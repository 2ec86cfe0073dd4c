"""When a lost source is tried again.

Most are tried again within seconds, for ever: a camera comes back when it likes. Where trying does harm, as with a
password that the camera refuses, which locks the account after a few tries, it is done ever more rarely.
"""

from collections.abc import Sequence

from framesrv.errors import SourceError
from framesrv.process.retry import Backoff, Steps

ANSWER = 60.0  # s that a camera gets for an answer at most, where it has shown that it needs more than `timeout`
USUAL = (0.5, 3.0)  # s, the first pause and the longest
LIMITED = (30.0, 300.0)  # s, where the stream costs more than it may
UNFORESEEN = (1.0, 30.0)  # s, after errors that nobody thought of
UNAUTHORIZED: Sequence[float] = (10.0, 60.0, 300.0, 900.0)  # s, the last again and again
LONG = 30.0  # s: who waits longer says until when


class Attempts:
    """The attempts to reach one source.

    Attributes:
        failures: in a row, of whatever kind.
    """

    def __init__(self) -> None:
        self.failures = 0
        self._usual = Backoff(*USUAL)
        self._unforeseen = Backoff(*UNFORESEEN)
        self._by_cause: dict[str, Backoff | Steps] = {
            "limit": Backoff(*LIMITED),
            "unauthorized": Steps(UNAUTHORIZED),
        }

    def reached(self) -> None:
        """The source gave pictures: the next failure is a first one."""
        self.failures = 0
        for one in (self._usual, self._unforeseen, *self._by_cause.values()):
            one.reset()

    def failed(self, error: Exception) -> float:
        """Seconds to wait after that."""
        self.failures += 1
        if not isinstance(error, SourceError):
            return self._unforeseen.pause()
        return self._by_cause.get(error.cause, self._usual).pause()
