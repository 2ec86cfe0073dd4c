"""What the time from a request to its callback goes to, stage by stage."""

import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

QUEUED, WAITING, CONVERT, ENCODE, UPLOAD, CALLBACK, OTHER = STAGES = (
    "queued",
    "waiting for a frame",
    "convert",
    "encode",
    "upload",
    "callback",
    "handed over",
)
PERCENTS = (50, 90, 99)
NEIGHBOURS = 0.05  # of all samples: those whose mean stands for a quantile

Stages: TypeAlias = Mapping[str, float]  # ms

_ANSWERED = re.compile(r"request_id='?([^' ]+)'? .*Answered status=ok ")
_TIME = re.compile(r"(\w+)_ms=(-?[0-9.]+)")


class Samples:
    """Requests of one kind: how long each took, and each of its stages, in ms."""

    def __init__(self) -> None:
        self._totals: dict[str, float] = {}
        self._stages: dict[str, Stages] = {}

    def __len__(self) -> int:
        return len(self._totals)

    def took(self, request: str, ms: float) -> None:
        self._totals[request] = ms

    def went(self, stages: Mapping[str, Stages]) -> None:
        """The stages of requests; of those that `took` was told of."""
        self._stages |= {request: stages[request] for request in self._totals if request in stages}

    def total(self, percent: int) -> float:
        """From request to callback, what `percent` of all do not exceed."""
        return _quantile(list(self._totals.values()), percent)

    def stage(self, name: str, percent: int) -> float:
        """The same of one stage."""
        return _quantile([stages.get(name, 0.0) for stages in self._stages.values()], percent)

    def around(self, percent: int) -> list[float]:
        """Of each stage the mean, over the requests whose whole time is nearest to that quantile."""
        ranked = sorted(self._stages, key=self._totals.__getitem__)
        width = max(1, round(len(ranked) * NEIGHBOURS))
        first = min(max(0, round(len(ranked) * percent / 100 - width / 2)), len(ranked) - width)
        near = [self._stages[request] for request in ranked[first : first + width]]
        return [max(0.0, statistics.fmean(stages.get(name, 0.0) for stages in near)) for name in STAGES]


def read_log(log: Path) -> dict[str, Stages]:
    """Each answered request's stages from the log of ``snapd run -v``."""
    found: dict[str, Stages] = {}
    for line in log.read_text("utf-8", "replace").splitlines():
        answered = _ANSWERED.search(line)
        if answered:
            times = {name: float(value) for name, value in _TIME.findall(line)}
            found[answered[1]] = {
                QUEUED: times["queued"],
                WAITING: times.get("waiting", 0.0),
                CONVERT: times.get("converting", 0.0),
                ENCODE: times.get("encoding", 0.0),
                UPLOAD: times["uploading"],
                CALLBACK: times["deliver"],
                OTHER: times.get("keep", 0.0) + times["place"],
            }
    return found


def _quantile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]
