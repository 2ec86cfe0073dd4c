"""Why a host cannot be reached, in words that lead to the remedy: the same of a camera, Redis, COS and a platform."""

import errno
import socket
from collections.abc import Iterator

from framesrv.errors import Cause

PATIENCE = 2.0  # s for a look at what speaks at a port
UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EINVAL, errno.ENETDOWN, errno.EADDRNOTAVAIL}


def name_unknown(host: str) -> str:
    """No name server knows it, or none answers."""
    return f"the host name {host} is unknown: see its spelling, and this host's DNS"


def no_route(host: str) -> str:
    """No packet gets there."""
    return f"there is no way to {host}: see `ip route get {host}`"


def not_listening(where: str) -> str:
    """The host answers that nobody is at that port."""
    return f"nothing listens at {where}: Connection refused"


def no_tls(where: str, plain: str) -> str:
    """What answers does not speak it; `plain` is the scheme of what does not."""
    return f"{where} does not speak TLS: try {plain}:// in its place"


def only_tls(where: str, secure: str) -> str:
    """What answers speaks nothing else; `secure` is the scheme of what does."""
    return f"{where} speaks TLS: try {secure}:// in its place"


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, what it was raised for, and so on to the first."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def explain(error: BaseException, host: str, port: int) -> tuple[Cause, str] | None:
    """Why a connection to `host` was not made, as far as the system says; None where that does not."""
    for one in causes(error):
        if isinstance(one, socket.gaierror):
            if ":" in host:  # a number, with an interface that does not go with it
                return "no_route", no_route(host)
            return "name_unknown", name_unknown(host)
        number = one.errno if isinstance(one, OSError) else None
        if number == errno.ECONNREFUSED:
            return "refused", not_listening(f"{host}:{port}")
        if number in UNREACHABLE:
            return "no_route", no_route(host)
    return None


def untrusted(error: BaseException, where: str) -> str:
    """That the certificate of what answers is not accepted, and why; empty if it is not that."""
    import ssl  # which few need

    for one in causes(error):
        if isinstance(one, ssl.SSLCertVerificationError):
            why = one.verify_message or str(one)
            return f"the certificate of {where} is not trusted ({why}): add its authority to this host's"
    return ""


def speaks_tls(host: str, port: int) -> bool:
    """Whether what listens there does; looks for `PATIENCE` seconds at most."""
    import ssl  # which few need

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), PATIENCE) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        # an alert is an answer in TLS; anything else that cannot be read as TLS is none
        return "ALERT" in (error.reason or "")
    except OSError:
        return False
