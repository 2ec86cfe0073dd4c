"""The moment that a request is about, and the seconds around it that a clip shows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from snapd.errors import FieldError
from snapd.wire.numbers import seconds

LONGEST_BEFORE, LONGEST_AFTER = 600.0, 30.0  # s of a clip
MILLISECONDS = 1000

_BACK = re.compile(r"-[0-9]{1,4}(\.[0-9]{1,9})?")
_SECONDS = re.compile(r"[0-9]{9,10}(\.[0-9]{1,9})?")
_MILLISECONDS = re.compile(r"[0-9]{12,13}(\.[0-9]{1,6})?")


@dataclass(frozen=True, slots=True)
class Moment:
    """A moment: `seconds` of Unix time, or, where `is_relative`, after the request."""

    seconds: float
    is_relative: bool

    @classmethod
    def parse(cls, text: str) -> Self:
        """The moment of Unix seconds or milliseconds, or of ``-2.5``: so many seconds before. Raises FieldError."""
        if _BACK.fullmatch(text):
            return cls(float(text), True)
        if _SECONDS.fullmatch(text):
            return cls(float(text), False)
        if _MILLISECONDS.fullmatch(text):
            return cls(float(text) / MILLISECONDS, False)
        raise FieldError("at")

    def unix(self, asked_at: float) -> float:
        """Its Unix time in seconds, of a question that came at that one."""
        return asked_at + self.seconds if self.is_relative else self.seconds


NOW = Moment(0.0, True)


@dataclass(frozen=True, slots=True)
class Span:
    """The seconds before a moment and after it."""

    before: float
    after: float

    @classmethod
    def parse(cls, text: str, longest: float) -> Self:
        """The span ``BEFORE,AFTER``.

        Args:
            text: two numbers, not both 0.
            longest: seconds for which may be waited.

        Raises:
            FieldError: it is none, or too long.
        """
        before, comma, after = text.partition(",")
        if not comma:
            raise FieldError("clip")
        span = cls(seconds("clip", before, 0, LONGEST_BEFORE), seconds("clip", after, 0, min(LONGEST_AFTER, longest)))
        if not (span.before or span.after):
            raise FieldError("clip")
        return span


def parse_moment(fields: Mapping[str, str]) -> Moment | None:
    """As the field `at` says; None where it is not there. Raises FieldError."""
    text = fields.get("at")
    return Moment.parse(text) if text else None


def parse_span(fields: Mapping[str, str], longest: float) -> Span | None:
    """As the field `clip` says, beside which nothing may stand that is about pictures; None where it is not there.

    Raises:
        FieldError: it is wrong, or something of a picture is wanted too.
    """
    text = fields.get("clip")
    if not text:
        return None
    if any(fields.get(name) for name in ("width", "quality", "crop", "overlay", "count", "interval")):
        raise FieldError("clip")
    return Span.parse(text, longest)
