"""A server that answers RTSP and HTTP with more than anybody should take: a head, and then a chunk without end."""

import socket
from dataclasses import dataclass

from tests.support.tcp_server import TcpServer

METHODS = b"Public: DESCRIBE, SETUP, PLAY\r\n"


@dataclass(frozen=True)
class Flood:
    """What follows the status line of an answer: `head` once, `chunk` for as long as somebody takes it."""

    head: bytes
    chunk: bytes


HEADERS = Flood(b"", b"X-Filling: abcdefgh\r\n" * 4000)
LINE = Flood(b"X-Filling: ", b"abcdefgh" * 8000)
DESCRIPTION = Flood(
    b"Content-Type: application/sdp\r\nContent-Length: 1500000000\r\n\r\nv=0\r\n",
    (b"a=x:" + b"y" * 4000 + b"\r\n") * 16,
)
PLAYLIST = Flood(
    b"Content-Type: application/vnd.apple.mpegurl\r\n\r\n#EXTM3U\n#EXT-X-TARGETDURATION:2\n",
    b"#EXTINF:2.0,\n/segment.ts\n" * 4000,
)
PICTURE = Flood(
    b"Content-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
    b"--frame\r\nContent-Type: image/jpeg\r\n\r\n\xff\xd8\xff",
    b"abcdefgh" * 8000,
)


class FloodServer(TcpServer):
    """Floods whoever asks."""

    def __init__(self, flood: Flood) -> None:
        super().__init__()
        self._flood = flood

    def url(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.port}/cam"

    def serve(self, connection: socket.socket) -> None:
        """Answers OPTIONS as it should, and all else without end."""
        while head := self._request(connection):
            method = head.partition(b" ")[0]
            sequence = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"cseq:")), b"X: y")
            version = b"HTTP/1.1" if method == b"GET" else b"RTSP/1.0"
            answer = version + b" 200 OK\r\n" + sequence + b"\r\n"
            if method == b"OPTIONS":
                connection.sendall(answer + METHODS + b"\r\n")
                continue
            connection.sendall(answer + self._flood.head)
            while not self.stopped.is_set():
                connection.sendall(self._flood.chunk)

    @staticmethod
    def _request(connection: socket.socket) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head and (received := connection.recv(65536)):
            head += received
        return head
