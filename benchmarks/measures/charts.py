"""What a report has to show besides its table: numbers for a plot, as JSON or drawn by `plot`."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias


@dataclass(frozen=True, slots=True)
class Bars:
    """Stacked bars: each of `bars` is made of `parts`, a value of each part for each bar."""

    name: str
    title: str
    axis: str
    bars: Sequence[str]
    parts: Mapping[str, Sequence[float]]

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines through points (x, y), each under its name."""

    name: str
    title: str
    x_axis: str
    y_axis: str
    lines: Mapping[str, Sequence[tuple[float, float]]]

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        return asdict(self)


Chart: TypeAlias = Bars | Lines
