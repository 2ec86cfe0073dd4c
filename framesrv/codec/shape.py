"""The shape in which a camera's pictures are to be shown: upright, and with the right proportions.

A picture is mirrored and turned on its way into the segment. It is not stretched there: readers get the camera's own
pixels, and are told how wide each one is.
"""

from fractions import Fraction

import numpy as np

from framesrv.codec.orientation import AS_IT_IS, Orientation
from framesrv.codec.picture import SourceFrame
from framesrv.codec.presentation import Presentation
from framesrv.segment.stamp import SQUARE

NARROWEST, WIDEST = Fraction(1, 5), Fraction(5)  # pixels that anybody can mean


class Shape:
    """The shape of one camera's pictures.

    Args:
        wanted: whose `aspect` and `rotate` go before what the stream says.
    """

    def __init__(self, wanted: Presentation) -> None:
        self._aspect = wanted.aspect
        self._orientation = None if wanted.rotate is None else Orientation(turn=wanted.rotate)
        self._turned: int = wanted.rotate or 0  # the newest picture

    def applied(self, frame: SourceFrame) -> SourceFrame:
        """The frame upright, as views of the same memory, with the ratio of its pixels."""
        ratio = told = frame.stamp.sample_aspect_ratio
        if self._aspect is not None:
            ratio = self._aspect * frame.height / frame.width
        if ratio is not SQUARE and not NARROWEST <= ratio <= WIDEST:  # fractions are slow to compare
            ratio = SQUARE
        orientation = frame.orientation if self._orientation is None else self._orientation
        turn = self._turned = orientation.turn
        if orientation == AS_IT_IS and (ratio is told or ratio == told):
            return frame
        quarters = turn // 90
        if quarters % 2:
            ratio = 1 / ratio
        width, height = self.size(frame.width, frame.height)
        return frame._replace(
            planes=tuple(
                np.rot90(plane[:, ::-1] if orientation.mirrored else plane, -quarters) for plane in frame.planes
            ),
            width=width,
            height=height,
            stamp=frame.stamp._replace(sample_aspect_ratio=ratio, rotated=turn),
            orientation=AS_IT_IS,
        )

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size in the segment of a picture of that size."""
        return (height, width) if self._turned % 180 else (width, height)
