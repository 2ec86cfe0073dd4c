"""The bytes of a history: the packets of a camera's last seconds, as they came, in a ring.

A history is the POSIX shared-memory file ``/dev/shm/{prefix}+history.{code}``; no segment has such a name. It is one
header page, a ring of records, one a packet, and a ring of their data. Numbers, times and ``char`` are as those of a
segment, see `framesrv.segment.layout`.

Header page, 4096 bytes::

    offset  type        name           what
         0  u64         magic          b"FRAMEHIS"; 0 while the history is being made: written last
         8  u32         version        1; 0 to 24 are as in a segment, and stay as they are in every later version
        12  u32         retired        not 0: this history has ended, attach anew
        16  u32         sequence       futex word; changes after each packet and on retirement
        20  u32         pid            the writer's
        24  u64         seconds        time that is to be kept
        32  u64         record_offset  of record 0 in the file
        40  u64         records        number of records in the ring
        48  u64         data_offset    of the data's first byte in the file
        56  u64         data_size      bytes of the ring of data
        64  u64         started        Unix time the writer began
        72  u64         first          number of the oldest packet kept, a key frame; as next where none is kept
        80  u64         next           number of the next packet
        88  u64         cut_off        packets that were not kept, their group being longer than the ring

Record, 96 bytes, the rest 0; that of packet n is record n modulo `records`::

    offset  type        name           what
         0  u64         number         the packet's, from 1
         8  i64         pts            presentation time in the stream's time base; -2**63: unknown
        16  i64         dts            decoding time; likewise
        24  u64         captured       Unix time of capture, see clock
        32  u64         arrived        Unix time at which its first byte arrived
        40  u64         monotonic      the same, monotonic
        48  u64         position       of its data, counted on from the first byte ever: modulo data_size in the ring
        56  u32         group          bytes of the description before the packet's; 0 but for key frames
        60  u32         size           bytes of the packet
        64  u32         stream         the number of the stream, which is another each time that it is opened
        68  u32         key            1: decoding may begin with it
        72  u32         lacking        1: something of it is missing; 2: something that it may refer to; 3: both
        76  u32         clock          of captured: 0 arrival at this host, 1 the camera's own

Description, 64 bytes and the extradata; it stands before the data of each key frame, and holds up to the next::

    offset  type        name           what
         0  char[16]    codec          FFmpeg's name of it
        16  u32         base_num       time base of pts and dts: seconds a tick, numerator
        20  u32         base_den       denominator
        24  u32         width          of the coded picture, pixels; 0: not known
        28  u32         height         pixels
        32  u32         aspect_width   width of a pixel, where its height is aspect_height; 0: as the codec says
        36  u32         aspect_height  height of a pixel
        40  u32         pixel_format   in which frames are wanted, as in a segment
        44  u32         deinterlace    1: where pictures are interlaced
        48  u32         shown_width    width of the picture as it is to be shown, in units of shown_height; 0: as is
        52  u32         shown_height   its height
        56  u32         rotate         degrees clockwise by which it is to be turned; 0xffffffff: as the stream says
        60  u32         extradata      bytes of the codec's extradata, which follow

Without extradata H.264 and H.265 are byte streams (annex B), each NAL unit after 0 0 0 1, and key frames carry their
parameter sets. A packet's data lies in one piece: one that would go past the ring's end lies at its beginning.

Coordination is by open-file-description locks as in a segment::

    byte 0       writer   exclusive, by the writer, as long as it lives
    byte 1       look     shared, by a reader, for an instant: only to order memory
    byte 2       wait     shared, by readers that wait for packets

To write: where there is no room, `first` becomes the number of a later key frame; lock call; data; record; lock call;
`next` becomes the packet's number + 1; sequence + 1; where byte 2 is locked, FUTEX_WAKE. The writer waits for nobody.
To read: take `next`; lock and unlock byte 1; take `first`; copy records and data of packets from `first` to below
`next`; lock and unlock byte 1; take `first` again: what is below it may be torn, and is thrown away. The lock calls
take the same lock of the kernel's on both sides, which orders memory on every CPU: a reader whose second one came
before the writer's has copied before anything was written over, any other sees the new `first`. So does a reader
that sees `next` see the packet. Where stores are seen in the order in which they are made, as those of x86 are, the
writer needs no lock calls for that. To wait: lock byte 2 as long as that lasts; remember `sequence`; read; FUTEX_WAIT
(not private) on `sequence` with the remembered value.
"""

import struct
from dataclasses import dataclass

import numpy as np

from framesrv.errors import SegmentFormatError
from framesrv.segment.layout import PAGE, Rows, segment_name, structure

MAGIC = int.from_bytes(b"FRAMEHIS", "little")
VERSION = 1
OLDEST = 1  # that readers of this version still understand; a writer makes and adopts VERSION alone
MARK = "+history"  # ends what stands in the place of the prefix, which has no such character
NO_TIME = -(2**63)
AS_TOLD = 0xFFFFFFFF

WRITER_BYTE = 0
LOOK_BYTE = 1
WAIT_BYTE = 2

DAMAGED, LOST = 1, 2  # bits of `lacking`

RATE = 64  # records a second of what is to be kept: more than packets come
SLACK = 16.0  # s more: groups are kept whole
LEAST = 256 * 1024  # bytes of a history
MOST = 2**29
LONGEST = 300.0  # s; that of 8 Mb/s fit into what the unit of a decoder may take

HEADER_ROWS: Rows = (
    ("magic", "u64", 0),
    ("version", "u32", 8),
    ("retired", "u32", 12),
    ("sequence", "u32", 16),
    ("pid", "u32", 20),
    ("seconds", "u64", 24),
    ("record_offset", "u64", 32),
    ("records", "u64", 40),
    ("data_offset", "u64", 48),
    ("data_size", "u64", 56),
    ("started", "u64", 64),
    ("first", "u64", 72),
    ("next", "u64", 80),
    ("cut_off", "u64", 88),
)
RECORD_ROWS: Rows = (
    ("number", "u64", 0),
    ("pts", "i64", 8),
    ("dts", "i64", 16),
    ("captured", "u64", 24),
    ("arrived", "u64", 32),
    ("monotonic", "u64", 40),
    ("position", "u64", 48),
    ("group", "u32", 56),
    ("size", "u32", 60),
    ("stream", "u32", 64),
    ("key", "u32", 68),
    ("lacking", "u32", 72),
    ("clock", "u32", 76),
)
DESCRIPTION_ROWS: Rows = (
    ("codec", "char[16]", 0),
    ("base_num", "u32", 16),
    ("base_den", "u32", 20),
    ("width", "u32", 24),
    ("height", "u32", 28),
    ("aspect_width", "u32", 32),
    ("aspect_height", "u32", 36),
    ("pixel_format", "u32", 40),
    ("deinterlace", "u32", 44),
    ("shown_width", "u32", 48),
    ("shown_height", "u32", 52),
    ("rotate", "u32", 56),
    ("extradata", "u32", 60),
)

HEADER = structure(HEADER_ROWS, PAGE)
RECORD = structure(RECORD_ROWS, 96)
DESCRIPTION = structure(DESCRIPTION_ROWS, 64)

OFFSETS = {name: offset for name, _, offset in HEADER_ROWS}
RECORD_FORMAT = struct.Struct("<Qqq4Q6I")
DESCRIPTION_FORMAT = struct.Struct("<16s12I")


@dataclass(frozen=True)
class Extent:
    """How much a history holds.

    Attributes:
        seconds: that are to be kept.
        records: packets at most.
        data_size: bytes of their data at most.
    """

    seconds: float
    records: int
    data_size: int

    @classmethod
    def of(cls, seconds: float, nbytes: int) -> "Extent":
        """That of a history of so many seconds in a file of at most so many bytes.

        Raises:
            ValueError: either is out of its range.
        """
        if not (0 < seconds <= LONGEST and LEAST <= nbytes <= MOST):
            raise ValueError(
                f"a history of {seconds} s in {nbytes} bytes: expected up to {LONGEST:g} s, {LEAST} to {MOST} bytes"
            )
        room = nbytes - PAGE
        records = min(int((seconds + SLACK) * RATE), room // 8 // RECORD.itemsize)
        return cls(seconds, records, room - _pages(records * RECORD.itemsize))

    @property
    def data_offset(self) -> int:
        """Of the data's first byte in the file."""
        return PAGE + _pages(self.records * RECORD.itemsize)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole file."""
        return self.data_offset + self.data_size


def usual_bytes(seconds: float) -> int:
    """Bytes for so many seconds of 8 Mb/s, and four more as groups are kept whole."""
    return int((seconds + 4) * 1_000_000)


def history_name(prefix: str, code: str) -> str:
    """The history's file name; raises ValueError where the prefix or the code is none."""
    segment_name(prefix, code)
    return f"{prefix}{MARK}.{code}"


def describe(header: np.ndarray, extent: Extent) -> None:
    """Writes `extent` into the header (an array of one `HEADER`)."""
    header["seconds"] = int(extent.seconds * 1e9)
    header["record_offset"], header["records"] = PAGE, extent.records
    header["data_offset"], header["data_size"] = extent.data_offset, extent.data_size


def extent_of(header: np.ndarray, nbytes: int) -> Extent:
    """The extent that a header of a file of `nbytes` bytes tells.

    Raises:
        SegmentFormatError: where it is not one that this version reads, or goes past the file's end.
    """
    version = int(header["version"][0])
    if int(header["magic"][0]) != MAGIC:
        raise SegmentFormatError("not a history of framesrv: its magic number is wrong")
    if not OLDEST <= version <= VERSION:
        raise SegmentFormatError(
            f"its layout is version {version}, this framesrv reads version {VERSION}: "
            "run the same version of framesrv on both sides"
        )
    extent = Extent(int(header["seconds"][0]) / 1e9, int(header["records"][0]), int(header["data_size"][0]))
    if not (0 < extent.records <= MOST and 0 < extent.data_size <= MOST):
        raise SegmentFormatError(f"damaged: {extent.records} records, {extent.data_size} bytes of data")
    expected = np.zeros(1, HEADER)
    describe(expected, extent)
    for field in ("record_offset", "data_offset"):
        if expected[field][0] != header[field][0]:
            raise SegmentFormatError(f"damaged: its {field} is {int(header[field][0])}")
    if nbytes < extent.nbytes:
        raise SegmentFormatError(f"damaged: {nbytes} bytes long, {extent.nbytes} expected")
    return extent


def _pages(nbytes: int) -> int:
    return -(-nbytes // PAGE) * PAGE
