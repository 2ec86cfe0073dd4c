"""Times on a stream's clock."""

from fractions import Fraction


def nanoseconds(ticks: int, base: Fraction) -> int:
    """So many ticks of so many seconds; by numbers alone, as fractions are slow."""
    numerator, denominator = base.as_integer_ratio()
    return ticks * 10**9 * numerator // denominator
