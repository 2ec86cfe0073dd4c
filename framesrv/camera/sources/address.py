"""The address of a camera, as people write it: schemes in capitals, and passwords with anything in them."""

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote

from framesrv.camera.sources.reasons import CANNOT, PORTS
from framesrv.errors import SourceUsageError

RTSP, WEB = ("rtsp", "rtsps"), ("http", "https")

_URL = re.compile(r"([a-z]+)://(.*)\Z", re.IGNORECASE | re.DOTALL)
_PLACE = re.compile(
    r"(?P<host>\[[0-9a-f:.]+(?:%[^\]\s]+)?\]|[^\[\]:@/?#\s]+)(?::(?P<port>\d{1,5}))?\Z", re.IGNORECASE
)
_NUMBERED = re.compile(r"[.:]")  # as nearly all hosts of cameras are, or in a domain, or with a port
_END = re.compile(r"[/?#]")
_LONE_PERCENT = re.compile(r"%(?![0-9a-f]{2})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a camera is, and as whom it is asked.

    Attributes:
        scheme: one of `RTSP` or of `WEB`.
        host: a name or a number, without the brackets of IPv6.
        port: of TCP.
        url: what is asked for, without user and password.
        user: as the camera means it, not encoded.
        password: the same.
    """

    scheme: str
    host: str
    port: int
    url: str
    user: str = ""
    password: str = ""

    @property
    def secure(self) -> bool:
        """Whether it is reached through TLS."""
        return self.scheme in ("rtsps", "https")

    @property
    def where(self) -> str:
        """Host and port, as they are shown."""
        return f"{self.host}:{self.port}"


def address_of(source: str, user: str = "", password: str = "", *, schemes: tuple[str, ...] = RTSP) -> Address:
    """The parts of a URL.

    A password may hold ``# / ? % @ :`` as they are. A percent sign before two hexadecimal digits stands for an
    encoded character; ``@`` before what can be a host ends the user's part.

    Args:
        source: with or without user and password in it.
        user: which goes before that of the URL.
        password: the same.
        schemes: those that it may have.

    Raises:
        SourceUsageError: it cannot be told which part is what.
    """
    match = _URL.match(source)
    scheme = match[1].lower() if match else ""
    if match is None or scheme not in schemes:
        raise SourceUsageError(f"{CANNOT}its source is no {' or '.join(f'{one}://' for one in schemes)} URL")
    rest = match[2]
    info, place, path = _split(rest)
    found = _PLACE.match(place)
    port = int(found["port"] or PORTS[scheme]) if found else 0
    if found is None or not 0 < port < 1 << 16:
        raise SourceUsageError(
            CANNOT + "it cannot be told where its host begins: write # / ? @ : and % of a user or a password as "
            "%23 %2F %3F %40 %3A %25"
        )
    name, _, word = info.partition(":")
    url = f"{scheme}://{place}{quote(path, safe=_SAFE)}"
    host = found["host"].strip("[]")
    return Address(scheme, host, port, url, user or _decoded(name), password if user else _decoded(word))


_SAFE = "".join(chr(number) for number in range(33, 127))  # of ASCII, all that is printed


def _split(rest: str) -> tuple[str, str, str]:
    """The user's part, the host's, and the path, of what follows ``//``."""
    place = _until(rest, 0)
    if "@" not in place and _PLACE.match(place):
        return "", place, rest[len(place) :]
    if "@" in place:
        ends = [place.rindex("@")]
    else:  # some of the password's characters look like the end of the host's part
        ends = [match.start() for match in re.finditer("@", rest) if _PLACE.match(_until(rest, match.end()))]
        ends = [end for end in ends if _NUMBERED.search(_until(rest, end + 1))][-1:] or ends
    if not ends:
        return "", "", rest
    place = _until(rest, ends[0] + 1)
    return rest[: ends[0]], place, rest[ends[0] + 1 + len(place) :]


def _until(rest: str, begin: int) -> str:
    """What stands there up to the next ``/``, ``?`` or ``#``."""
    end = _END.search(rest, begin)
    return rest[begin : end.start() if end else len(rest)]


def _decoded(text: str) -> str:
    return unquote(_LONE_PERCENT.sub("%25", text))
