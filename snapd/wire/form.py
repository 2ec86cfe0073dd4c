"""How a picture is wanted: its width, its quality, which part of it, and whether time and name are drawn in.

The same in a request, in an address of the page and on the command line. A crop is of the picture as it is shown:
upright, with square pixels.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Self

from snapd.errors import FieldError
from snapd.wire.numbers import whole

MAX_SIDE = 16384  # pixels
BEST = 100  # quality

_PIXELS = re.compile(r"[0-9]{1,5}")
_SHARE = re.compile(r"[01]|[01]?\.[0-9]{1,9}")

Rectangle = tuple[int, int, int, int]  # left, top, width, height, in pixels


@dataclass(frozen=True, slots=True)
class Crop:
    """A part of a picture.

    Attributes:
        left, top, width, height: pixels, or shares of the picture's sides.
        is_share: whether they are shares.
    """

    left: Fraction
    top: Fraction
    width: Fraction
    height: Fraction
    is_share: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """The crop ``x,y,w,h``: whole pixels, or shares from 0 to 1 where one of the four has a point.

        Raises:
            FieldError: it is none, or has nothing in it, or is not within a picture.
        """
        parts = text.split(",")
        is_share = "." in text
        if len(parts) != 4 or not all((_SHARE if is_share else _PIXELS).fullmatch(part) for part in parts):
            raise FieldError("crop")
        left, top, width, height = map(Fraction, parts)
        most = 1 if is_share else MAX_SIDE
        if not (width and height) or left + width > most or top + height > most:
            raise FieldError("crop")
        return cls(left, top, width, height, is_share)

    def __str__(self) -> str:
        """As it was written, or the same."""
        return ",".join(str(float(one) if self.is_share else int(one)) for one in self._parts)

    @property
    def _parts(self) -> tuple[Fraction, ...]:
        return self.left, self.top, self.width, self.height

    def within(self, width: int, height: int) -> Rectangle | None:
        """The part of a picture of that size; None where it is not within it."""
        if not self.is_share:
            fits = self.left + self.width <= width and self.top + self.height <= height
            return (int(self.left), int(self.top), int(self.width), int(self.height)) if fits else None
        left, top = min(round(self.left * width), width - 1), min(round(self.top * height), height - 1)
        right, bottom = round((self.left + self.width) * width), round((self.top + self.height) * height)
        return left, top, max(1, right - left), max(1, bottom - top)


@dataclass(frozen=True, slots=True)
class Form:
    """How a picture is wanted.

    Attributes:
        width: pixels, to which the picture, or its part, is made smaller; its own where None, never more.
        quality: of the JPEG, 1 to 100; the configuration's where None.
        crop: the part that is wanted; all of it where None.
        overlay: whether time and name are drawn in; as the configuration says where None.
    """

    width: int | None = None
    quality: int | None = None
    crop: Crop | None = None
    overlay: bool | None = None

    @classmethod
    def parse(cls, fields: Mapping[str, str]) -> Self:
        """As the fields `width`, `quality`, `crop` and `overlay` say; one that is empty or missing says nothing.

        Raises:
            FieldError: one is wrong.
        """
        overlay = fields.get("overlay")
        if overlay and overlay not in {"0", "1"}:
            raise FieldError("overlay")
        crop = fields.get("crop")
        return cls(
            whole(fields, "width", 1, MAX_SIDE),
            whole(fields, "quality", 1, BEST),
            Crop.parse(crop) if crop else None,
            overlay == "1" if overlay else None,
        )

    def size(self, width: int, height: int) -> tuple[int, int]:
        """That of the picture, made of a part of that size."""
        wanted = min(self.width or width, width)
        return wanted, max(1, round(height * wanted / width))


AS_IT_IS = Form()
