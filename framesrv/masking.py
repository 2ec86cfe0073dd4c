"""What may be shown of a text: no secret, and nothing that steers a terminal or turns the reading direction.

Secrets are known by value: whoever reads the configuration tells them by `protect`. Patterns catch those of others:
passwords in URLs, tokens and signatures in queries.
"""

import re
import threading
from collections.abc import Callable, Iterable
from functools import partial
from urllib.parse import quote, quote_plus, unquote

SHOWN = "***"
SHORTEST = 4  # characters of a secret that is known by value; a shorter one would be found in any text
LONG = 8  # characters of one that is masked amid a word as well: a shorter one may be a part of many words

_NAMES = (
    "secret_?key|secret_?id|secret|pass|passwd|password|pwd|token|x-cos-security-token|auth|authorization|key|api_?key|"
    "access_?key|q-signature|q-ak|q-key-time|signature|sign|sig"
)
_PARAMETER = re.compile(rf"[?&;](?:{_NAMES})=([^&;\s\"'<>]+)", re.IGNORECASE)
_ASSIGNMENT = re.compile(
    r"\b(?:secret_?key|secret|passwd|password|pwd|token|q-signature|q-ak|x-cos-security-token)=([^&\s\"']+)",
    re.IGNORECASE,
)
_URL = re.compile(r"\b([a-z][a-z0-9+.-]*://)([^\s\"'<>]+)", re.IGNORECASE)
_DOTTED = re.compile(r"\[|[\w-]+\.[\w-]")
_PORT = re.compile(r"\d{1,5}\Z")

_lock = threading.Lock()
_secrets: frozenset[str] = frozenset()
_pattern: re.Pattern[str] | None = None


def protect(secrets: Iterable[str]) -> None:
    """From now on `mask` hides these values, as written, decoded and encoded, wherever they turn up."""
    global _secrets, _pattern
    forms: tuple[Callable[[str], str], ...] = (str, unquote, quote, partial(quote, safe=""), quote_plus)
    found = {form(secret) for secret in secrets for form in forms}
    with _lock:
        _secrets |= {form for form in found if len(form) >= SHORTEST}
        longest_first = sorted(_secrets, key=len, reverse=True)
        _pattern = re.compile("|".join(map(_by_value, longest_first))) if longest_first else None


def password_of(url: str) -> str:
    """The password in a URL, as it is written; empty if there is none.

    Before a host with a dot in it, what looks like a port and a path is taken for one, as in
    ``rtsp://user:12/34@192.0.2.1``: rather too much is hidden than too little.
    """
    said = user_info(url)
    if not said:
        said, _, place = url.partition("://")[2].rpartition("@")
        if not _DOTTED.match(place) or re.search(r"[/?#]", said.partition(":")[0]):
            return ""
    return said.partition(":")[2]


def user_info(url: str) -> str:
    """``user:password`` in a URL, as it is written; empty if there is none with a colon.

    The last ``@`` before a query ends it: people write passwords with ``@``, ``/`` and spaces as they are. An ``@``
    in a path is taken for that too, which hides more than it must. With a ``?`` or ``#`` in the password the last
    ``@`` of all ends it, also where only a host with a dot in it comes after that one.
    """
    _, separator, rest = url.partition("://")
    said, at, place = re.split(r"[?#]", rest, maxsplit=1)[0].rpartition("@")
    if not at or (not _DOTTED.match(place) and _DOTTED.match(rest.rpartition("@")[2])):
        said, at, _ = rest.rpartition("@")
    user, colon, password = said.partition(":")
    if not separator or not at or not colon or re.search(r"[/?#]", user):
        return ""
    before = re.split(r"[/?#]", password, maxsplit=1)[0]
    if before != password and _PORT.match(before):  # host:554/path@1 has none
        return ""
    return said


def mask(text: str) -> str:
    """`text` without secrets: ``***`` stands in their place."""
    spans = [match.span() for match in _pattern.finditer(text)] if _pattern is not None else []
    spans += [match.span(1) for pattern in (_PARAMETER, _ASSIGNMENT) for match in pattern.finditer(text)]
    for url in _URL.finditer(text):
        if password := password_of(url[0]):
            begin = url.start() + url[0].index(f":{password}@") + 1
            spans.append((begin, begin + len(password)))
    # All are found in the text as it is: to replace one could hide the next from its pattern.
    shown_of, end = [], 0
    for begin, after in sorted(spans):
        if begin >= end:
            shown_of += [text[end:begin], SHOWN]
        end = max(end, after)
    return "".join([*shown_of, text[end:]])


def printable(text: str) -> str:
    """`text` with every character escaped that a terminal would not show as itself."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def shown(text: str) -> str:
    """`text` as a person may see it: masked and printable."""
    return printable(mask(text))


def _by_value(secret: str) -> str:
    """The pattern of a secret that is known."""
    pattern = re.escape(secret)
    return pattern if len(secret) >= LONG else rf"(?<![^\W_]){pattern}(?![^\W_])"
