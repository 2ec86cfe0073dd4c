"""The bytes of a segment. Nothing else in this project knows an offset.

A segment is the POSIX shared-memory file ``/dev/shm/{prefix}.{code}``: one header page and then `slots` slots,
each a whole number of pages. All numbers are little-endian; a *word* is 4 bytes, a *long* 8, each naturally
aligned and stored whole. Times are nanoseconds, monotonic (``CLOCK_MONOTONIC``) or Unix (``CLOCK_REALTIME``).

Header page, 4096 bytes::

    offset  size  name           what
         0     8  magic          b"FRAMESRV"; 0 while the segment is being made: written last
         8     4  version        1; 0 to 24 stay as they are in every later version
        12     4  retired        not 0: this segment has ended, attach anew
        16     4  sequence       futex word; changes after each publish and on retirement
        20     4  newest         slot of the newest frame; 0xffffffff: none yet
        24     4  slots          number of slots, at most 16; 0 while the geometry is unknown
        28     4  pixel_format   1 yuv420p, 2 bgr24
        32     4  width          pixels
        36     4  height         pixels
        40     8  slot_offset    of slot 0 in the file
        48     8  slot_size      bytes from one slot to the next
        56    72  planes         3 of: offset in the slot (long), stride, rows, bytes used in a row, 0 (words)
       128     4  state          0 connecting, 1 live
       132     4  pid            the writer's
       136     8  started        Unix time the writer began
       144     8  frames         published
       152     8  dropped        not published, every slot being pinned
       160     8  blocked        published over the newest frame, readers having pinned all the others
       168     8  corrupt        frames or packets found damaged and held back
       176     8  reconnects     times the source was lost
       184     8  bytes          of packets received
       192     8  decode         time spent decoding
       200     8  activity       monotonic time of the newest packet, 0: none yet
       208     8  interval       mean time between frames, 0: unknown
       216     8  seq            of the newest frame ever published
       224    32  decode_policy  UTF-8, NUL-padded
       256   256  error          the newest error, UTF-8, NUL-padded
      2048  2048  records        16 frame records, one a slot

Frame record, 128 bytes::

         0     8  seq            the frame's number, from 1; 0: the slot holds no frame
         8     8  pts            presentation time, signed; -2**63: unknown
        16     8  captured       Unix time of capture, see clock
        24     8  arrived        monotonic time at which its first byte arrived
        32     4  matrix         of YUV, as in ITU-T H.273: 1 BT.709, 6 BT.601, 9 BT.2020
        36     4  range          1 limited, 2 full
        40     4  key_frame      1: decoded without reference to another
        44     4  clock          of captured: 0 arrival at this host, 1 the camera's own

Coordination is by open-file-description locks (fcntl(2), F_OFD_SETLK) on single bytes of the file; the kernel
drops them when their holder dies::

    byte 0       writer   exclusive, by the writer, as long as it lives
    byte 1       demand   shared, by readers that want a fresher frame than the newest
    byte 16 + i  slot i   shared, by a reader that looks (a pin); exclusive, by the writer that fills it

To read: remember `sequence`; take `newest`; pin that slot; take `newest` again, and begin anew if it has changed;
a record whose seq is 0 is no frame. Slot and record are constant while the pin is held. To wait: FUTEX_WAIT
(futex(2), not private) on `sequence` with the remembered value. To write: lock the slot; the record's seq = 0;
planes; record; the header's seq; the record's seq; newest; unlock; sequence + 1; FUTEX_WAKE. The lock calls order
memory on every CPU: a reader that has pinned a slot sees all that was stored before the writer unlocked it.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from framesrv.errors import SegmentFormatError

PixelFormat = Literal["yuv420p", "bgr24"]
Matrix = Literal["bt709", "bt601", "bt2020"]
Clock = Literal["arrival", "camera"]

MAGIC = int.from_bytes(b"FRAMESRV", "little")
VERSION = 1
PAGE = 4096
MAX_SLOTS = 16
MAX_SIDE = 16384
NO_SLOT = 0xFFFFFFFF
NO_PTS = -(2**63)

CONNECTING, LIVE = 0, 1

WRITER_BYTE = 0
DEMAND_BYTE = 1
SLOT_BYTE = 16

PIXEL_FORMATS: dict[int, PixelFormat] = {1: "yuv420p", 2: "bgr24"}
MATRICES: dict[int, Matrix] = {1: "bt709", 6: "bt601", 9: "bt2020"}
CLOCKS: tuple[Clock, ...] = get_args(Clock)

PLANE = np.dtype([("offset", "<u8"), ("stride", "<u4"), ("rows", "<u4"), ("used", "<u4"), ("zero", "<u4")])

HEADER = np.dtype(
    {
        "names": [
            *(
                "magic",
                "version",
                "retired",
                "sequence",
                "newest",
                "slots",
                "pixel_format",
                "width",
                "height",
            ),
            *(
                "slot_offset",
                "slot_size",
                "planes",
                "state",
                "pid",
                "started",
                "frames",
                "dropped",
                "blocked",
            ),
            *(
                "corrupt",
                "reconnects",
                "bytes",
                "decode",
                "activity",
                "interval",
                "seq",
                "decode_policy",
                "error",
            ),
        ],
        "formats": [
            *("<u8", "<u4", "<u4", "<u4", "<u4", "<u4", "<u4", "<u4", "<u4"),
            *("<u8", "<u8", (PLANE, 3), "<u4", "<u4", "<u8", "<u8", "<u8", "<u8"),
            *("<u8", "<u8", "<u8", "<u8", "<u8", "<u8", "<u8", "S32", "S256"),
        ],
        "offsets": [
            *(0, 8, 12, 16, 20, 24, 28, 32, 36),
            *(40, 48, 56, 128, 132, 136, 144, 152, 160),
            *(168, 176, 184, 192, 200, 208, 216, 224, 256),
        ],
        "itemsize": PAGE,
    }
)

RECORDS_OFFSET = 2048
RECORD_SIZE = 128
RECORD = "<qQQIIII"  # of what follows seq
RECORD_BODY = 8
RECORD_ARRIVED = 24

SEQUENCE_OFFSET = HEADER.fields["sequence"][1] if HEADER.fields else 0
NEWEST_OFFSET = HEADER.fields["newest"][1] if HEADER.fields else 0
RETIRED_OFFSET = HEADER.fields["retired"][1] if HEADER.fields else 0

_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}\Z")
_ALIGNMENT = 64  # of strides: SIMD converters run at full speed, U and V (half of it) stay aligned to 32


@dataclass(frozen=True)
class Plane:
    """Where a plane lies in its slot: bytes, and rows of `stride` bytes of which `used` are picture."""

    offset: int
    stride: int
    rows: int
    used: int


@dataclass(frozen=True)
class Geometry:
    """The size and form of a segment's frames; `slots` 0 where it is not known yet."""

    width: int
    height: int
    pixel_format: PixelFormat
    slots: int

    def __post_init__(self) -> None:
        if self.pixel_format not in get_args(PixelFormat):
            raise ValueError(f"pixel format {self.pixel_format!r}: expected yuv420p or bgr24")
        if self.slots and not (2 <= self.slots <= MAX_SLOTS):
            raise ValueError(f"{self.slots} slots: expected 2 to {MAX_SLOTS}")
        least = 1 if self.slots else 0
        if not (least <= self.width <= MAX_SIDE and least <= self.height <= MAX_SIDE):
            raise ValueError(f"{self.width}x{self.height} pixels: expected {least} to {MAX_SIDE} each way")

    @property
    def planes(self) -> tuple[Plane, ...]:
        """The planes of a slot, in order.

        U begins at a multiple of four rows of Y, so that PyAV can take the whole slot as one array.
        """
        if self.pixel_format == "bgr24":
            return (Plane(0, _up(self.width * 3, _ALIGNMENT), self.height, self.width * 3),)
        stride = _up(self.width, 2 * _ALIGNMENT)
        tall = _up(self.height, 4)
        columns, rows = (self.width + 1) // 2, (self.height + 1) // 2
        return (
            Plane(0, stride, self.height, self.width),
            Plane(stride * tall, stride // 2, rows, columns),
            Plane(stride * tall + stride // 2 * (tall // 2), stride // 2, rows, columns),
        )

    @property
    def slot_size(self) -> int:
        """Bytes, a whole number of pages."""
        planes = self.planes
        last = planes[-1]
        tall = _up(self.height, 4) // (1 if len(planes) == 1 else 2)
        return _up(last.offset + last.stride * tall, PAGE)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole segment."""
        return PAGE + self.slots * self.slot_size


UNKNOWN = Geometry(0, 0, "yuv420p", 0)


def segment_name(prefix: str, code: str) -> str:
    """The segment's file name.

    Raises:
        ValueError: where the prefix or the code is none.
    """
    for what, text in (("prefix", prefix), ("camera code", code)):
        if not _NAME.match(text):
            raise ValueError(f"{what} {text!r}: expected 1 to 64 of A-Z a-z 0-9 _ . -")
    return f"{prefix}.{code}"


def describe(header: np.ndarray, geometry: Geometry) -> None:
    """Writes `geometry` into the header (an array of one `HEADER`)."""
    header["slots"] = geometry.slots
    header["pixel_format"] = next(n for n, name in PIXEL_FORMATS.items() if name == geometry.pixel_format)
    header["width"], header["height"] = geometry.width, geometry.height
    header["slot_offset"], header["slot_size"] = PAGE, geometry.slot_size
    for index, plane in enumerate(geometry.planes):
        header["planes"][0, index] = (plane.offset, plane.stride, plane.rows, plane.used, 0)


def geometry_of(header: np.ndarray, nbytes: int) -> Geometry:
    """The geometry that a header of a file of `nbytes` bytes tells.

    Raises:
        SegmentFormatError: where it is not one that this version writes, or goes past the file's end.
    """
    version = int(header["version"][0])
    if int(header["magic"][0]) != MAGIC:
        raise SegmentFormatError("not a framesrv segment: its magic number is wrong")
    if version != VERSION:
        raise SegmentFormatError(
            f"its layout is version {version}, this framesrv reads version {VERSION}: "
            "run the same version of framesrv on both sides"
        )
    number = int(header["pixel_format"][0])
    if number not in PIXEL_FORMATS:
        raise SegmentFormatError(f"damaged: pixel format {number}")
    try:
        geometry = Geometry(
            int(header["width"][0]), int(header["height"][0]), PIXEL_FORMATS[number], int(header["slots"][0])
        )
    except ValueError as error:
        raise SegmentFormatError(f"damaged: {error}") from None
    expected = np.zeros(1, HEADER)
    describe(expected, geometry)
    for field in ("slot_offset", "slot_size", "planes"):
        if not np.array_equal(expected[field], header[field]):
            raise SegmentFormatError(f"damaged: {field} is not that of {geometry.width}x{geometry.height}")
    if nbytes < geometry.nbytes:
        raise SegmentFormatError(f"damaged: {nbytes} bytes long, {geometry.nbytes} expected")
    return geometry


def _up(number: int, step: int) -> int:
    return -(-number // step) * step
