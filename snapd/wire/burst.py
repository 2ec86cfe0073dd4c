"""Several pictures for one request, a while apart."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from snapd.errors import FieldError
from snapd.wire.numbers import seconds, whole

MOST = 20  # pictures
SHORTEST, LONGEST = 0.04, 30.0  # s between two, and for all of them
USUAL = 1.0  # s between two
NUMBER = "{n}"  # in a path: which picture


@dataclass(frozen=True, slots=True)
class Burst:
    """So many pictures, so many seconds apart."""

    count: int
    interval: float

    @classmethod
    def parse(cls, fields: Mapping[str, str], longest: float) -> Self | None:
        """As the fields `count` and `interval` say; None where neither is there.

        Args:
            fields: of the request.
            longest: seconds that it may take.

        Raises:
            FieldError: one is wrong, or it would take too long.
        """
        count = whole(fields, "count", 1, MOST)
        text = fields.get("interval")
        if count is None:
            if text:
                raise FieldError("interval")
            return None
        interval = seconds("interval", text, SHORTEST, LONGEST) if text else USUAL
        if (count - 1) * interval > min(longest, LONGEST):
            raise FieldError("interval" if text else "count")
        return cls(count, interval)

    @property
    def seconds(self) -> float:
        """From the first picture to the last."""
        return (self.count - 1) * self.interval

    def paths(self, path: str) -> list[str]:
        """The path of each picture, made of the one that has `NUMBER` in it."""
        return [path.replace(NUMBER, str(number)) for number in range(1, self.count + 1)]
