"""Whether a key picture of H.265 needs all of its data.

A decoder that has lost its way in the middle may still come to the end of the picture, and then nothing is missing:
see `codec.h265`. But it comes there before, or after, its data ends. So a key picture, which needs no other, is
decoded once more without its last bytes: one that is sound then lacks its end, and the decoder says so. One whose
last bytes make no difference had lost its way. Without the loop filters that costs a fraction of a picture, once a
group.
"""

import logging
from dataclasses import dataclass

import av

from framesrv.codec import h265
from framesrv.codec.damage import Damage

BLOCKS = 4  # coding tree blocks, as large as they are on average, that are left out of a picture at first
WIDER, WIDEST = 4, 0.25  # times as much after `HABIT`; and the share of the data that is left out at most
HABIT = 2  # key pictures in a row that end too soon: it may be that the camera's last corner takes much of the data
LEAST = 64  # bytes that are left out

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class KeyPicture:
    """A key picture: what goes before its slices, as a byte stream, its slices and their parameter sets."""

    before: bytes
    slices: list[bytes]
    sets: h265.Sets


class Trial:
    """Tries key pictures of one stream.

    Args:
        options: of the codec.
    """

    def __init__(self, options: dict[str, str]) -> None:
        self._options = options | {"skip_loop_filter": "all"}
        self._blocks = BLOCKS
        self._in_a_row = 0

    def passes(self, picture: KeyPicture, damage: Damage) -> bool:
        """Whether the picture needs its last bytes.

        Args:
            picture: as the camera sent it.
            damage: that listens; what was said before is forgotten.
        """
        share = self._blocks / picture.sets.sequence.blocks * len(picture.slices)
        if share > WIDEST:
            return True
        cut = [nal[: -max(LEAST, int(len(nal) * share))] for nal in picture.slices]
        try:
            stream, asked = h265.asking(cut, picture.sets)
        except ValueError:
            return False
        codec = av.CodecContext.create("hevc", "r")
        codec.thread_count = 1
        codec.options = self._options
        damage.noticed("hevc")
        try:
            codec.decode(av.Packet(picture.before + stream))
        except (av.error.FFmpegError, OSError, ValueError):
            return True
        if damage.noticed("hevc", asked=asked):
            self._in_a_row = 0
            return True
        self._in_a_row += 1
        if self._in_a_row < HABIT:
            return False
        self._in_a_row = 0
        self._blocks *= WIDER
        logger.info(
            "The last corner of key pictures takes much of their data: %.1f %% are tried", 100 * WIDER * share
        )
        return True
