"""A server that answers every request a byte at a time and never comes to an end; over TLS if told so."""

import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

HEAD = b"HTTP/1.1 200 OK\r\nX-Filling: "


class TrickleServer:
    """On 127.0.0.1. `head` is sent at once, then a byte every `pause` seconds; all of it without being asked.

    Args:
        certificate: a PEM file of a certificate and its key.
    """

    def __init__(self, head: bytes = HEAD, pause: float = 0.1, certificate: Path | None = None) -> None:
        self.head, self.pause = head, pause
        self.connections = 0
        self._context = None
        if certificate:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.domain = f"127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._trickle, args=(connection,), daemon=True).start()

    def _trickle(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if self._context:
                connection = self._context.wrap_socket(connection, server_side=True)
            connection.recv(65536)
            connection.sendall(self.head)
            while not self._stopped.wait(self.pause):
                connection.sendall(b"a")
