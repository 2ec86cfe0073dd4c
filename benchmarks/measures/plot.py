"""The charts of reports as PNG files, by matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.measures.charts import Bars, Chart, Lines
from benchmarks.measures.process import BenchmarkError

SIZE = (9, 5)  # inches
DPI = 120


def check() -> None:
    """Raises BenchmarkError where nothing can be drawn: before anything is measured."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise BenchmarkError('--plot needs matplotlib: pip install "framesrv[plot]"') from error


def draw(charts: Sequence[Chart], directory: Path) -> list[Path]:
    """Writes a file for each chart, named after it."""
    from matplotlib.figure import Figure

    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for chart in charts:
        figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
        axes = figure.subplots()
        axes.set_title(chart.title)
        axes.grid(visible=True, alpha=0.3)
        axes.set_axisbelow(True)
        if isinstance(chart, Bars):
            _bars(axes, chart)
        else:
            _lines(axes, chart)
        figure.legend(loc="outside right upper")
        paths.append(directory / f"{chart.name}.png")
        figure.savefig(paths[-1])
    return paths


def _bars(axes: Any, chart: Bars) -> None:
    left = [0.0] * len(chart.bars)
    for part, values in chart.parts.items():
        axes.barh(chart.bars, values, left=left, label=part)
        left = [before + value for before, value in zip(left, values, strict=True)]
    axes.invert_yaxis()  # the first one on top
    axes.set_xlabel(chart.axis)


def _lines(axes: Any, chart: Lines) -> None:
    for name, points in chart.lines.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", label=name)
    axes.set_xlabel(chart.x_axis)
    axes.set_ylabel(chart.y_axis)
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
