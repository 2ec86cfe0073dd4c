"""Viewers: what twenty of one stream cost those who ask for snapshots, and how many pictures are encoded for them.

In turns, a block of requests with nobody watching and a block with everybody, so that noise falls on both.
"""

import random
import re
import selectors
import socket
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import redis

from benchmarks.measures.cloud import Cloud, cloud
from benchmarks.measures.process import SPAWN, BenchmarkError, child, command, shielded, wait_until
from benchmarks.measures.progress import rounds
from benchmarks.measures.table import Figure, Goal, Report
from benchmarks.measures.times import MS, Times
from framesrv import FrameReader
from framesrv.segment.mapping import Segment
from tests.support.processes import write_config
from tests.support.redis_server import RedisServer

STREAM = "edge_snap_request"
CAMERA, OTHER = "camera1", "camera2"  # the one that is watched, and one that is not
VIEWERS = 20
BLOCK = 20  # requests of one kind in a row
LONGEST_PAUSE = 0.04  # s before a request, so that it meets the camera at any point between two frames
AT_LEAST = 10  # rounds


def run(seconds: float) -> Report:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="framesrv-benchmark-")))
        with shielded():
            server = stack.enter_context(RedisServer(directory / "redis"))
        far = stack.enter_context(cloud())
        client = stack.enter_context(server.client())
        url = stack.enter_context(_host(directory, server.url, far))
        crowd = stack.enter_context(_crowd(url))
        without, watched = Times(), Times()
        pictures = frames = 0
        for number in rounds("with viewers and without", 2 * seconds, AT_LEAST):
            _block(client, far, without if number else Times())
            crowd.send(True)
            crowd.recv()
            before = _metrics(url)
            _block(client, far, watched if number else Times())
            after = _metrics(url)
            crowd.send(False)
            crowd.recv()
            pictures += int(after["snapd_page_pictures_total"] - before["snapd_page_pictures_total"])
            name = f'framesrv_camera_frames_total{{camera="{CAMERA}"}}'
            frames += int(after[name] - before[name])
        memory = [after[f"{name}_process_resident_memory_bytes"] / 1e6 for name in ("snapd", "snapd_page")]
    if pictures < AT_LEAST:
        raise BenchmarkError(f"the viewers were shown {pictures} pictures")
    figures = [
        Figure(
            f"request to callback, {what}, {VIEWERS} viewers",
            watched.quantile(percent, MS),
            "ms",
            "nobody watches",
            without.quantile(percent, MS),
            target,
        )
        for what, percent, target in (("median", 50, None), ("p90", 90, None), ("p99", 99, Goal("ratio", 1.5)))
    ]
    return Report(
        "viewers: an MJPEG stream of 1280x720 at 25/s; requests go to that camera and another in turns",
        [
            *figures,
            Figure(
                f"pictures encoded for {VIEWERS} viewers",
                pictures,
                "",
                "frames published",
                frames,
                Goal("ratio", 1),
            ),
            Figure("resident memory of the pages' process", memory[1], "MB", "that of snapd", memory[0]),
        ],
        [f"{len(watched)} requests with viewers, {len(without)} without; a stream brings ten pictures a second"],
    )


def _block(client: redis.Redis, far: Cloud, times: Times) -> None:
    for number in range(BLOCK):
        time.sleep(random.uniform(0, LONGEST_PAUSE))
        name = uuid.uuid4().hex
        began = time.monotonic_ns()
        client.xadd(
            STREAM,
            {
                "request_id": name,
                "camera_code": (CAMERA, OTHER)[number % 2],
                "cos_path": f"snap/{name}.jpg",
                "callback_url": far.endpoints.callback_url,
            },
        )
        times.add(far.callback().answered_ns - began)


@contextmanager
def _host(directory: Path, redis_url: str, far: Cloud) -> Iterator[str]:
    """Two cameras and snapd; the address of its pages."""
    endpoints, prefix = far.endpoints, f"benchmark-{uuid.uuid4().hex[:8]}"
    store = {"bucket": endpoints.bucket, "secret_id": endpoints.secret_id, "secret_key": endpoints.secret_key}
    sections = {
        "redis": {"url": redis_url},
        "store": store | {"scheme": "http", "domain": endpoints.domain},
        "shm": {"prefix": prefix},
        "http": {"listen": "127.0.0.1:0"},
    }
    cameras = [{"code": code, "source": "test:1280x720@25"} for code in (CAMERA, OTHER)]
    config = str(write_config(directory / "framesrv.toml", sections, cameras))
    log = directory / "snapd.log"
    python = [sys.executable, "-m"]
    try:
        with ExitStack() as stack:
            for code in (CAMERA, OTHER):
                words = [*python, "framesrv", "decode", code, "--config", config]
                stack.enter_context(command(words, directory / f"{code}.log"))
            stack.enter_context(command([*python, "snapd", "run", "--config", config], log))
            for code in (CAMERA, OTHER):
                with FrameReader(code, prefix=prefix) as reader:
                    reader.latest(timeout=20).release()
            wait_until(lambda: re.search(r"address=http", log.read_text()), "an address of the pages")
            found = re.search(r"address=(http://\S+)/", log.read_text())
            yield found[1] if found else ""
    finally:
        for code in (CAMERA, OTHER):
            Segment.remove_abandoned(prefix, code)


def _metrics(url: str) -> dict[str, float]:
    with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


@contextmanager
def _crowd(url: str) -> Iterator[Connection]:
    """Viewers in a process of their own: they come when told True and go when told False, and say when they have."""
    ours, theirs = SPAWN.Pipe()
    with child(_watch, theirs, url.rpartition(":")[2]):
        yield ours


def _watch(connection: Connection, port: str) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        viewers: list[socket.socket] = []
        while True:
            for key, _ in selector.select():
                if key.fileobj is not connection:
                    with suppress(ConnectionError):
                        key.fileobj.recv(1 << 20)  # type: ignore[union-attr]
                elif connection.recv():
                    viewers = [_viewer(int(port)) for _ in range(VIEWERS)]
                    for viewer in viewers:
                        selector.register(viewer, selectors.EVENT_READ)
                    connection.send(True)
                else:
                    for viewer in viewers:
                        selector.unregister(viewer)
                        viewer.close()
                    connection.send(True)


def _viewer(port: int) -> socket.socket:
    """One that has its first picture."""
    viewer = socket.create_connection(("127.0.0.1", port), 20)
    viewer.sendall(f"GET /cameras/{CAMERA}.mjpeg HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
    viewer.recv(1 << 16)
    return viewer
