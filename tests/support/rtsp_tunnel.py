"""RTSP through HTTP for a camera that speaks RTSP alone: one connection brings what it says, the other takes."""

import base64
import socket
from contextlib import suppress

from tests.support.tcp_server import TcpServer

TYPE = b"application/x-rtsp-tunnelled"


class RtspTunnel(TcpServer):
    """Leads to a camera at a port of 127.0.0.1.

    Args:
        port: of the camera.
        status: what GET is answered.

    Attributes:
        heads: of the requests so far.
    """

    def __init__(self, port: int, status: str = "200 OK") -> None:
        super().__init__()
        self._port, self._status = port, status
        self._cameras: dict[bytes, socket.socket] = {}
        self.heads: list[bytes] = []

    def serve(self, connection: socket.socket) -> None:
        """Answers GET with all that the camera says; decodes what follows POST."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            byte = connection.recv(1)
            if not byte:
                return
            head += byte
        self.heads.append(head)
        cookie = head.partition(b"x-sessioncookie: ")[2].partition(b"\r")[0]
        assert TYPE in head
        if head.startswith(b"GET "):
            self._bring(cookie, connection)
        else:
            self._take(cookie, connection)

    def _bring(self, cookie: bytes, connection: socket.socket) -> None:
        answer = f"HTTP/1.0 {self._status}\r\nContent-Type: {TYPE.decode()}\r\n\r\n".encode()
        if self._status != "200 OK":
            connection.sendall(answer)
            return
        with socket.create_connection(("127.0.0.1", self._port)) as camera:
            self._cameras[cookie] = camera  # before whoever asked knows, and goes on by another connection
            connection.sendall(answer)
            while data := camera.recv(65536):
                connection.sendall(data)

    def _take(self, cookie: bytes, connection: socket.socket) -> None:
        pending = b""
        while data := connection.recv(65536):
            pending += data
            whole = len(pending) - len(pending) % 4
            quads = [pending[at : at + 4] for at in range(0, whole, 4)]
            self._cameras[cookie].sendall(b"".join(map(base64.b64decode, quads)))
            pending = pending[whole:]
        with suppress(OSError):  # the camera's end
            self._cameras[cookie].shutdown(socket.SHUT_RDWR)
