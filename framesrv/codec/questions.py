"""The questions to the H.265 decoder, see `codec.h265`, put into the pictures of one stream."""

from typing import cast

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
from framesrv.codec.trial import KeyPicture, Trial


class Questions:
    """Puts them between the slices, and learns the parameter sets that they need.

    Args:
        trial: of key pictures; None: they are not tried.
    """

    def __init__(self, trial: Trial | None = None) -> None:
        self._trial = trial
        self._sequences: dict[int, SequenceSet] = {}
        self._pictures: dict[int, PictureSet] = {}

    def asked(self, packet: Packet, damage: Damage) -> tuple[Packet, int, bool]:
        """The packet with the questions, and how many they are.

        Args:
            packet: whole, NAL units each with a start code of four bytes.
            damage: that listens.

        Returns:
            Also whether it may be decoded: a slice has a header that can be read, a key picture passes its trial.
        """
        nals = [(nal[0] >> 1 & 63, nal) for nal in bytes(packet).split(START) if nal]
        for kind, nal in nals:
            if kind in (SPS, PPS):
                self._learn(kind, nal)
        sets = self._sets_of(nals)
        if sets is None:
            return packet, 0, True
        slices = [nal for kind, nal in nals if kind <= LAST_SLICE]
        try:
            asking, count = h265.asking(slices, sets)
        except ValueError:
            return packet, 0, False
        last = max(number for number, (kind, _) in enumerate(nals) if kind <= LAST_SLICE)
        before = [_allowing(nal) if kind == PPS else nal for kind, nal in nals[:last] if kind > LAST_SLICE]
        front = b"".join(START + nal for nal in before)
        after = b"".join(START + nal for _, nal in nals[last + 1 :])
        trial = self._trial if packet.is_keyframe else None
        if trial and not trial.passes(KeyPicture(front, slices, sets), damage):
            return packet, 0, False
        changed = cast(Packet, av.Packet(front + asking + after))
        changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
        changed.is_keyframe = packet.is_keyframe
        return changed, count, True

    def _sets_of(self, nals: list[tuple[int, bytes]]) -> h265.Sets | None:
        """The sets of a picture; None if they are not known, or there is nothing to ask."""
        kind, nal = next((one for one in nals if one[0] <= LAST_SLICE), (0, b""))
        bits = Bits(nal[2:16])
        try:
            bits.take(1 + (FIRST_KEY <= kind <= LAST_KEY))
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
            else:
                number, pictures = picture_set(nal)
                self._pictures[number] = pictures
        except ValueError:
            return


def _allowing(nal: bytes) -> bytes:
    try:
        return h265.allowing(nal, picture_set(nal)[1])
    except ValueError:
        return nal
