"""What the live table shows: rows in an order, those that match a filter, as many as the terminal has room for.

A `Screen` takes keys and cameras and knows neither terminal nor time; `rendered` is it for rich to draw.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from rich.cells import cell_len
from rich.console import Group
from rich.text import Text

from framesrv.host.ls import STATE_COLOURS
from framesrv.host.top.cameras import ORDERS, CameraHealth, totals

AROUND = 3  # lines that are no rows: totals, headings, keys
MINUTE, HOUR, DAY = 60, 3600, 86400  # s
CODE_SHARE = 4  # of the columns, one in so many may be the code's
SHORTEST_CODE = 20  # characters that are shown however narrow it is: those of GB/T 28181
GAP = 1  # column between two
KEYS = "s sort  / filter  p pause  q quit"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: `width` is in columns of the terminal, of which there must be at `least` so many to show it."""

    name: str
    width: int
    value: Callable[[CameraHealth], str]
    right: bool = False
    least: int = 0

    def fit(self, text: str) -> str:
        """`text` and the gap after it, in exactly their width."""
        text = _tail(text, self.width)
        space = " " * (self.width - cell_len(text))
        return (space + text if self.right else text + space) + " " * GAP


@dataclass(slots=True)
class Screen:
    """The state of the table.

    Attributes:
        order: a name of `ORDERS`.
        filter: what code, state or reason of a row must contain, in whatever case.
        asking: whether keys go to the filter.
        paused: whether it is to stand still.
        first: number of the row at the top.
        ended: whether it is to end.
        page: rows that were shown the last time.
        note: a sentence for the last line but one; none if empty.
    """

    order: str = next(iter(ORDERS))
    filter: str = ""
    asking: bool = False
    paused: bool = False
    first: int = 0
    ended: bool = False
    page: int = 1
    note: str = ""
    cameras: Sequence[CameraHealth] = field(default_factory=list)

    def press(self, key: str) -> None:
        """One key, as `Keyboard` names it."""
        if self.asking:
            self._ask(key)
            return
        moves = {"up": -1, "k": -1, "down": 1, "j": 1, "page up": -self.page, "page down": self.page}
        if key in moves:
            self.first += moves[key]
        elif key == "home":
            self.first = 0
        elif key == "end":
            self.first = len(self.cameras)
        elif key == "s":
            names = list(ORDERS)
            self.order = names[(names.index(self.order) + 1) % len(names)]
            self.first = 0
        elif key in {"/", "f"}:
            self.asking, self.filter = True, ""
        elif key == "escape":
            self.filter = ""
        elif key in {"p", " "}:
            self.paused = not self.paused
        elif key == "q":
            self.ended = True

    def _ask(self, key: str) -> None:
        if key == "enter":
            self.asking = False
        elif key == "escape":
            self.asking, self.filter = False, ""
        elif key == "backspace":
            self.filter = self.filter[:-1]
        elif len(key) == 1:
            self.filter += key
        self.first = 0

    @property
    def rows(self) -> list[CameraHealth]:
        """Those that match, in their order."""
        wanted = self.filter.casefold()
        found = [camera for camera in self.cameras if wanted in _words(camera).casefold()]
        return sorted(found, key=ORDERS[self.order])

    def rendered(self, width: int, height: int, clock: str) -> Group:
        """The whole screen.

        Args:
            width: of the terminal, in columns.
            height: in lines.
            clock: the time, in words.
        """
        rows = self.rows
        around = AROUND + bool(self.note)
        self.page = max(1, height - around)
        self.first = max(0, min(self.first, len(rows) - self.page))
        shown = rows[self.first : self.first + self.page]
        fps = sum(camera.status.fps for camera in self.cameras)
        head = _line(
            f"{totals(self.cameras)}  {fps:.0f} frames/s", f"PAUSED {clock}" if self.paused else clock, width
        )
        head.stylize("bold")
        empty = [Text("")] * (height - around - len(shown))
        note = [Text(self.note, "yellow", no_wrap=True, overflow="ellipsis")] if self.note else []
        return Group(head, *_table(shown, width), *empty, *note, self._foot(len(rows), width))

    def _foot(self, count: int, width: int) -> Text:
        if self.asking:
            return Text(f"filter: {self.filter}_  (enter: keep, escape: all)", "reverse", no_wrap=True)
        last = min(self.first + self.page, count)
        where = f"{self.first + 1}-{last} of {count}" if count else "none"
        what = f" with {self.filter!r}" if self.filter else ""
        return _line(KEYS, f"{where}{what}, {self.order}", width)


def _words(camera: CameraHealth) -> str:
    return f"{camera.status.code} {camera.status.state} {camera.reason}"


def _line(left: str, right: str, width: int) -> Text:
    """Both ends of a line; where there is no room for both, the right one goes."""
    gap = width - len(left) - len(right)
    return Text(f"{left}{' ' * gap}{right}" if gap > 0 else left, no_wrap=True, overflow="ellipsis")


def _columns(rows: Sequence[CameraHealth], width: int) -> list[Column]:
    """The columns but for the last, which has what is left: the narrower the terminal, the fewer."""
    longest = max((cell_len(camera.status.code) for camera in rows), default=0)
    code = max(len("CODE"), min(longest, max(SHORTEST_CODE, width // CODE_SHARE)))
    columns = [
        Column("CODE", code, lambda camera: camera.status.code),
        Column("STATE", 10, lambda camera: camera.status.state),
        Column("SIZE", 9, _size, least=100),
        Column("FPS", 5, lambda camera: f"{camera.status.fps:.1f}", right=True, least=60),
        Column("AGE", 7, lambda camera: _age(camera.status.age_s), right=True, least=50),
        Column("DROPS", 5, lambda camera: _count(camera.status.dropped), right=True, least=75),
        Column("BAD", 4, lambda camera: _count(camera.status.corrupt), right=True, least=75),
        Column("RECONN", 6, lambda camera: _count(camera.status.reconnects), right=True, least=100),
    ]
    return [column for column in columns if width >= column.least]


def _table(rows: Sequence[CameraHealth], width: int) -> Iterator[Text]:
    """A heading, and a line for each row."""
    columns = _columns(rows, width)
    yield Text("".join(column.fit(column.name) for column in columns) + "REASON", "dim", no_wrap=True)
    room = width - sum(column.width + GAP for column in columns)
    for camera in rows:
        line = Text(no_wrap=True)
        for column in columns:
            state = column.name == "STATE"
            line.append(column.fit(column.value(camera)), STATE_COLOURS[camera.status.state] if state else "")
        line.append(_tail(camera.reason, room))
        yield line


def _size(camera: CameraHealth) -> str:
    return f"{camera.status.width}x{camera.status.height}" if camera.status.width else "-"


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    if seconds < MINUTE:
        return f"{seconds:.2f} s"
    if seconds < HOUR:
        return f"{seconds / MINUTE:.0f} min"
    return f"{seconds / HOUR:.0f} h" if seconds < DAY else f"{seconds / DAY:.0f} d"


def _count(number: int) -> str:
    """In at most four characters."""
    for limit, unit, name in ((10_000, 1, ""), (1_000_000, 1000, "k")):
        if number < limit:
            return f"{number // unit}{name}"
    return f"{min(number // 1_000_000, 999)}M"


def _tail(text: str, width: int) -> str:
    """The end of `text`, where a cause is named, in at most so many columns."""
    if cell_len(text) <= width:
        return text
    while text and cell_len(text) > width - 1:
        text = text[1:]
    return f"…{text}" if width > 0 else ""
