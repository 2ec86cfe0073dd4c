"""An RTSP camera that is odd in one thing, as a test writes it: in this process, beside whoever plays it.

`rtsp_server` is what it is made of. A test derives a class from `OddClient` and answers in its own way what it wants
to, for instance ``_response``; all else is answered as by an ordinary camera.
"""

import asyncio
import io
import socket
import ssl
from contextlib import closing, suppress
from pathlib import Path

from tests.support.background import Background
from tests.support.rtsp import Mode
from tests.support.rtsp_server import Camera, Client, Playback, RtspRequest, RtspResponse, Server
from tests.support.rtsp_track import Track

NAME = "cam"


class OddClient(Client):
    """One connection to the camera.

    Attributes:
        odd: the camera.
    """

    odd: "OddCamera"

    async def _handle(self, request: RtspRequest) -> bool:
        self.odd.asked.append(request)
        return await super()._handle(request)

    def _response(self, request: RtspRequest) -> RtspResponse:
        self._camera = self._server.cameras[NAME]  # whatever the path
        return super()._response(request)


class OddCamera(Background):
    """The camera, while a block lasts.

    Args:
        video: the file it plays.
        kind: of its connections.
        host: the address it listens at.
        context: of TLS, if it speaks that.

    Attributes:
        asked: every request so far, of all connections.
        connections: how many came.
    """

    def __init__(
        self,
        video: Path,
        kind: type[OddClient] = OddClient,
        *,
        host: str = "127.0.0.1",
        context: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__()
        self.asked: list[RtspRequest] = []
        self.connections = 0
        self._host = host
        self._context = context
        self._kind = type(kind.__name__, (kind,), {"odd": self})
        self._server = Server({NAME: Camera(NAME, [Track(video)])}, io.StringIO(), None)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family)
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()

    def url(self, user: str = "", path: str = f"/{NAME}", scheme: str = "rtsp") -> str:
        """Its address, with what stands before the host, as ``user:password@``."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{scheme}://{user}{host}:{self.port}{path}"

    @property
    def playbacks(self) -> list[Playback]:
        """The streams of those connected now."""
        clients = list(self._server.cameras[NAME].clients)
        return [client.playback for client in clients if client.playback is not None]

    def mode(self, mode: Mode) -> None:
        """Puts it in a mode of `rtsp_server`."""
        self._server.cameras[NAME].mode = mode

    def methods(self) -> list[str]:
        """What it was asked so far."""
        return [request.method for request in self.asked]

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._listener, ssl=self._context)
        await self._stop.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.CancelledError):  # the block's end
            await self._kind(self._server, reader, writer, self.connections).serve()

    def run(self) -> None:
        """See `Background.run`."""
        with closing(self._loop):
            self._loop.run_until_complete(self._serve())

    def end(self) -> None:
        """See `Background.end`."""
        self._loop.call_soon_threadsafe(self._stop.set)
