"""A server that answers RTSP and HTTP with more than anybody should take: a head, and then a chunk without end."""

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

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


class FloodServer:
    """On 127.0.0.1.

    Attributes:
        connections: how many came.
    """

    def __init__(self, flood: Flood) -> None:
        self.connections = 0
        self._flood = flood
        self._stopped = False
        self._listener = socket.create_server(("127.0.0.1", 0))

    def url(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}/cam"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the listener's end
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:  # the client's end
            while head := self._request(connection):
                method = head.partition(b" ")[0]
                sequence = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"cseq:")), b"X: y")
                version = b"HTTP/1.1" if method == b"GET" else b"RTSP/1.0"
                answer = version + b" 200 OK\r\n" + sequence + b"\r\n"
                if method == b"OPTIONS":
                    connection.sendall(answer + METHODS + b"\r\n")
                    continue
                connection.sendall(answer + self._flood.head)
                while not self._stopped:
                    connection.sendall(self._flood.chunk)

    @staticmethod
    def _request(connection: socket.socket) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head and (received := connection.recv(65536)):
            head += received
        return head
