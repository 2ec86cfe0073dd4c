"""Ports of this host that nobody uses, for servers that begin later, or end and begin again.

None of them is given to a connection by the kernel, and none to a second test, in whatever process it runs:
each is held by an abstract Unix socket of its name while the process lasts that asked for it.
"""

import errno
import random
import socket

PORTS = range(20000, 30000)  # below those that the kernel gives to connections

_chance = random.SystemRandom()  # a test may seed the other one
_held: list[socket.socket] = []


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """One of 127.0.0.1, which nobody else is given while this process lasts."""
    while True:
        port = _chance.choice(PORTS)
        held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            held.bind(f"\0framesrv-port-{port}")
            with socket.socket(socket.AF_INET, kind) as one:
                one.bind(("127.0.0.1", port))
        except OSError as error:
            held.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            _held.append(held)
            return port
