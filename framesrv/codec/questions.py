"""The questions to the H.265 decoder, see `codec.h265`, put into the pictures of one stream."""

import time
from typing import Any

import av

from framesrv.codec import h265
from framesrv.codec.arrival import Packet
from framesrv.codec.bits import Bits
from framesrv.codec.damage import Damage
from framesrv.codec.h265 import START
from framesrv.codec.h265_sets import (
    FIRST_KEY,
    LAST_KEY,
    LAST_SLICE,
    PPS,
    SPS,
    PictureSet,
    SequenceSet,
    picture_set,
    sequence_set,
)
from framesrv.codec.ticks import Tick
from framesrv.codec.trial import CodedPicture, Trial
from framesrv.process import heap

HURRIED = 200_000_000  # ns after its arrival from which a picture is not tried: of a backlog, or on a busy host
BEGINNING, DOUBTED = 25, 1500  # pictures that are tried: at first, and after damage, a second and a minute at 25/s
KEYS = 2  # of these that are tried at first where nothing else is decoded: they are large, and come seldom


class Questions:
    """Puts them between the slices, and learns the parameter sets that they need.

    Pictures are tried besides, at first, and for a while after damage that no sequence number told of: such damage
    comes seldom alone.

    Args:
        trial: of pictures; None: none is tried.
        doubted: so many pictures are tried at first.
        keys: key pictures are tried all the time.
    """

    def __init__(self, trial: Trial | None = None, *, doubted: int = BEGINNING, keys: bool = False) -> None:
        self._trial = trial
        self._doubted, self._keys = doubted, keys
        self._parameters: dict[tuple[int, int], bytes] = {}  # by their kind and number
        self._sequences: dict[int, SequenceSet] = {}
        self._pictures: dict[int, PictureSet] = {}
        self._tick: Tick | None = None  # of the stream; a packet makes it anew each time

    def asked(self, packet: Packet, damage: Damage, arrived: int) -> tuple[Packet, int, bool]:
        """The packet with the questions, and how many they are.

        Args:
            packet: whole, NAL units each with a start code of four bytes.
            damage: that listens.
            arrived: monotonic nanoseconds; where it is long ago there is no time to try what is doubted.

        Returns:
            Also whether it may be decoded: a slice has a header that can be read, the picture passes its trial.
        """
        before, slices, after = self._parts(packet)
        sets = self._sets_of(slices[0]) if slices else None
        if sets is None:
            return packet, 0, True
        try:
            asking, count = h265.asking(slices, sets)
        except ValueError:
            return packet, 0, False
        key = packet.is_keyframe
        if (self._doubted or (self._keys and key)) and not self._passes(slices, sets, damage, arrived, key=key):
            return packet, 0, False
        if before or after:
            asking = b"".join([*(START + nal for nal in before), asking, *(START + nal for nal in after)])
        changed: Any = av.Packet(asking)
        if (key or self._tick is None) and packet.time_base is not None:
            self._tick = Tick.of(packet.time_base)
        changed.pts, changed.dts, changed.is_keyframe = packet.pts, packet.dts, key
        if self._tick is not None:
            changed.time_base = self._tick
        return changed, count, True

    def rest(self) -> None:
        """No picture comes for a while: gives the memory of the trial back."""
        if self._trial:
            self._trial.rest()

    def damaged(self) -> None:
        """Something of the stream was, and no sequence number has told of it."""
        self._doubted = DOUBTED

    def _passes(self, slices: list[bytes], sets: h265.Sets, damage: Damage, arrived: int, *, key: bool) -> bool:
        """Whether the picture passes its trial, or has none."""
        if self._trial is None:
            return True
        hurried = time.monotonic_ns() - arrived > HURRIED
        doubted = self._doubted > 0
        self._doubted -= doubted
        passes = True
        if (doubted and not hurried) or (self._keys and key):
            parameters = b"".join(START + self._parameters[name] for name in sorted(self._parameters))
            try:
                passes = self._trial.passes(CodedPicture(parameters, slices, sets), damage)
            except ValueError:
                passes = False
        if doubted and not self._doubted:
            self._trial.rest()
            heap.give_back()
        return passes

    def _parts(self, packet: Packet) -> tuple[list[bytes], list[bytes], list[bytes]]:
        """Its slices, and what stands before the last of them, and after it; takes note of parameter sets."""
        before: list[bytes] = []
        slices: list[bytes] = []
        after: list[bytes] = []
        for nal in bytes(packet).split(START):
            if not nal:
                continue
            kind = nal[0] >> 1 & 63
            if kind > LAST_SLICE:
                if kind <= PPS:
                    self._learn(kind, nal)
                after.append(nal)
                continue
            slices.append(nal)
            if after:
                before += [_allowing(one) if one[0] >> 1 & 63 == PPS else one for one in after]
                after.clear()
        return before, slices, after

    def _sets_of(self, nal: bytes) -> h265.Sets | None:
        """The sets of a picture, by its first slice; None if they are not known, or there is nothing to ask."""
        flags = 1 + (FIRST_KEY <= nal[0] >> 1 & 63 <= LAST_KEY)
        if len(nal) > 2 and nal[2] & 0x80 >> flags:  # number 0, of nearly all
            pictures = self._pictures.get(0)
        else:
            bits = Bits(nal[2:16])
            try:
                bits.take(flags)
                pictures = self._pictures.get(bits.number())
            except ValueError:
                return None
        sequence = self._sequences.get(pictures.sequence) if pictures else None
        if pictures is None or sequence is None or sequence.blocks < 2:
            return None
        return h265.Sets(sequence, pictures)

    def _learn(self, kind: int, nal: bytes) -> None:
        """Takes note of a parameter set; one that cannot be read is left to the decoder to refuse."""
        try:
            if kind == SPS:
                number, sequence = sequence_set(nal)
                self._sequences[number] = sequence
            elif kind == PPS:
                number, pictures = picture_set(nal)
                self._pictures[number] = pictures
                nal = h265.allowing(nal, pictures)
            else:
                number = nal[2] >> 4
        except (ValueError, IndexError):
            return
        self._parameters[kind, number] = nal


def _allowing(nal: bytes) -> bytes:
    try:
        return h265.allowing(nal, picture_set(nal)[1])
    except ValueError:
        return nal
