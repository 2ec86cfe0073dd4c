"""Why an HTTP server gave no answer, in words that lead to the remedy."""

import http.client
import ssl
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import ConnectTimeoutError

from framesrv.process import reaching
from snapd.http.guard import PORTS
from snapd.http.session import reason

_NO_TLS = ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST")
_TLS_RECORD = ("\x15\x03", "\x16\x03")  # how an answer in TLS begins


def explain(error: BaseException, url: str) -> tuple[str, str]:
    """A word for programs, empty where there is no fitting one, and a sentence.

    Args:
        error: what was raised, by requests or below it.
        url: what was asked for.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
    where = f"{host}:{port}"
    if known := reaching.explain(error, host, port):
        return known
    if untrusted := reaching.untrusted(error, where):
        return "certificate", untrusted
    errors = list(reaching.causes(error))
    for one in errors:
        if isinstance(one, ssl.SSLError) and any(word in str(one) for word in _NO_TLS):
            return "protocol", reaching.no_tls(where, "http")
        if isinstance(one, http.client.BadStatusLine) and str(one).startswith(_TLS_RECORD):
            return "protocol", reaching.only_tls(where, "https")
    if any(isinstance(one, TimeoutError | requests.Timeout) for one in errors):
        return "timeout", _too_late(errors, where)
    if any(isinstance(one, ConnectionError | http.client.BadStatusLine) for one in errors):
        return "lost", f"{where} ends the connection without an answer: does it speak {parts.scheme}?"
    return "", reason(error)


def _too_late(errors: list[BaseException], where: str) -> str:
    for one in errors:
        if isinstance(one, TimeoutError) and str(one).startswith("the host name"):
            return str(one)
    if any(isinstance(one, ConnectTimeoutError) for one in errors):
        return f"{where} does not answer"
    return f"{where} has taken the connection, and does not answer in time"
