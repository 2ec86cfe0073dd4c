"""A server that answers every request a byte at a time and never comes to an end; over TLS if told so."""

import socket
import ssl
from pathlib import Path

from tests.support.tcp_server import TcpServer

HEAD = b"HTTP/1.1 200 OK\r\nX-Filling: "


class TrickleServer(TcpServer):
    """On 127.0.0.1. `head` is sent at once, then a byte every `pause` seconds; all of it without being asked.

    Args:
        certificate: a PEM file of a certificate and its key.
    """

    def __init__(self, head: bytes = HEAD, pause: float = 0.1, certificate: Path | None = None) -> None:
        super().__init__()
        self.head, self.pause = head, pause
        self._context = None
        if certificate:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        self.domain = f"127.0.0.1:{self.port}"

    def serve(self, connection: socket.socket) -> None:
        """See the head of this module."""
        if self._context:
            connection = self._context.wrap_socket(connection, server_side=True)
        connection.recv(65536)
        connection.sendall(self.head)
        while not self.stopped.wait(self.pause):
            connection.sendall(b"a")
