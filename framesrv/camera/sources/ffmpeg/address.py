"""A source's address as FFmpeg takes it: people write schemes in capitals, and passwords as they are."""

import re
from urllib.parse import quote

from framesrv.masking import user_info

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)(?=://)", re.IGNORECASE)
_LONE_PERCENT = re.compile(r"%(?![0-9a-f]{2})", re.IGNORECASE)


def address_of(source: str) -> str:
    """The source with its scheme in small letters, and its user and password encoded where that is needed.

    A percent sign before two hexadecimal digits is taken for an encoded character.
    """
    source = _SCHEME.sub(lambda match: match[1].lower(), source, count=1)
    said = user_info(source)
    if not said:
        return source
    user, colon, password = said.partition(":")
    begin = source.index("://") + 3
    return source[:begin] + _encoded(user) + colon + _encoded(password) + source[begin + len(said) :]


def _encoded(text: str) -> str:
    return quote(_LONE_PERCENT.sub("%25", text), safe="%")
