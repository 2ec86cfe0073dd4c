"""What a camera answers, or is found to be, in words that lead to the remedy: for whatever speaks to it.

Why a host cannot be reached at all says `framesrv.process.reaching`.
"""

from framesrv.camera.sources.sockets import NoHandshakeError
from framesrv.errors import Cause, SourceError
from framesrv.process import reaching

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
OTHER = {"rtsp": "rtsps", "rtsps": "rtsp", "http": "https", "https": "http"}  # with TLS, and without

CANNOT = "cannot be opened: "
_TLS_ALERT = b"\x15\x03"

Reason = tuple[Cause, str]

_ADVICE = {
    "453": ": it has no room for another viewer; end one, or wait until it forgets those that were cut off",
    "503": ": it is busy, or still starting",
}

UNAUTHORIZED: Reason = ("unauthorized", "the camera refuses the user or the password (401 Unauthorized)")
FORBIDDEN: Reason = (
    "unauthorized",
    "the camera forbids it (403 Forbidden): see the user's rights, or a locked account",
)
NO_PASSWORD: Reason = (
    "unauthorized",
    "the camera asks for a user and a password (401 Unauthorized), and its source has none",
)
NOT_FOUND: Reason = ("not_found", "there is no such stream (404 Not Found): see the path in its source")
ONLY_SOUND: Reason = ("no_video", "there is no video in it, only sound")


def cannot(reason: Reason) -> SourceError:
    """The error to raise where a source cannot be opened for that reason."""
    cause, words = reason
    return SourceError(CANNOT + words, cause)


def no_answer(timeout: float, error: BaseException | None = None, scheme: str = "") -> Reason:
    """That nothing came in time: for so many seconds, to a source of that scheme."""
    tls = isinstance(error, NoHandshakeError)
    advice = f" to TLS: if it speaks none, try {OTHER[scheme]}:// in its place" if tls else ""
    return "timeout", f"no answer for {timeout:g} s{advice}"


def leads_to(scheme: str) -> Reason:
    """That it refers to what a source of its kind may not use."""
    return "protocol", f"it leads to {scheme}:, which a source of this kind may not use"


def answers(status: str, method: str) -> Reason:
    """That a request was refused."""
    return "refused", f"the camera answers {status} to {method}{_ADVICE.get(status[:3], '')}"


def unanswered(scheme: str, host: str, port: int) -> Reason:
    """Of a server that took the connection and ended it without an answer."""
    if scheme in ("rtsp", "http") and reaching.speaks_tls(host, port):
        return "protocol", reaching.only_tls(f"{host}:{port}", OTHER[scheme])
    return "protocol", f"{host}:{port} ends the connection without an answer: is it a camera's {scheme} port?"


def strange(scheme: str, where: str, begin: bytes) -> Reason:
    """Of a server whose answer begins with what none of RTSP does."""
    if begin.startswith(_TLS_ALERT):
        return "protocol", reaching.only_tls(where, OTHER[scheme])
    words = begin.partition(b"\r")[0].decode("ascii", "replace")
    return "protocol", f"{where} answers {words!r}, which is no RTSP: is it a camera's {scheme} port?"
