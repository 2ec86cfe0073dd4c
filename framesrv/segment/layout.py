"""The bytes of a segment. Nothing else in this project knows an offset.

A segment is the POSIX shared-memory file ``/dev/shm/{prefix}.{code}``: one header page and then `slots` slots,
each a whole number of pages. Numbers are little-endian, ``u`` unsigned and ``i`` signed, of so many bits, naturally
aligned and stored whole. ``char`` is UTF-8, NUL-padded. Times are nanoseconds, monotonic (``CLOCK_MONOTONIC``) or
Unix (``CLOCK_REALTIME``).

Header page, 4096 bytes::

    offset  type        name           what
         0  u64         magic          b"FRAMESRV"; 0 while the segment is being made: written last
         8  u32         version        1; 0 to 24 stay as they are in every later version
        12  u32         retired        not 0: this segment has ended, attach anew
        16  u32         sequence       futex word; changes after each publish and on retirement
        20  u32         newest         slot of the newest frame; 0xffffffff: none yet
        24  u32         slots          number of slots, at most 16; 0 while the geometry is unknown
        28  u32         pixel_format   1 yuv420p, 2 bgr24
        32  u32         width          pixels
        36  u32         height         pixels
        40  u64         slot_offset    of slot 0 in the file
        48  u64         slot_size      bytes from one slot to the next
        56  plane[3]    planes         of a slot; those that the pixel format does not have are 0
       128  u32         state          0 connecting, 1 live
       132  u32         pid            the writer's
       136  u64         started        Unix time the writer began
       144  u64         frames         published
       152  u64         dropped        not published, every slot being pinned
       160  u64         blocked        published over the newest frame, readers having pinned all the others
       168  u64         corrupt        frames or packets found damaged and held back
       176  u64         reconnects     times the source was lost
       184  u64         bytes          of packets received
       192  u64         decode         time spent decoding
       200  u64         activity       monotonic time of the newest packet, 0: none yet
       208  u64         interval       mean time between frames, 0: unknown
       216  u64         seq            of the newest frame ever published
       224  char[32]    decode_policy  what of the stream is decoded
       256  char[256]   error          the newest error of the source
       512  char[16]    cause          of that error, one word for programs; empty: not known
       528  u32         crashes        writers before this one that ended unasked, within a minute each
       532  u32         attempts       to reach the source, that failed since it last gave pictures
       536  u32         restarts       writers before this one that ended unasked, since one was last told to end
       544  char[16]    transport      which way packets of RTP come, as configured; empty: not known, or not RTSP
       560  u64         frozen         monotonic time since which all pictures are the same, 0: they change
       568  i64         clock_ahead    the camera's clock less the host's, 0: not known
      2048  record[16]  records        one a slot

Plane, 24 bytes::

    offset  type        name           what
         0  u64         offset         of its first byte in the slot
         8  u32         stride         bytes from one row to the next
        12  u32         rows           rows
        16  u32         used           bytes of a row that are picture
        20  u32         zero           0

Frame record, 128 bytes, the rest 0::

    offset  type        name           what
         0  u64         seq            the frame's number, from 1; 0: the slot holds no frame
         8  i64         pts            presentation time; -2**63: unknown
        16  u64         captured       Unix time of capture, see clock
        24  u64         arrived        monotonic time at which its first byte arrived
        32  u32         matrix         of YUV, as in ITU-T H.273: 1 BT.709, 6 BT.601, 9 BT.2020
        36  u32         range          1 limited, 2 full
        40  u32         key_frame      1: decoded without reference to another
        44  u32         clock          of captured: 0 arrival at this host, 1 the camera's own
        48  u32         aspect_width   width of a pixel, in units in which its height is aspect_height; 0: a square
        52  u32         aspect_height  height of a pixel; 0: a square
        56  u32         rotated        degrees that the decoder has turned the picture by, clockwise: 0, 90, 180, 270

Coordination is by open-file-description locks (fcntl(2), F_OFD_SETLK) on single bytes of the file; the kernel
drops them when their holder dies::

    byte 0       writer   exclusive, by the writer, as long as it lives
    byte 1       demand   shared, by readers that want a fresher frame than the newest
    byte 16 + i  slot i   shared, by a reader that looks (a pin); exclusive, by the writer that fills it

To read: remember `sequence`; take `newest`; pin that slot; take `newest` again, and begin anew if it has changed or
`retired` is set; a record whose seq is 0 is no frame. Slot and record are constant while the pin is held. A retired
segment of which no slot is pinned may be cut to its header page; so may one that was given up to readers that pinned
every slot, after half a minute: who touches a page that is gone gets SIGBUS. To wait: FUTEX_WAIT
(futex(2), not private) on `sequence` with the remembered value, again while it has that value. To write: lock the
slot; the record's seq = 0; FUTEX_WAKE, so that readers are awake when the copy ends; planes; record; the header's
seq; the record's seq; newest; unlock; sequence + 1; FUTEX_WAKE. The lock calls order memory on every CPU: a reader
that has pinned a slot sees all that was stored before the writer unlocked it.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from framesrv.errors import SegmentFormatError

PixelFormat = Literal["yuv420p", "bgr24"]
Matrix = Literal["bt709", "bt601", "bt2020"]
Clock = Literal["arrival", "camera"]
Rectangle = tuple[int, int, int, int]  # left, top, width, height

if TYPE_CHECKING:
    Pixels = NDArray[np.uint8]
else:
    Pixels = np.ndarray

MAGIC = int.from_bytes(b"FRAMESRV", "little")
VERSION = 1
OLDEST = 1  # that readers of this version still understand; a writer makes and adopts VERSION alone
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

Rows = tuple[tuple[str, str, int], ...]  # name, type, offset: the tables above

PLANE_ROWS: Rows = (
    ("offset", "u64", 0),
    ("stride", "u32", 8),
    ("rows", "u32", 12),
    ("used", "u32", 16),
    ("zero", "u32", 20),
)
RECORD_ROWS: Rows = (
    ("seq", "u64", 0),
    ("pts", "i64", 8),
    ("captured", "u64", 16),
    ("arrived", "u64", 24),
    ("matrix", "u32", 32),
    ("range", "u32", 36),
    ("key_frame", "u32", 40),
    ("clock", "u32", 44),
    ("aspect_width", "u32", 48),
    ("aspect_height", "u32", 52),
    ("rotated", "u32", 56),
)
HEADER_ROWS: Rows = (
    ("magic", "u64", 0),
    ("version", "u32", 8),
    ("retired", "u32", 12),
    ("sequence", "u32", 16),
    ("newest", "u32", 20),
    ("slots", "u32", 24),
    ("pixel_format", "u32", 28),
    ("width", "u32", 32),
    ("height", "u32", 36),
    ("slot_offset", "u64", 40),
    ("slot_size", "u64", 48),
    ("planes", "plane[3]", 56),
    ("state", "u32", 128),
    ("pid", "u32", 132),
    ("started", "u64", 136),
    ("frames", "u64", 144),
    ("dropped", "u64", 152),
    ("blocked", "u64", 160),
    ("corrupt", "u64", 168),
    ("reconnects", "u64", 176),
    ("bytes", "u64", 184),
    ("decode", "u64", 192),
    ("activity", "u64", 200),
    ("interval", "u64", 208),
    ("seq", "u64", 216),
    ("decode_policy", "char[32]", 224),
    ("error", "char[256]", 256),
    ("cause", "char[16]", 512),
    ("crashes", "u32", 528),
    ("attempts", "u32", 532),
    ("restarts", "u32", 536),
    ("transport", "char[16]", 544),
    ("frozen", "u64", 560),
    ("clock_ahead", "i64", 568),
    ("records", "record[16]", 2048),
)

# What a new segment of the same camera goes on with.
LASTING: tuple[str, ...] = (
    *("state", "pid", "started", "frames", "dropped", "blocked", "corrupt", "reconnects", "bytes"),
    *("decode", "activity", "interval", "seq", "decode_policy", "error", "cause", "crashes", "attempts", "restarts"),
    *("transport", "frozen", "clock_ahead"),
)

_TYPES: dict[str, tuple[str, str]] = {"u32": ("<u4", "I"), "u64": ("<u8", "Q"), "i64": ("<i8", "q")}  # numpy, struct
_ARRAY = re.compile(r"(\w+)\[(\d+)\]\Z")


def structure(rows: Rows, nbytes: int, parts: Mapping[str, np.dtype[Any]] = MappingProxyType({})) -> np.dtype[Any]:
    """The structure of a table's rows; `parts` are the structures that its types name."""

    def of(kind: str) -> Any:
        array = _ARRAY.match(kind)
        if array is None:
            return _TYPES[kind][0]
        return f"S{array[2]}" if array[1] == "char" else (parts[array[1]], int(array[2]))

    names, kinds, offsets = zip(*rows, strict=True)
    return np.dtype({"names": names, "formats": [of(kind) for kind in kinds], "offsets": offsets, "itemsize": nbytes})


PLANE = structure(PLANE_ROWS, 24)
RECORD = structure(RECORD_ROWS, 128)
HEADER = structure(HEADER_ROWS, PAGE, {"plane": PLANE, "record": RECORD})

OFFSETS = {name: offset for name, _, offset in HEADER_ROWS}
RECORD_OFFSETS = {name: offset for name, _, offset in RECORD_ROWS}
RECORD_FORMAT = struct.Struct("<" + "".join(_TYPES[kind][1] for _, kind, _ in RECORD_ROWS))
RECORD_BODY = struct.Struct("<" + "".join(_TYPES[kind][1] for _, kind, _ in RECORD_ROWS[1:]))  # what follows seq


def record_offset(slot: int) -> int:
    """Where in the segment the frame record of a slot begins."""
    return OFFSETS["records"] + slot * RECORD.itemsize


# What a camera code and a prefix of segment names may be, and the same in words.
CODE, CODE_RULE = r"[A-Za-z0-9_.\-]{1,64}", "1 to 64 of A-Z a-z 0-9 _ . -"
PREFIX, PREFIX_RULE = r"[A-Za-z0-9_\-]{1,64}", "1 to 64 of A-Z a-z 0-9 _ -"

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

    @cached_property  # a reader asks for them at every frame
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

    @cached_property
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
    for what, text, pattern, rule in (
        ("prefix", prefix, PREFIX, PREFIX_RULE),
        ("camera code", code, CODE, CODE_RULE),
    ):
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{what} {text!r}: expected {rule}")
    return f"{prefix}.{code}"


def code_of(path: str) -> str:
    """The camera of a segment's path: the inverse of `segment_name`, whose prefix has no dot."""
    return path.rpartition("/")[2].partition(".")[2]


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
        SegmentFormatError: where it is not one that this version reads, or goes past the file's end.
    """
    version = int(header["version"][0])
    if int(header["magic"][0]) != MAGIC:
        raise SegmentFormatError("not a framesrv segment: its magic number is wrong")
    if not OLDEST <= version <= VERSION:
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
