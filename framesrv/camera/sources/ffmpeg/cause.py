"""Why a source could not be opened, in words that lead to the remedy.

FFmpeg's errors are few numbers, some of which stand for everything; its log says what happened. The messages are its
own (libavformat/tcp.c, tls_gnutls.c, tls_openssl.c, rtsp.c, mov.c, avio.c).
"""

import errno
import os
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

import av.error

from framesrv.errors import Cause, SourceError
from framesrv.process import reaching

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
OTHER = {"rtsp": "rtsps", "rtsps": "rtsp", "http": "https", "https": "http"}  # with TLS, and without

_REFUSED_METHOD = re.compile(r"method (\w+) failed: (\d+) ?(.*)")
_WHITELIST = re.compile(r"Protocol '([^']+)' not on whitelist")
_NO_TLS = ("An unexpected TLS packet was received", "wrong version number", "packet length too long")
_SILENT_END = "Failed reading RTSP data"
_ANSWERS: tuple[tuple[type[Exception], Cause, str], ...] = (
    (
        av.error.HTTPUnauthorizedError,
        "unauthorized",
        "the camera refuses the user or the password (401 Unauthorized)",
    ),
    (
        av.error.HTTPForbiddenError,
        "unauthorized",
        "the camera forbids it (403 Forbidden): see the user's rights, or a locked account",
    ),
    (
        av.error.HTTPNotFoundError,
        "not_found",
        "there is no such stream (404 Not Found): see the path in its source",
    ),
    (av.error.ProtocolNotFoundError, "protocol", "FFmpeg knows no protocol {scheme}:"),
)


def explain(error: Exception, said: Sequence[str], source: str) -> SourceError:
    """The error to raise for one of FFmpeg's.

    Args:
        error: what opening the source raised.
        said: what FFmpeg has logged meanwhile.
        source: what was opened.
    """
    cause, words = _known(error, said, source)
    return SourceError(f"cannot be opened: {words}", cause)


def no_answer(timeout: float) -> SourceError:
    """That nothing came in time."""
    return SourceError(f"cannot be opened: no answer for {timeout:g} s", "timeout")


def broke_off(said: Sequence[str]) -> bool:
    """Whether an RTSP server ended the connection before it had answered."""
    return any(message.startswith(_SILENT_END) for message in said)


def without_video(said: Sequence[str]) -> bool:
    """Whether a session description was told that names streams, and none of them of video."""
    descriptions = [message for message in said if message.startswith("SDP:")]
    return any("m=" in one and "m=video" not in one for one in descriptions)


def _known(error: Exception, said: Sequence[str], source: str) -> tuple[Cause, str]:
    number = getattr(error, "errno", None)
    scheme, host, port = _place(source)
    where = f"{host}:{port}" if port else host
    if any(message.startswith("Failed to resolve hostname") for message in said):
        return "name_unknown", reaching.name_unknown(host)
    if scheme in PORTS and number in reaching.UNREACHABLE:
        return "no_route", reaching.no_route(host)
    if number == errno.ECONNREFUSED:
        return "refused", reaching.not_listening(where)
    if any(words in message for message in said for words in _NO_TLS):
        return "protocol", reaching.no_tls(where, OTHER.get(scheme, scheme))
    if broke_off(said) or (scheme == "http" and number == errno.ECONNRESET):
        return _unanswered(scheme, host, port)
    for message in said:
        if match := _WHITELIST.search(message):
            return "protocol", f"it leads to {match[1]}:, which a source of this kind may not use"
    return _answered(error, said, source)


def _answered(error: Exception, said: Sequence[str], source: str) -> tuple[Cause, str]:
    """Of what a camera answers, or a file has in it."""
    for kind, cause, words in _ANSWERS:
        if isinstance(error, kind):
            return cause, words.format(scheme=source.partition(":")[0])
    if isinstance(error, av.error.InvalidDataError):
        return "format", _unreadable(said, source)
    if without_video(said):
        return "no_video", "there is no video in it, only sound"
    for message in said:
        if match := _REFUSED_METHOD.match(message):
            method, status, words = match.groups()
            return "refused", " ".join(f"the camera answers {status} {words.strip().strip('()')} to {method}".split())
    return "", sentence(error)


def _unreadable(said: Sequence[str], source: str) -> str:
    if os.path.isfile(source) and not os.path.getsize(source):
        return "the file is empty"
    if any("moov atom not found" in message for message in said):
        return "the recording was never finished, or is none: it has no index (moov)"
    return "what is there is no video that FFmpeg knows"


def _unanswered(scheme: str, host: str, port: int) -> tuple[Cause, str]:
    """Of a server that took the connection and ended it without an answer."""
    if scheme in ("rtsp", "http") and reaching.speaks_tls(host, port):
        return "protocol", reaching.only_tls(f"{host}:{port}", OTHER[scheme])
    return "protocol", f"{host}:{port} ends the connection without an answer: is it a camera's {scheme} port?"


def _place(source: str) -> tuple[str, str, int]:
    """The scheme, host and port of a URL; empty and 0 of anything else."""
    try:
        # the last @ ends the user's part: passwords may have others, unescaped
        scheme, _, rest = source.partition("://")
        parts = urlsplit(f"{scheme}://{rest.partition('/')[0].rpartition('@')[2]}")
        return parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
    except ValueError:
        return "", "", 0


def sentence(error: Exception) -> str:
    """What an error of FFmpeg's says."""
    return str(getattr(error, "strerror", None) or error)
