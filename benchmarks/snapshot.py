"""Snapshots: from a request on the stream to its callback, and how many a second.

Beside it stand the same steps done by hand, one after the other in this process, as a script would.
"""

import random
import statistics
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import redis
import requests
import simplejpeg
from qcloud_cos import CosConfig, CosS3Client

from benchmarks.cloud import Cloud, Place, cloud
from benchmarks.host import Host
from benchmarks.process import shielded
from benchmarks.progress import bar, rounds
from benchmarks.table import Figure, Report, Target
from benchmarks.times import MS, Times
from framesrv import FrameReader
from tests.redis_server import RedisServer
from tests.wvp import CALLBACK_PATH

STREAM = "edge_snap_request"
WORKERS = (8, 16)
CAMERAS = 4
BURST = 200  # requests
BURSTS = 3  # of each kind, in turns; the median counts
SAMPLE = 20  # requests one at a time: their rate does not change with their number
UPLOAD_DELAY, CALLBACK_DELAY = 0.08, 0.02  # s
BLOCK = 10  # requests of one kind in a row
LONGEST_PAUSE = 0.04  # s before a request, so that it meets the camera at any point between two frames


def run(seconds: float) -> Report:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="framesrv-benchmark-")))
        with shielded():
            server = stack.enter_context(RedisServer(directory / "redis"))
        far = stack.enter_context(cloud())
        place = far.place
        store = {"bucket": place.bucket, "secret_id": place.secret_id, "secret_key": place.secret_key}
        store |= {"scheme": "http", "domain": place.domain}
        host = stack.enter_context(Host(directory, CAMERAS, {"redis": {"url": server.url}, "store": store}))
        client = stack.enter_context(server.client())
        by_hand = stack.enter_context(ByHand(host, place))
        queue = Queue(client, place.callback_url)

        stack.enter_context(host.decoder(host.codes[0]))
        with host.snapd(WORKERS[0]):
            latency = _latency(host.codes[0], queue, by_hand, far, seconds)
        for code in host.codes[1:]:
            stack.enter_context(host.decoder(code))
        throughput = _throughput(host, queue, by_hand, far)
    return Report(
        "snapshot: cameras of 1920x1080 at 25/s over RTSP; Redis, storage and platform on loopback",
        [*latency, *throughput],
        [
            f"served: {BURSTS} bursts of {BURST} over {CAMERAS} cameras, {UPLOAD_DELAY * 1000:.0f} ms added to each "
            f"upload, {CALLBACK_DELAY * 1000:.0f} ms to each callback; one at a time: {SAMPLE} of them",
        ],
    )


class Queue:
    """Asks as the cloud does."""

    def __init__(self, client: redis.Redis, callback_url: str) -> None:
        self._client = client
        self._callback_url = callback_url

    def send(self, *codes: str) -> None:
        """A request for each code, all in one go."""
        with self._client.pipeline(transaction=False) as pipeline:
            for code in codes:
                name = uuid.uuid4().hex
                fields = {
                    "request_id": name,
                    "camera_code": code,
                    "cos_path": f"snap/{name}.jpg",
                    "callback_url": self._callback_url,
                }
                pipeline.xadd(STREAM, fields)  # type: ignore[arg-type]
            pipeline.execute()


class ByHand:
    """The steps of a snapshot in a row, with everything kept that can be: readers, connections, the COS client."""

    def __init__(self, host: Host, place: Place) -> None:
        self._place = place
        self._readers = {code: FrameReader(code, prefix=host.prefix) for code in host.codes}
        config = CosConfig(
            SecretId=place.secret_id, SecretKey=place.secret_key, Scheme="http", Domain=place.domain, Timeout=(3, 10)
        )
        self._store = CosS3Client(config, retry=0)
        self._session = requests.Session()
        self._session.trust_env = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reader in self._readers.values():
            reader.close()
        self._session.close()

    def serve(self, code: str) -> None:
        name = uuid.uuid4().hex
        key = f"snap/{name}.jpg"
        with self._readers[code].latest(max_age=2.0) as frame:
            bgr = frame.bgr()
        jpeg = simplejpeg.encode_jpeg(bgr, 85, "BGR", "420")
        self._store.put_object(Bucket=self._place.bucket, Body=jpeg, Key=key, ContentType="image/jpeg")
        url = self._store.get_presigned_url(self._place.bucket, key, "GET", Expired=3600)
        result = {"request_id": name, "camera_code": code, "status": "ok", "url": url}
        self._session.post(self._place.callback_url + CALLBACK_PATH, json=result, timeout=5).raise_for_status()


def _latency(code: str, queue: Queue, by_hand: ByHand, far: Cloud, seconds: float) -> list[Figure]:
    """In turns, a block of requests to snapd and a block by hand."""
    ways: list[tuple[Callable[[str], None], Times]] = [(queue.send, Times()), (by_hand.serve, Times())]
    for serve, _ in ways:  # connections are made, modules imported
        for _ in range(BLOCK):
            serve(code)
            far.callback()
    for _ in rounds("request to callback", seconds, at_least=5):
        for serve, times in ways:
            for _ in range(BLOCK):
                time.sleep(random.uniform(0, LONGEST_PAUSE))
                began = time.monotonic_ns()
                serve(code)
                times.add(far.callback().answered_ns - began)
    ours, hand = (times for _, times in ways)
    return [
        Figure(
            f"request to callback, {what}",
            ours.quantile(percent, MS),
            "ms",
            "the same steps by hand",
            hand.quantile(percent, MS),
            target,
        )
        for what, percent, target in (("median", 50, Target("ratio", 1.5)), ("p90", 90, None), ("p99", 99, None))
    ]


def _throughput(host: Host, queue: Queue, by_hand: ByHand, far: Cloud) -> list[Figure]:
    far.delay(UPLOAD_DELAY, CALLBACK_DELAY)
    began = ended = time.monotonic_ns()
    with bar("requests a second, one at a time") as show:
        for number, code in enumerate(islice(cycle(host.codes), SAMPLE)):
            by_hand.serve(code)
            ended = far.callback().answered_ns
            show((number + 1) / SAMPLE)
    single = SAMPLE / (ended - began) * 1e9
    rates: list[list[float]] = [[], []]
    for number in range(BURSTS):
        for workers, found in zip(WORKERS, rates, strict=True):
            found.append(_burst(host, queue, far, workers, f"{number + 1} of {BURSTS}"))
    few, many = (statistics.median(found) for found in rates)
    return [
        Figure(
            f"served, {WORKERS[0]} workers", few, "/s", "one at a time by hand", single, Target("value", 60, True)
        ),
        Figure(f"served, {WORKERS[1]} workers", many, "/s", f"{WORKERS[0]} workers", few, Target("ratio", 1, True)),
    ]


def _burst(host: Host, queue: Queue, far: Cloud, workers: int, which: str) -> float:
    """Requests served a second."""
    with host.snapd(workers), bar(f"requests a second, {workers} workers, {which}") as show:
        queue.send(*host.codes)
        for _ in host.codes:  # it is up
            far.callback()
        began = ended = time.monotonic_ns()
        queue.send(*islice(cycle(host.codes), BURST))
        for number in range(BURST):
            ended = far.callback().answered_ns
            show((number + 1) / BURST)
    return BURST / (ended - began) * 1e9
