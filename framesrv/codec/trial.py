"""Whether a picture of H.265 needs all of its data.

A decoder that has lost its way in the middle may still come to the end of the picture, and then nothing is missing:
see `codec.h265`. But it comes there before its data ends. So the picture is decoded three times besides: as it came,
with other bytes behind each slice, and with the last bytes of each slice changed. What is behind a sound slice makes
no difference, neither in what is shown nor in what the decoder says; its last bytes do, or the decoder never came to
them.

Where rows of blocks are coded apart (wavefront), a decoder finds its way again at the next row, and by chance comes
to the end as it should. But the headers of slices tell where each row begins: decoded from there, by a decoder with
two threads, a sound picture is the same.

What the picture refers to is not needed for that: which bits belong to what does not depend on it, and in the place
of pictures that are not there the decoder puts grey ones. Without the loop filters that costs about two pictures.
"""

from dataclasses import dataclass

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from framesrv.codec import h265
from framesrv.codec.damage import REFUSED, Damage
from framesrv.codec.h265_sets import SequenceSet, slice_address
from framesrv.segment.layout import Pixels

CHANGES = (0x5A, 0xA7, 0x33, 0x6C, 0xD1, 0x1E, 0x95, 0x4B)  # of the bits of each byte, one after the other
LAST = 4  # bytes that are changed
HEADER = 64  # bytes that stay as they are: a slice of fewer, and these, cannot be tried
OTHER_TAIL = bytes.fromhex("35c3") * (len(h265.TAIL) // 2)  # no decoder takes it for what `h265.TAIL` means
OPTIONS = {"skip_loop_filter": "all", "flags": "+output_corrupt", "flags2": "+showall", "err_detect": "ignore_err"}
UNHEARD = {"log_level_offset": "100"}  # what other threads than ours say would not come to `Damage`
ABSENT = "Could not find ref with POC"
_WORDS = b"\0\0\3"  # may follow a slice any number of times (cabac_zero_words, ITU-T H.265, 7.3.2.10)


@dataclass(frozen=True)
class CodedPicture:
    """A picture: its parameter sets, as a byte stream, its slices, and what is known of those sets."""

    parameters: bytes
    slices: list[bytes]
    sets: h265.Sets


@dataclass(frozen=True)
class _Decoded:
    """What came of a picture: the bytes of its planes, none where it was refused, and what was said of each slice."""

    planes: list[Pixels]
    said: list[list[str]]


class Trial:
    """Tries pictures of one stream.

    Args:
        options: of the codec.
    """

    def __init__(self, options: dict[str, str]) -> None:
        self._options = options | OPTIONS
        self._codecs: dict[int, VideoCodecContext] = {}  # by their number of threads
        self._filling = 0

    def rest(self) -> None:
        """Lets its codecs go: no picture is tried for a while."""
        self._codecs.clear()

    def passes(self, picture: CodedPicture, damage: Damage) -> bool:
        """Whether each slice needs its last bytes, and nothing behind them.

        Args:
            picture: as the camera sent it.
            damage: that listens; what was said before is forgotten.

        Raises:
            ValueError: the header of a slice cannot be read.
        """
        sought = {number for number, nal in enumerate(picture.slices) if len(_stripped(nal)) > HEADER + LAST}
        if not sought:
            return True
        as_it_came = self._decoded(picture, picture.slices, damage)
        if not as_it_came.planes:
            return True  # of that the decoder tells
        otherwise = self._decoded(picture, picture.slices, damage, OTHER_TAIL)
        if _different(picture, as_it_came, otherwise):
            return False
        if picture.sets.pictures.wavefront:
            by_rows = self._decoded(picture, picture.slices, damage, threads=2)
            if not _same(as_it_came.planes, by_rows.planes):
                return False
        for change in CHANGES:
            changed = self._decoded(picture, [_changed(nal, change) for nal in picture.slices], damage)
            sought -= _different(picture, as_it_came, changed)
            if not sought:
                return True
        return False

    def _decoded(
        self,
        picture: CodedPicture,
        slices: list[bytes],
        damage: Damage,
        tail: bytes = h265.TAIL,
        threads: int = 1,
    ) -> _Decoded:
        stream, _ = h265.asking(slices, picture.sets, tail)
        if threads not in self._codecs:
            self._codecs[threads] = self._fresh(threads)
        codec = self._codecs[threads]
        codec.flush_buffers()
        damage.noticed("")
        frames: list[av.VideoFrame] = []
        try:
            frames += codec.decode(av.Packet(picture.parameters + stream))
            frames += codec.decode(None)
        except (av.error.FFmpegError, OSError, ValueError):
            frames = []
        said: list[list[str]] = [[]]
        for message in damage.said:
            if message.startswith(REFUSED):  # the question behind a slice
                said.append([])
            elif not message.startswith(ABSENT):
                said[-1].append(message)
        damage.noticed("")
        return _Decoded(self._taken(frames[0]) if frames else [], said)

    def _fresh(self, threads: int) -> VideoCodecContext:
        codec = av.CodecContext.create("hevc", "r")
        codec.thread_count = threads
        codec.thread_type = "SLICE"
        codec.options = self._options | (UNHEARD if threads > 1 else {})
        return codec

    def _taken(self, frame: av.VideoFrame) -> list[Pixels]:
        """A copy of the bytes of its planes.

        The decoder uses the memory again as it is, so that what was not decoded shows it: it is another each time.
        """
        planes = _planes(frame)
        copies = [plane.copy() for plane in planes]
        self._filling ^= 0xFF
        for plane in planes:
            plane[:] = self._filling
        return copies


def _different(picture: CodedPicture, one: _Decoded, other: _Decoded) -> set[int]:
    """The numbers of the slices that are shown in another way, or of which the decoder says something else."""
    numbers = set(range(len(picture.slices)))
    if [plane.shape for plane in one.planes] != [plane.shape for plane in other.planes]:
        return numbers
    sets = picture.sets
    blocks = _blocks(one.planes, other.planes, sets.sequence)
    starts = [0, *(slice_address(nal, sets.pictures, sets.sequence) for nal in picture.slices[1:]), len(blocks)]
    shown = {number for number in numbers if blocks[starts[number] : starts[number + 1]].any()}
    if len(one.said) != len(other.said):
        return numbers
    return shown | {
        number for number in numbers & set(range(len(one.said))) if one.said[number] != other.said[number]
    }


def _same(one: list[Pixels], other: list[Pixels]) -> bool:
    return len(one) == len(other) and all(
        np.array_equal(ours, theirs) for ours, theirs in zip(one, other, strict=True)
    )


def _planes(frame: av.VideoFrame) -> list[Pixels]:
    """The bytes of its planes, without what lies behind their rows."""
    found = []
    for plane, component in zip(frame.planes, frame.format.components, strict=False):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        found.append(rows[: plane.height, : plane.width * ((component.bits + 7) // 8)])
    return found


def _blocks(one: list[Pixels], other: list[Pixels], sequence: SequenceSet) -> NDArray[np.bool_]:
    """Of each coding tree block, row by row, whether a byte of it differs."""
    width, height = sequence.size
    shape = (-(-height // sequence.block), -(-width // sequence.block))
    found = np.zeros(shape, np.bool_)
    for ours, theirs in zip(one, other, strict=True):
        differ = ours != theirs
        for axis in (0, 1):
            side = max(1, round(differ.shape[axis] * sequence.block / (height, width)[axis]))
            differ = np.logical_or.reduceat(differ, range(0, differ.shape[axis], side), axis=axis)
        rows, columns = (min(both) for both in zip(shape, differ.shape, strict=True))
        found[:rows, :columns] |= differ[:rows, :columns]
    return found.reshape(-1)


def _stripped(nal: bytes) -> bytes:
    """A slice without what may follow it."""
    while nal.endswith(_WORDS):
        nal = nal[: -len(_WORDS)]
    return nal.rstrip(b"\0")


def _changed(nal: bytes, change: int) -> bytes:
    """A slice with other bytes at its end, none of them a zero, which might begin a start code."""
    nal = _stripped(nal)
    if len(nal) <= HEADER + LAST:
        return nal
    return nal[:-LAST] + bytes(byte ^ change or change for byte in nal[-LAST:])
