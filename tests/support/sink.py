"""Whom a source tells how it does, in tests."""

from collections import Counter

from framesrv.segment.layout import PixelFormat


class Counts:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self.packets = 0
        self.transport, self.demanded = "", False
        self.idle_form: tuple[int, int, str] | None = None
        self.waiting = ""

    def count(self, counter: str, number: int = 1) -> None:
        self.counters[counter] += number

    def active(self) -> None:
        self.packets += 1

    def describe(self, *, error: str, cause: str) -> None:
        self.waiting = error

    def clock(self, ahead: float | None) -> None:
        self.ahead = ahead

    def via(self, transport: str) -> None:
        self.transport = transport

    def idle(self, width: int, height: int, pixel_format: PixelFormat) -> None:
        self.idle_form = (width, height, pixel_format)
