"""The parameters of a picture, as its address has them."""

import re
from collections.abc import Mapping

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

    def width(self, widest: int) -> int | None:
        """Pixels, at most those of the frame; None where it is not given. Raises ParameterError."""
        least = min(LEAST_WIDTH, widest)
        return self.whole("width", least, widest, 0) or None
