"""Figures and how they are shown: as a table for people, as JSON for scripts.

No figure stands alone: beside it is something else that was measured in the same run, on the same machine, under the
same noise, and their ratio is what is comparable from one machine to the next.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.measures.charts import Chart

HEADINGS = ("", "measured", "beside it", "", "ratio", "target")


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure should be; `of` says whether its value, its ratio or its difference is meant."""

    of: Literal["value", "ratio", "difference"]
    limit: float
    at_least: bool = False

    def met_by(self, number: float) -> bool:
        """Whether `number` is on the right side."""
        return number >= self.limit if self.at_least else number <= self.limit


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement: `value` and `beside_value` are both in `unit`; `beside` says what the other one is."""

    name: str
    value: float
    unit: str
    beside: str
    beside_value: float
    target: Goal | None = None

    @property
    def ratio(self) -> float:
        """How many times what stands beside it; NaN where that is nothing."""
        return self.value / self.beside_value if self.beside_value else math.nan

    @property
    def difference(self) -> float:
        """How much more than what stands beside it."""
        return self.value - self.beside_value

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.target is None else self.target.met_by(getattr(self, self.target.of))

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        target = self.target
        return {
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "beside": self.beside,
            "beside_value": self.beside_value,
            "ratio": self.ratio if self.beside_value else None,
            "target": None
            if target is None
            else {"of": target.of, "limit": target.limit, "at_least": target.at_least, "met": self.met},
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What one benchmark found; `notes` are sentences about how, and what is no figure; `charts` are for plots."""

    name: str
    figures: Sequence[Figure]
    notes: Sequence[str] = ()
    charts: Sequence[Chart] = ()

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` shows it."""
        return {
            "name": self.name,
            "figures": [figure.to_json() for figure in self.figures],
            "notes": list(self.notes),
            "charts": [chart.to_json() for chart in self.charts],
        }


def render(reports: Sequence[Report]) -> str:
    """All reports in one table, each under its name and followed by its notes."""
    rows = [_row(figure) for report in reports for figure in report.figures]
    widths = [max(len(row[column]) for row in [HEADINGS, *rows]) for column in range(len(HEADINGS))]
    lines = [_line(HEADINGS, widths)]
    for report in reports:
        lines += ["", report.name]
        lines += [_line(_row(figure), widths) for figure in report.figures]
        lines += [f"  {note}" for note in report.notes]
    return "\n".join(lines)


def _row(figure: Figure) -> tuple[str, ...]:
    return (
        f"  {figure.name}",
        f"{number(figure.value)} {figure.unit}".rstrip(),
        f"{number(figure.beside_value)} {figure.unit}".rstrip(),
        figure.beside,
        f"{figure.ratio:.2f}",
        _verdict(figure),
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    aligned = [
        cell.rjust(width) if column in (1, 2, 4) else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join(aligned).rstrip()


def _verdict(figure: Figure) -> str:
    target = figure.target
    if target is None:
        return ""
    what = {"value": "", "ratio": "ratio ", "difference": "difference "}[target.of]
    unit = f" {figure.unit}" if figure.unit and target.of != "ratio" else ""
    reached = f" ({number(figure.difference)}{unit})" if target.of == "difference" else ""
    comparison = "≥" if target.at_least else "≤"
    return f"{what}{comparison} {number(target.limit)}{unit}{reached}: {'met' if figure.met else 'MISSED'}"


def number(value: float) -> str:
    """A whole number as it is, else three significant digits, never an exponent."""
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:#.3g}".rstrip(".")
