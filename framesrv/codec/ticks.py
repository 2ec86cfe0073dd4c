"""Times on a stream's clock."""

from fractions import Fraction


def nanoseconds(ticks: int, base: Fraction) -> int:
    """So many ticks of so many seconds; by numbers alone, as fractions are slow."""
    return ticks * 10**9 * base.numerator // base.denominator
