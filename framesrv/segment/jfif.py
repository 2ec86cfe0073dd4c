"""A frame's picture as JPEG has it: Y, Cb and Cr of BT.601, full range (ITU-T T.871), 4:2:0.

Video has the same three planes by another matrix and in limited range. From one to the other FFmpeg's filter
`colorspace` takes less time than libswscale does to BGR, and the encoder need not go back. What is scaled is scaled
first.
"""

from fractions import Fraction
from typing import cast

import av

from framesrv.segment import colour
from framesrv.segment.colour import Picture
from framesrv.segment.layout import Matrix, Pixels, Rectangle

SPACES: dict[Matrix, str] = {"bt709": "bt709", "bt601": "smpte170m", "bt2020": "bt2020nc"}  # the filter's names
SAME = "bt709"  # primaries and transfer, which stay as they are


def to_jfif(picture: Picture, width: int, height: int, crop: Rectangle | None = None) -> tuple[Pixels, ...]:
    """Y, Cb and Cr of a yuv420p picture, or of a part of it that begins at even pixels, of that even size."""
    source = colour.as_video(picture, width, height, crop)
    if not (picture.full_range and picture.matrix == "bt601"):
        source = _filtered(source, picture)
    return colour.planes_of(source)


def _filtered(source: av.VideoFrame, picture: Picture) -> av.VideoFrame:
    """The filter is made anew each time, which takes 30 microseconds; it keeps no memory then."""
    graph = av.filter.Graph()
    graph.threads = 1
    begin = graph.add_buffer(width=source.width, height=source.height, format=source.format, time_base=Fraction(1, 1))
    own = f"ispace={SPACES[picture.matrix]}:irange={'pc' if picture.full_range else 'tv'}"
    same = ":".join(f"{name}={SAME}" for name in ("iprimaries", "primaries", "itrc", "trc"))
    change = graph.add("colorspace", f"{own}:space=smpte170m:range=pc:{same}:format=yuv420p")
    end = graph.add("buffersink")
    begin.link_to(change)
    change.link_to(end)
    graph.configure()
    source.pts = 0
    graph.push(source)
    return cast(av.VideoFrame, graph.pull())
