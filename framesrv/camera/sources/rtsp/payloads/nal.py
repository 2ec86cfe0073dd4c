"""NAL units on their way into an access unit, which is to be a byte stream (H.264 and H.265, annex B)."""

from collections.abc import Iterator

from framesrv.camera.sources.rtsp.unit import AccessUnit
from framesrv.codec.bits import LONGEST

START = b"\0\0\0\1"
MANY = 2048  # NAL units of one access unit; the largest picture has 600 slices
SETS = 64  # parameter sets that are kept; cameras have three
FORBIDDEN = 0x80  # the first bit of a NAL unit, which is zero


class NalUnits:
    """The NAL units of one access unit: whole ones, and ones in fragments.

    Attributes:
        open: the one that was added last lacks its end.
    """

    def __init__(self) -> None:
        self.open = False
        self._count = 0

    def fresh(self) -> None:
        """The next access unit begins."""
        self._count = 0

    def whole(self, unit: AccessUnit, nal: memoryview) -> bool:
        """Adds one that came in one piece; False if it cannot be one."""
        self.end(unit)
        self._count += 1
        if len(nal) < 2 or nal[0] & FORBIDDEN or self._count > MANY:
            unit.whole = False
            return False
        unit.data += START
        unit.data += nal
        return True

    def begin(self, unit: AccessUnit, header: bytes, rest: memoryview) -> None:
        """Adds the first fragment of one."""
        self.end(unit)
        self._count += 1
        if header[0] & FORBIDDEN or self._count > MANY:
            unit.whole = False
            return
        self.open = True
        unit.data += START
        unit.data += header
        unit.data += rest

    def go_on(self, unit: AccessUnit, rest: memoryview) -> None:
        """Adds a fragment, which is nothing without the first."""
        if not self.open:
            unit.whole = False
            return
        unit.data += rest

    def last(self) -> None:
        """The fragment added last was the last."""
        self.open = False

    def end(self, unit: AccessUnit) -> None:
        """Another one begins, or none: whatever is open lacks its end."""
        if self.open:
            unit.whole = self.open = False


class ParameterSets:
    """The newest parameter sets of a stream, for key frames that come without."""

    def __init__(self) -> None:
        self._sets: dict[tuple[int, int], bytes] = {}

    def keep(self, kind: int, number: int, nal: bytes) -> None:
        """Keeps one, in the place of that of the same kind and number."""
        if len(nal) <= LONGEST and ((kind, number) in self._sets or len(self._sets) < SETS):
            self._sets[kind, number] = nal

    def nals(self) -> list[tuple[int, bytes]]:
        """All of them with their kinds, those first that others refer to: their kinds have the lower numbers."""
        return [(name[0], self._sets[name]) for name in sorted(self._sets)]


def pieces(payload: memoryview, unit: AccessUnit | None = None) -> Iterator[memoryview]:
    """The NAL units of an aggregation packet, each after two bytes of its size.

    Args:
        payload: behind its header.
        unit: that is damaged where one of them is cut short.
    """
    at = 0
    while at < len(payload):
        size = int.from_bytes(payload[at : at + 2], "big")
        if at + 2 + size > len(payload) or not size:
            if unit is not None:
                unit.whole = False
            return
        yield payload[at + 2 : at + 2 + size]
        at += 2 + size
