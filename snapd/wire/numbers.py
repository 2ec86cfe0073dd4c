"""Numbers in the fields of a request, as text: no signs, spaces, exponents or words that Python would take."""

import re
from collections.abc import Mapping

from snapd.errors import FieldError

_WHOLE = re.compile(r"[0-9]{1,5}")
_SECONDS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,6})?")


def whole(fields: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    """A whole number; None where there is none, or an empty one. Raises FieldError."""
    text = fields.get(name)
    if not text:
        return None
    if not _WHOLE.fullmatch(text) or not least <= int(text) <= most:
        raise FieldError(name)
    return int(text)


def seconds(name: str, text: str, least: float, most: float) -> float:
    """So many seconds. Raises FieldError."""
    if not _SECONDS.fullmatch(text) or not least <= float(text) <= most:
        raise FieldError(name)
    return float(text)
