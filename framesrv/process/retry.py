"""Ever longer pauses between attempts at what fails: exponential back-off with jitter, tenacity's."""

from tenacity import BaseRetrying, RetryCallState, Retrying, wait_exponential, wait_random_exponential


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
