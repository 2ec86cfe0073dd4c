"""A camera that serves motion JPEG over HTTP, as many do: parts of one answer without an end."""

import contextlib
import http.server
import time
from collections.abc import Callable
from typing import cast

from tests.support.background import Background
from tests.support.picture_server import picture
from tests.support.rtsp_login import Login

Part = Callable[[bytes], bytes]


def with_length(jpeg: bytes) -> bytes:
    """A part that says how long it is."""
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(jpeg), jpeg)


def without_length(jpeg: bytes) -> bytes:
    """A part that does not."""
    return b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg + b"\r\n"


class MotionCamera(Background):
    """On 127.0.0.1, while a block lasts; each connection begins with picture 0.

    Args:
        part: makes one of a JPEG.
        rate: pictures a second.
        number: of pictures, after which it falls silent; for ever where it is 0.
        login: what it asks for.

    Attributes:
        source: its URL.
        sent: monotonic nanoseconds at which each picture began to be sent.
        silent: seconds that it waits, silent, before it ends a connection.
    """

    def __init__(
        self, part: Part = with_length, rate: float = 10.0, number: int = 0, login: Login | None = None
    ) -> None:
        super().__init__()
        self.login = login
        self._part, self._rate, self._number = part, rate, number
        self.sent: dict[int, int] = {}
        self.silent = 0.0
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self._server.camera = self
        user = f"{login.user}:{login.password}@" if login else ""
        self.source = f"http://{user}127.0.0.1:{self._server.server_port}/video"

    def run(self) -> None:
        """See `Background.run`."""
        with self._server:
            self._server.serve_forever(0.05)

    def end(self) -> None:
        """See `Background.end`."""
        self._server.shutdown()

    def play(self, write: Callable[[bytes], object]) -> None:
        """Sends its pictures by one connection."""
        index = 0
        while (index < self._number or not self._number) and not self.stopped.wait(1 / self._rate):
            part = self._part(picture(index))
            self.sent[index] = time.monotonic_ns()
            write(part)
            index += 1
        self.stopped.wait(self.silent)


class _Server(http.server.ThreadingHTTPServer):
    camera: MotionCamera


class _Connection(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        camera = cast(_Server, self.server).camera
        if camera.login and not camera.login.admits("GET", self.headers.get("Authorization", "")):
            self.send_response(401)
            self.send_header("WWW-Authenticate", camera.login.challenge)
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            camera.play(self.wfile.write)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Says nothing."""
