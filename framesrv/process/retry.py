"""Ever longer pauses between attempts at what fails: exponential back-off with jitter, tenacity's."""

import random
from collections.abc import Sequence

from tenacity import BaseRetrying, RetryCallState, Retrying, wait_exponential, wait_random_exponential

FREE = 2  # starts in a row that may end soon before the next one waits


class Backoff:
    """Counts failures in a row, and says how long to wait after each.

    The pause doubles with each failure, up to the longest. Its second half is random, so that those who failed
    together do not try again together.

    Args:
        first: seconds after the first failure, at most.
        longest: seconds after any, at most.

    Attributes:
        failures: in a row, so far.
    """

    def __init__(self, first: float, longest: float) -> None:
        self.failures = 0
        self._wait = wait_exponential(first / 2, longest / 2) + wait_random_exponential(first / 2, longest / 2)
        self._retrying: BaseRetrying = Retrying()

    def pause(self) -> float:
        """One more failure: the seconds to wait before the next attempt."""
        self.failures += 1
        state = RetryCallState(self._retrying, None, (), {})
        state.attempt_number = self.failures
        return self._wait(state)

    def reset(self) -> None:
        """It succeeded: the next failure is a first one."""
        self.failures = 0


class Steps:
    """As `Backoff`, with pauses that are given one by one; the last is taken again and again.

    A tenth is added by chance.

    Args:
        pauses: seconds.

    Attributes:
        failures: in a row, so far.
    """

    def __init__(self, pauses: Sequence[float]) -> None:
        self.failures = 0
        self._pauses = pauses

    def pause(self) -> float:
        """One more failure: the seconds to wait before the next attempt."""
        self.failures += 1
        pause = self._pauses[min(self.failures, len(self._pauses)) - 1]
        return pause * random.uniform(1.0, 1.1)  # noqa: S311  no secret

    def reset(self) -> None:
        """It succeeded: the next failure is a first one."""
        self.failures = 0


def pause_after(soon: int, longest: float) -> float:
    """Seconds that a program waits after so many starts that each ended soon, one after the other.

    Args:
        soon: how many; `FREE` of them cost nothing.
        longest: seconds to wait at most.
    """
    if soon <= FREE:
        return 0.0
    backoff = Backoff(1.0, longest)
    backoff.failures = soon - FREE - 1
    return backoff.pause()
