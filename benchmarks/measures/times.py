"""Durations of one thing done many times."""

import statistics

US, MS = 1e3, 1e6  # nanoseconds


class Times:
    """Durations in nanoseconds, asked for as quantiles."""

    def __init__(self) -> None:
        self._ns: list[int] = []

    def __len__(self) -> int:
        return len(self._ns)

    def add(self, ns: int) -> None:
        self._ns.append(ns)

    def quantile(self, percent: int, unit_ns: float) -> float:
        """The duration that `percent` of all do not exceed, in units of `unit_ns` nanoseconds."""
        return statistics.quantiles(self._ns, n=100, method="inclusive")[percent - 1] / unit_ns
