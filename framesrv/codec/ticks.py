"""Times on a stream's clock."""

from typing import NamedTuple, Protocol


class Ratio(Protocol):
    """A number as two others, as `fractions.Fraction`."""

    @property
    def numerator(self) -> int:
        """Of it."""

    @property
    def denominator(self) -> int:
        """Of it."""


class Tick(NamedTuple):
    """Seconds of a tick, for those who need it with each picture: a fraction computes both parts at each look."""

    numerator: int
    denominator: int

    @classmethod
    def of(cls, ratio: Ratio) -> "Tick":
        """The same number."""
        return cls(ratio.numerator, ratio.denominator)

    def nanoseconds(self, ticks: int) -> int:
        """So many of them."""
        return ticks * 10**9 * self[0] // self[1]
