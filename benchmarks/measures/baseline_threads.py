"""The older way: one process that does everything in threads.

A thread for each camera reads every frame with OpenCV and keeps a copy of the newest; the main thread takes one
request at a time, encodes that copy, uploads it and calls back.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import redis

from benchmarks.measures.baseline_script import QUALITY, StageTimes, UploadAndCallback
from benchmarks.measures.cloud import Endpoints
from benchmarks.measures.process import SPAWN, BenchmarkError, child
from benchmarks.measures.stages import ENCODE, QUEUED, WAITING, Stages

STREAM = GROUP = CONSUMER = "threaded"
STARTING = 20.0  # s
BLOCK = 1000  # ms


class ThreadedService:
    """The benchmark's handle on that process; requests for it go to `STREAM`.

    Attributes:
        stages: of every request that it has told of.
    """

    def __init__(self, connection: Connection) -> None:
        self.stages: dict[str, Stages] = {}
        self._connection = connection
        if not connection.poll(STARTING):
            raise BenchmarkError(f"the process that does everything in threads had no frame within {STARTING:g} s")
        connection.recv()

    def hear(self) -> None:
        """Takes what it has told."""
        while self._connection.poll():
            name, stages = self._connection.recv()
            self.stages[name] = stages


@contextmanager
def threaded_service(url: str, redis_url: str, endpoints: Endpoints) -> Iterator[ThreadedService]:
    """Such a process, for one camera, for the length of the block."""
    ours, theirs = SPAWN.Pipe()
    with child(_serve, url, redis_url, endpoints, theirs):
        theirs.close()
        yield ThreadedService(ours)


class CameraThread:
    """A thread that keeps a copy of the newest frame."""

    def __init__(self, url: str) -> None:
        self.first = threading.Event()
        self._url = url
        self._lock = threading.Lock()
        self._frame: Any = None
        threading.Thread(target=self._read, daemon=True).start()

    def newest(self) -> Any:
        """A copy of the newest frame, BGR."""
        with self._lock:
            return self._frame.copy()

    def _read(self) -> None:
        import cv2

        capture = cv2.VideoCapture(self._url, cv2.CAP_FFMPEG)
        while True:
            done, frame = capture.read()
            if not done:
                raise RuntimeError("OpenCV reads no further frame")
            with self._lock:
                self._frame = frame.copy()
            self.first.set()


def _serve(url: str, redis_url: str, endpoints: Endpoints, connection: Connection) -> None:
    import cv2

    camera, handover = CameraThread(url), UploadAndCallback(endpoints)
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    camera.first.wait()
    connection.send("ready")
    while True:
        answer: Any = client.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=1, block=BLOCK)
        for entry, fields in answer[0][1] if answer else ():
            queued = (time.monotonic_ns() - int(fields["sent_ns"])) / 1e6
            times = StageTimes()
            frame = camera.newest()
            times.end(WAITING)
            jpeg = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
            times.end(ENCODE)
            handover.give(fields["request_id"], fields["camera_code"], jpeg, times)
            client.xack(STREAM, GROUP, entry)
            connection.send((fields["request_id"], {QUEUED: queued, **times.stages}))
