"""Requests and responses of RTSP (RFC 2326, 4 to 7), read as leniently as cameras write them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import overload

VERSION = "RTSP/1.0"
DIGITS = 10  # of the longest number that means anything here

_STATUS = re.compile(r"RTSP/\d\.\d\s+(\d{3})\s*(.*)")
_REQUEST = re.compile(r"([A-Z_]+)\s+(\S+)")


@overload
def number(text: str, otherwise: int = 0) -> int: ...
@overload
def number(text: str, otherwise: None) -> int | None: ...
def number(text: str, otherwise: int | None = 0) -> int | None:
    """What a camera writes as a number; `otherwise` where it is none, or has more than `DIGITS` digits."""
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= DIGITS else otherwise


@dataclass(frozen=True, slots=True)
class Message:
    """What requests and responses have in common.

    Attributes:
        headers: by their names in small letters, each as often as it came.
        body: what follows them.
    """

    headers: Mapping[str, list[str]]
    body: bytes = b""

    def header(self, name: str) -> str:
        """The first value of a header, empty where there is none."""
        return self.headers.get(name, [""])[0]

    @property
    def length(self) -> int:
        """Bytes of its body."""
        text = self.header("content-length")
        return number(text) if len(text) <= DIGITS else 10**DIGITS

    @property
    def sequence(self) -> int | None:
        """Which request it is, or answers; None where it does not say."""
        return number(self.header("cseq").partition(" ")[0], None)


@dataclass(frozen=True, slots=True)
class Response(Message):
    """What a request was answered.

    Attributes:
        status: of three digits.
        reason: in words; may be empty.
    """

    status: int = 0
    reason: str = ""

    @property
    def ok(self) -> bool:
        """Whether it was done."""
        return 200 <= self.status < 300

    @property
    def words(self) -> str:
        """Status and reason."""
        return f"{self.status} {self.reason}".strip()


@dataclass(frozen=True, slots=True)
class Request(Message):
    """What the other side asks."""

    method: str = ""
    url: str = ""


def parse(head: bytes) -> Response | Request | None:
    """The message that begins with these lines, without its body; None where they are none."""
    start, *lines = head.decode("utf-8", "replace").splitlines() or [""]
    headers = headers_of(lines)
    if match := _STATUS.match(start):
        return Response(headers, status=int(match[1]), reason=match[2].strip())
    if match := _REQUEST.match(start):
        return Request(headers, method=match[1], url=match[2])
    return None


def headers_of(lines: list[str]) -> dict[str, list[str]]:
    """By their names in small letters, each as often as it is there."""
    headers: dict[str, list[str]] = {}
    newest: list[str] = []
    for line in lines:
        if line[:1] in (" ", "\t") and newest:  # folded
            newest[-1] += " " + line.strip()
            continue
        name, colon, value = line.partition(":")
        if colon:
            newest = headers.setdefault(name.strip().lower(), [])
            newest.append(value.strip())
    return headers


def request(method: str, url: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of a request."""
    return written(f"{method} {url} {VERSION}", headers)


def response(status: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of a response."""
    return written(f"{VERSION} {status}", headers)


def written(start: str, headers: Mapping[str, str]) -> bytes:
    """The bytes of a message that begins so."""
    lines = [start, *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
