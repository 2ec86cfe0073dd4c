"""The parameters of a picture, as its address has them."""

import re
from collections.abc import Mapping

from framesrv.settings import SnapshotSettings
from snapd.errors import FieldError
from snapd.wire.form import BEST, MAX_SIDE, Crop, Form
from snapd.wire.moment import LONGEST_AFTER, LONGEST_BEFORE, Moment, Span

USUAL_BEFORE = 5.0  # s
LEAST_WIDTH = 16  # pixels
LONGEST = 86400.0  # s
SHOWN = 40  # characters of a wrong value


class ParameterError(Exception):
    """One is wrong: a sentence that says what was expected."""


class Parameters:
    """What came after the ``?``; others than those asked for are not looked at."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = given

    def whole(self, name: str, least: int, most: int, default: int) -> int:
        """A whole number. Raises ParameterError."""
        text = self._given.get(name)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) or not least <= int(text) <= most:
            raise ParameterError(f"{name}={text[:SHOWN]!a}: expected a whole number from {least} to {most}")
        return int(text)

    def number(self, name: str, least: float, most: float, default: float) -> float:
        """A number. Raises ParameterError."""
        text = self._given.get(name)
        if text is None:
            return default
        if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text, re.ASCII) or not least <= float(text) <= most:
            raise ParameterError(f"{name}={text[:SHOWN]!a}: expected a number from {least:g} to {most:g}")
        return float(text)

    def seconds(self, name: str, default: float) -> float:
        """A time, in seconds. Raises ParameterError."""
        return self.number(name, 0.001, LONGEST, default)

    def moment(self, name: str = "at") -> Moment | None:
        """A moment; None where it is not given. Raises ParameterError."""
        text = self._given.get(name)
        if text is None:
            return None
        try:
            return Moment.parse(text)
        except FieldError:
            raise ParameterError(
                f"{name}={text[:SHOWN]!a}: expected Unix seconds or milliseconds, or -2.5 for so many seconds ago"
            ) from None

    def span(self) -> Span:
        """The seconds before a moment and after it. Raises ParameterError."""
        before = self.number("before", 0, LONGEST_BEFORE, USUAL_BEFORE)
        after = self.number("after", 0, LONGEST_AFTER, 0)
        if not (before or after):
            raise ParameterError("before and after: expected one of them above 0")
        return Span(before, after)

    def form(self, size: tuple[int, int] | None, settings: SnapshotSettings) -> Form:
        """How a picture of that size is wanted; `settings` say what is not given. Raises ParameterError.

        Where the size is not known yet, whatever some picture could have will do.
        """
        size = size or (MAX_SIDE, MAX_SIDE)
        quality = self.whole("quality", 1, BEST, settings.quality)
        overlay = bool(self.whole("overlay", 0, 1, int(settings.overlay)))
        crop, widest = self._crop(size)
        width = self.whole("width", min(LEAST_WIDTH, widest), widest, 0) or None
        return Form(width, quality, crop, overlay)

    def _crop(self, size: tuple[int, int]) -> tuple[Crop | None, int]:
        """The part that is wanted, None for all of it, and its width in pixels."""
        text = self._given.get("crop")
        if text is None:
            return None, size[0]
        try:
            crop = Crop.parse(text)
        except FieldError:
            crop = None
        if crop is None or (within := crop.within(*size)) is None:
            raise ParameterError(
                f"crop={text[:SHOWN]!a}: expected x,y,w,h within {size[0]}x{size[1]} pixels, "
                "or shares of it as 0.25,0.25,0.5,0.5"
            )
        return crop, within[2]
