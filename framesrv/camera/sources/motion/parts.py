"""The parts of a ``multipart/x-mixed-replace`` answer: JPEGs, each given when its last byte has come.

Where a part has no Content-Length, its end is that of the JPEG. FFmpeg waits for the boundary after it instead, which
most servers send with the next picture.
"""

import re
import time
from collections.abc import Callable, Iterator

from framesrv.camera.sources.still.image import LARGEST, Image, too_large
from framesrv.codec.jpeg import BARE, EOI, SOI, SOS
from framesrv.errors import SourceError

HEAD = 65_536  # bytes between two pictures

_BEGINNING = SOI + b"\xff"
_LENGTH = re.compile(rb"\n[ \t]*content-length[ \t]*:[ \t]*([0-9]{1,9})[ \t]*\r?\n", re.IGNORECASE)
_BOUNDARY = b"\r\n--"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]", re.DOTALL)  # that ends the data of a scan


def pictures(more: Callable[[], bytes]) -> Iterator[Image]:
    """Each picture, until the answer ends.

    Args:
        more: gives the bytes that have come; none at the end.

    Raises:
        SourceError: what comes is none, or is too large.
    """
    data, newest = bytearray(), (0, 0)
    coming: _Jpeg | None = None
    while True:
        if coming is None and (begin := data.find(_BEGINNING)) >= 0:
            lengths = _LENGTH.findall(data, 0, begin)
            coming = _Jpeg(int(lengths[-1]) if lengths else None, newest)
            del data[:begin]
        if coming is not None and (end := coming.end(data)) is not None:
            yield Image(bytes(data[:end]), *coming.began)
            del data[:end]
            coming = None
            continue
        if coming is None and len(data) > HEAD:
            raise SourceError("what comes between its pictures has no end", "format")
        if len(data) > LARGEST:
            raise too_large()
        came = more()
        if not came:
            return
        newest = (time.monotonic_ns(), time.time_ns())
        data += came


class _Jpeg:
    """Looks for the end of one, as its bytes come.

    Args:
        length: bytes that it has; None where nobody has said so.
        began: when its first byte came, monotonic and Unix nanoseconds.
    """

    def __init__(self, length: int | None, began: tuple[int, int]) -> None:
        self.began = began
        self._length = length
        self._at = len(SOI)  # up to there it is known
        self._in_scan = self._is_broken = False

    def end(self, data: bytearray) -> int | None:
        """Where it ends, in bytes that begin with it; None while that has not come."""
        if self._length is not None:
            return self._length if len(data) >= self._length else None
        while not self._is_broken:
            before = self._at, self._in_scan
            if self._in_scan:
                self._pass_scan(data)
            elif end := self._pass_marker(data):
                return end
            if before == (self._at, self._in_scan) and not self._is_broken:
                return None
        end = data.find(_BOUNDARY, self._at)
        return None if end < 0 else end

    def _pass_scan(self, data: bytearray) -> None:
        match = _MARKER.search(data, self._at)
        if match:
            self._at, self._in_scan = match.start(), False
        else:
            self._at = max(self._at, len(data) - 1)  # which may begin one

    def _pass_marker(self, data: bytearray) -> int | None:
        """Passes over a marker with all that is its own, where that has come; gives the end where it is that."""
        at = self._at
        if len(data) < at + 2:
            return None
        marker = data[at : at + 2]
        if marker == EOI:
            return at + 2
        if marker == SOI:  # of the next one: this one has no end of its own
            boundary = data.rfind(_BOUNDARY, 0, at)
            return at if boundary < 0 else boundary
        if marker[0] != 0xFF:
            self._is_broken = True
        elif marker[1] == 0xFF:  # padding
            self._at += 1
        elif marker[1] in BARE:
            self._at += 2
        elif len(data) >= at + 4:
            size = int.from_bytes(data[at + 2 : at + 4], "big")
            self._is_broken = size < 2
            if len(data) >= at + 2 + size:
                self._at, self._in_scan = at + 2 + size, marker[1] == SOS
        return None
