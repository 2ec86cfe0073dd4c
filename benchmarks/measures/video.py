"""The footage that is played: real pictures, 1920x1080 at 25/s, at about 4 Mb/s, a key frame every two seconds."""

from itertools import islice
from pathlib import Path

import av

from framesrv.segment import colour
from framesrv.segment.layout import Pixels
from tests.support.footage import Codec, footage

WIDTH, HEIGHT, FPS, GOP = 1920, 1080, 25, 50
NAMES: dict[Codec, str] = {"h264": "H.264", "hevc": "H.265"}


def path(codec: Codec = "h264") -> Path:
    """The file; made at the first use on a machine, which takes a while."""
    return footage(codec, WIDTH, HEIGHT, FPS, frames=5 * GOP, gop=GOP)


def pictures(count: int) -> list[tuple[Pixels, ...]]:
    """The planes of its first frames."""
    with av.open(str(path())) as container:
        return [
            tuple(plane.copy() for plane in colour.planes_of(frame))
            for frame in islice(container.decode(video=0), count)
        ]


def sizes() -> list[int]:
    """Bytes of each of its frames, in the order they come."""
    with av.open(str(path())) as container:
        return [packet.size for packet in container.demux(video=0) if packet.size]
