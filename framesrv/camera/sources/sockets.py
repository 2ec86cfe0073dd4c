"""Connections to cameras: made within a time, and what waits there are."""

import socket
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl import SSLContext

SHORTEST = 0.001  # s: none at all would be for ever
SEND = 1.0  # s that the camera may take to take what we say


class NoHandshakeError(TimeoutError):
    """Who has taken the connection says nothing of TLS, as servers do that wait for the end of a request."""


def connected(place: tuple[str, int], seconds: float, context: "SSLContext | None") -> socket.socket:
    """A socket that is connected to a host and port.

    Args:
        place: the host and the port.
        seconds: that it may take.
        context: of TLS; None for none.

    Raises:
        OSError: there is none; socket.gaierror, TimeoutError and ssl.SSLError among them.
    """
    deadline = time.monotonic() + seconds
    try:
        one = socket.create_connection(place, max(seconds, SHORTEST))
    except UnicodeError as error:  # a name that cannot be one
        raise socket.gaierror(socket.EAI_NONAME, "no host has such a name") from error
    try:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is not None:
            one.settimeout(max(deadline - time.monotonic(), SHORTEST))
            try:
                return context.wrap_socket(one, server_hostname=place[0].partition("%")[0])
            except TimeoutError as error:
                raise NoHandshakeError(*error.args) from error
        one.settimeout(None)
        _set_timeout(one, socket.SO_SNDTIMEO, SEND)
    except BaseException:
        one.close()
        raise
    return one


def wait_at_most(one: socket.socket, seconds: float) -> None:
    """Lets whoever reads it wait so long."""
    if is_plain(one):  # one call of the kernel for each turn in place of two, see socket(7)
        _set_timeout(one, socket.SO_RCVTIMEO, max(seconds, SHORTEST))
    else:
        one.settimeout(max(seconds, SHORTEST))


def is_plain(one: socket.socket) -> bool:
    """Whether it goes through no TLS, which has waits of its own."""
    return type(one) is socket.socket


def _set_timeout(one: socket.socket, option: int, seconds: float) -> None:
    whole = int(seconds)
    one.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, int((seconds - whole) * 1e6)))
