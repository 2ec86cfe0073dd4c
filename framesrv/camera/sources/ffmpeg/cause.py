"""Why a source could not be opened, in words that lead to the remedy.

FFmpeg's errors are few numbers, some of which stand for everything; its log says what happened. The messages are its
own (libavformat/tcp.c, tls_gnutls.c, tls_openssl.c, mov.c, avio.c).
"""

import errno
import os
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

import av.error

from framesrv.camera.sources import reasons
from framesrv.camera.sources.reasons import OTHER, PORTS, Reason
from framesrv.errors import SourceError
from framesrv.masking import user_info
from framesrv.process import reaching

_UNTRUSTED, _MISNAMED = "failed verification", "certificate's owner does not match"  # tls_gnutls.c
_WHITELIST = re.compile(r"Protocol '([^']+)' not on whitelist")
_NO_TLS = ("An unexpected TLS packet was received", "wrong version number", "packet length too long")
_ANSWERS: tuple[tuple[type[Exception], Reason], ...] = (
    (av.error.HTTPUnauthorizedError, reasons.UNAUTHORIZED),
    (av.error.HTTPForbiddenError, reasons.FORBIDDEN),
    (av.error.HTTPNotFoundError, reasons.NOT_FOUND),
    (av.error.ProtocolNotFoundError, ("protocol", "FFmpeg knows no protocol {scheme}:{instead}")),
)
_INSTEAD = {
    "srt": "; GStreamer does: opencv:srtsrc uri=srt://HOST:PORT ! decodebin ! videoconvert ! appsink, with an OpenCV "
    "that has it, as Debian's python3-opencv and not pip's"
}
_UNIT = "under systemd what framesrv@.service says of devices"
_NO_DEVICE: Reason = (
    "not_found",
    f"there is no device {{device}}: see whether it is plugged in, ls /dev/video*, and {_UNIT}",
)
_NO_CAPTURE: Reason = (
    "format",
    "{device} is no capture device: a camera often has several, try the others of ls /dev/video*",
)
_DEVICES: dict[int | None, Reason] = {  # v4l2.c: errors of open(2), VIDIOC_QUERYCAP and VIDIOC_S_FMT
    errno.ENOENT: _NO_DEVICE,
    errno.ENXIO: _NO_DEVICE,
    errno.ENODEV: _NO_CAPTURE,
    errno.ENOTTY: _NO_CAPTURE,
    errno.ENOSYS: _NO_CAPTURE,
    errno.EBUSY: ("refused", "another program uses {device}: fuser {device} says which"),
    errno.EACCES: (
        "unauthorized",
        f"this user may not open {{device}}: see its group, and {_UNIT}",
    ),
    errno.EINVAL: ("format", "{device} does not know that form or size: see input_format and video_size"),
}


def explain(error: Exception, said: Sequence[str], source: str) -> SourceError:
    """The error to raise for one of FFmpeg's.

    Args:
        error: what opening the source raised.
        said: what FFmpeg has logged meanwhile.
        source: what was opened.
    """
    number, device = getattr(error, "errno", None), source.removeprefix("v4l2:")
    if device != source and number in _DEVICES:
        kind, words = _DEVICES[number]
        return reasons.cannot((kind, words.format(device=device)))
    return reasons.cannot(_known(error, said, source))


def _known(error: Exception, said: Sequence[str], source: str) -> Reason:
    number = getattr(error, "errno", None)
    scheme, host, port = _place(source)
    where = f"{host}:{port}" if port else host
    if any(message.startswith("Failed to resolve hostname") for message in said):
        return "name_unknown", reaching.name_unknown(host)
    for message in said:
        if match := _WHITELIST.search(message):
            return reasons.leads_to(match[1])
    if scheme in PORTS and number in reaching.UNREACHABLE:
        return "no_route", reaching.no_route(host)
    if number == errno.ECONNREFUSED:
        return "refused", reaching.not_listening(where)
    if any(words in message for message in said for words in _NO_TLS):
        return "protocol", reaching.no_tls(where, OTHER.get(scheme, scheme))
    if any(_UNTRUSTED in message for message in said):
        return (
            "protocol",
            f"the certificate of {where} is not trusted: give it, or that of its signer, as tls_ca",
        )
    if any(_MISNAMED in message for message in said):
        return "protocol", f"the certificate of {where} is not for {host}: write the name that it is for into source"
    if scheme == "http" and number == errno.ECONNRESET:
        return reasons.unanswered(scheme, host, port)
    return _answered(error, said, source)


def _answered(error: Exception, said: Sequence[str], source: str) -> Reason:
    """Of what a camera answers, or a file has in it."""
    if isinstance(error, av.error.HTTPUnauthorizedError) and not user_info(source):
        return reasons.NO_PASSWORD
    for kind, (cause, words) in _ANSWERS:
        if isinstance(error, kind):
            scheme = source.partition(":")[0]
            return cause, words.format(scheme=scheme, instead=_INSTEAD.get(scheme, ""))
    if isinstance(error, av.error.InvalidDataError):
        return "format", _unreadable(said, source)
    return "", sentence(error)


def _unreadable(said: Sequence[str], source: str) -> str:
    if os.path.isfile(source) and not os.path.getsize(source):
        return "the file is empty"
    if any("moov atom not found" in message for message in said):
        return "the recording was never finished, or is none: it has no index (moov)"
    return "what is there is no video that FFmpeg knows"


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
