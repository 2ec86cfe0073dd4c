"""JPEG in RTP packets (RFC 2435), with ONVIF's extension of their header (Streaming Specification, JPEG over RTP).

What goes over the wire is the data of a scan and, for the headers that a decoder needs, a few numbers: sides in
eights of up to 2040 pixels, a quality or the quantization tables, one of two ways to sample colours. A picture that
these numbers do not describe comes out wrong wherever they are believed. So the extension, which has the real
headers, goes before them; then what the session description says of the size; and what comes of it is checked.
"""

from framesrv.camera.sources.rtsp.rtp import RtpPacket
from framesrv.camera.sources.rtsp.unit import AccessUnit
from framesrv.codec import jpeg
from framesrv.codec.jpeg_check import ADVICE, JpegCheck
from framesrv.errors import SourceError

HEADER, RESTART_HEADER, TABLES_HEADER = 8, 4, 4  # bytes
RESTARTS = 64  # added to types whose scans have restart markers
TALL = {0: False, 1: True}  # types: whether colours have half the height, besides half the width
FIELDS = (1, 2, 3)  # kinds of a picture that is one field of two
LIMIT = 64 * 1024  # bytes of headers

FIRST, FURTHER = 0xFFD8, 0xFFFF  # kinds of the extension, in a picture's first packet and in others


class Jpeg:
    """Takes JPEGs out of RTP packets.

    Args:
        announced: width and height as the session description has them; None where it has none.
    """

    def __init__(self, announced: tuple[int, int] | None = None) -> None:
        self._announced = announced
        self._check = JpegCheck()
        self._quantization: dict[int, list[bytes]] = {}  # by the number that names them, from 128 to 254
        self._tables: dict[tuple[int, int], bytes] = {}  # of the newest picture with an extension
        self._frame = b""  # the header of the newest frame, which says its shape
        self._shape: tuple[int, int] | None = None
        self._fresh()

    @property
    def size(self) -> tuple[int, int] | None:
        """See `Payload.size`."""
        return self._shape

    def _fresh(self) -> None:
        self._first: bytes | None = None  # the first packet's numbers
        self._inband: list[bytes] = []
        self._restarts = b""
        self._extension: bytearray | None = None
        self._nbytes = 0  # of the scan, in packets

    def begins(self, payload: memoryview) -> bool:
        """See `Payload.begins`: its first fragment has offset 0."""
        return len(payload) > 8 and not any(payload[1:4])

    def add(self, unit: AccessUnit, packet: RtpPacket) -> None:
        """See `Payload.add`."""
        self._extend(unit, packet)
        payload = packet.payload
        if len(payload) < HEADER:
            unit.whole = unit.whole and self._extension is not None and not payload
            return
        offset, kind, quality = int.from_bytes(payload[1:4], "big"), payload[4], payload[5]
        if payload[0] in FIELDS:
            raise SourceError(
                f"its JPEGs are fields of interlaced pictures, which nobody puts together: {ADVICE}", "format"
            )
        data = payload[HEADER:]
        if RESTARTS <= kind < 2 * RESTARTS:
            self._restarts = bytes(data[:2])
            data = data[RESTART_HEADER:]
        if self._first is None:
            self._first = bytes(payload[:HEADER])
        if not offset and quality >= 128 and not self._nbytes:
            data = self._inband_tables(unit, data, quality)
        if offset != self._nbytes and len(data):
            unit.whole = False
        unit.data += data
        self._nbytes += len(data)
        unit.picture = self._nbytes > 0  # an extension may need packets of its own before

    def middle(self, payload: memoryview) -> bytes:
        """See `Payload.middle`: each packet has a header of its own."""
        return b""

    def end(self, unit: AccessUnit) -> None:
        """See `Payload.end`."""
        if unit.whole and unit.picture and self._first is not None:
            try:
                self._complete(unit, self._first)
            except ValueError:
                unit.whole = False
        unit.key = unit.picture
        self._fresh()

    def _extend(self, unit: AccessUnit, packet: RtpPacket) -> None:
        """Takes what a packet's extension has: headers before the scan, and more of that later on."""
        kind, content = packet.extension
        if kind == FIRST and self._extension is None and not self._nbytes:
            self._extension = bytearray(content)
        elif kind != FURTHER or self._extension is None:
            return
        elif self._nbytes:
            unit.data += content
        elif len(self._extension) + len(content) > LIMIT:
            unit.whole = False
        else:
            self._extension += content

    def _inband_tables(self, unit: AccessUnit, data: memoryview, quality: int) -> memoryview:
        """Takes the quantization tables that go before the scan; returns the scan."""
        precision, size = data[1] if len(data) > 1 else 0, int.from_bytes(data[2:4], "big")
        content = bytes(data[TABLES_HEADER : TABLES_HEADER + size])
        if len(data) < TABLES_HEADER or len(content) < size:
            unit.whole = False
            return data[len(data) :]
        self._inband, at, number = [], 0, 0
        while at < size:
            step = 128 if precision >> number & 1 else 64
            self._inband.append(bytes([(step == 128) << 4]) + content[at : at + step])
            at, number = at + step, number + 1
        if self._inband and quality < 255:
            self._quantization[quality] = self._inband
        return data[TABLES_HEADER + size :]

    def _complete(self, unit: AccessUnit, numbers: bytes) -> None:
        """Puts the headers before the data. Raises ValueError where they are none."""
        header, frame = self._headers(numbers)
        unit.data[:0] = header
        if not unit.data.endswith(jpeg.EOI):
            unit.data += jpeg.EOI
        self._check.look(unit.data, frame)
        if frame != self._frame or self._shape is None:
            shape = jpeg.shape_of(header)
            self._frame, self._shape = frame, (shape.width, shape.height)

    def _headers(self, numbers: bytes) -> tuple[bytes, bytes]:
        """All that goes before the scan, and of that the header of the frame."""
        kind, quality = numbers[4] & ~RESTARTS, numbers[5]
        tables: dict[tuple[int, int], bytes] = {(jpeg.DHT, table[0]): table for table in jpeg.HUFFMAN}
        if self._extension is not None:
            tables |= self._tables
        for number, table in enumerate(self._quantization_of(quality)):
            tables[jpeg.DQT, number] = bytes([table[0] | number]) + table[1:]
        own = b""
        frame, scan, restarts = b"", b"", self._restarts and jpeg.segment(jpeg.DRI, self._restarts)
        for marker, content, _ in jpeg.segments(self._extension or b""):
            if marker in (jpeg.DHT, jpeg.DQT):
                tables |= {(marker, number): table for number, table in jpeg.tables(marker, content)}
            elif marker in jpeg.FRAMES:
                frame = jpeg.segment(marker, content)
            elif marker == jpeg.SOS:
                scan = jpeg.segment(marker, content)
            elif marker == jpeg.DRI:
                restarts = jpeg.segment(marker, content)
            else:
                own += jpeg.segment(marker, content)
        frame = frame or self._frame_header(kind, numbers[6], numbers[7])
        if self._extension is not None:
            self._tables = tables
        written = b"".join(jpeg.segment(marker, table) for (marker, _), table in tables.items())
        return jpeg.SOI + own + written + restarts + frame + (scan or jpeg.scan_header()), frame

    def _quantization_of(self, quality: int) -> list[bytes]:
        if 0 < quality < 100:
            return [b"\0" + table for table in jpeg.quantization(quality)]
        found = self._inband or self._quantization.get(quality, [])
        if not found and self._extension is None:
            raise ValueError("its quantization tables have not come")
        return 2 * found if len(found) == 1 else found

    def _frame_header(self, kind: int, across: int, down: int) -> bytes:
        if not (across and down) and self._extension is not None and self._frame:
            return self._frame
        announced = self._announced
        if announced and all(
            eights in (0, side // 8 & 0xFF, -(-side // 8) & 0xFF)
            for side, eights in zip(announced, (across, down), strict=True)
        ):
            width, height = announced
        else:
            width, height = 8 * across, 8 * down
        if not (width and height):
            raise SourceError(
                "its JPEGs have a side above 2040 pixels, and nothing says how long it is: "
                f"choose a smaller size, or {ADVICE}",
                "format",
            )
        if kind not in TALL:
            raise SourceError(f"its JPEGs are of type {kind}, which nobody has defined: {ADVICE}", "format")
        return jpeg.frame_header(width, height, tall=TALL[kind])
