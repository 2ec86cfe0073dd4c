"""Times on a stream's clock."""

from fractions import Fraction
from typing import NamedTuple


class Tick(NamedTuple):
    """Seconds of a tick, for use with each picture, by PyAV too: a fraction makes its parts anew at each look."""

    numerator: int
    denominator: int

    @classmethod
    def of(cls, seconds: Fraction) -> "Tick":
        """The same number."""
        return cls(*seconds.as_integer_ratio())

    def nanoseconds(self, ticks: int) -> int:
        """So many of them."""
        return ticks * 10**9 * self[0] // self[1]
