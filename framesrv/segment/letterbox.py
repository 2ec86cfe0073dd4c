"""`Letterbox`: where a picture lies in one of another shape, and what is at a place of it in the frame."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from framesrv.segment.layout import MAX_SIDE


@dataclass(frozen=True)
class Letterbox:
    """A frame's picture in the middle of one of another shape, its proportions kept, the rest filled with grey.

    Attributes:
        width: of the whole, pixels.
        height: of the whole, pixels.
        left: columns before the frame's picture.
        top: rows above it.
        inner_width: columns of the frame's picture.
        inner_height: rows of it.
        frame_width: pixels of the frame itself.
        frame_height: likewise.
        fill: level of what is around the picture, 0 to 255.
    """

    width: int
    height: int
    left: int
    top: int
    inner_width: int
    inner_height: int
    frame_width: int
    frame_height: int
    fill: int = 114

    @classmethod
    def of(cls, frame: tuple[int, int], shown: tuple[int, int], width: int, height: int, fill: int) -> "Letterbox":
        """That of a frame of such a size, to be shown at another, in `width` and `height`.

        Raises:
            ValueError: a size below 1 or above 16384, or a level that is none.
        """
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
            raise ValueError(f"{width}x{height} pixels: expected 1 to {MAX_SIDE} each way")
        if not 0 <= fill <= 255:
            raise ValueError(f"fill {fill}: expected 0 to 255")
        scale = min(width / shown[0], height / shown[1])
        inner_width, inner_height = (max(1, round(side * scale)) for side in shown)
        left, top = (width - inner_width) // 2, (height - inner_height) // 2
        return cls(width, height, left, top, inner_width, inner_height, *frame, fill)

    def to_frame(self, places: ArrayLike) -> NDArray[np.float64]:
        """Where places of this picture are in the frame.

        Args:
            places: an array whose last axis is x, y, or x, y, x, y: corners of boxes.

        Returns:
            The same in pixels of the frame; beyond its sides for what is outside of its picture.

        Raises:
            ValueError: the last axis is another.
        """
        return (_places(places) - self._origin(places)) / self._scale(places)

    def from_frame(self, places: ArrayLike) -> NDArray[np.float64]:
        """Where places of the frame are in this picture: `to_frame` the other way."""
        return _places(places) * self._scale(places) + self._origin(places)

    def _origin(self, places: ArrayLike) -> NDArray[np.float64]:
        return np.tile([self.left, self.top], np.shape(places)[-1] // 2)

    def _scale(self, places: ArrayLike) -> NDArray[np.float64]:
        scale = [self.inner_width / self.frame_width, self.inner_height / self.frame_height]
        return np.tile(scale, np.shape(places)[-1] // 2)


def _places(places: ArrayLike) -> NDArray[np.float64]:
    found = np.asarray(places, np.float64)
    if found.ndim == 0 or found.shape[-1] not in (2, 4):
        raise ValueError(f"places of shape {found.shape}: expected x, y or x, y, x, y as the last axis")
    return found
