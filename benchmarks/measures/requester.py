"""Requests for snapshots as the cloud sends them, and the surroundings that they need."""

import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from benchmarks.measures.cloud import Cloud, cloud
from benchmarks.measures.host import Sections
from benchmarks.measures.process import shielded
from tests.support.redis_server import RedisServer

STREAM = "edge_snap_request"


class Queue:
    """Asks as the cloud does.

    Each request also says when it was sent, on the monotonic clock, for those who have no other means to know.
    """

    def __init__(self, client: redis.Redis, callback_url: str) -> None:
        self._client = client
        self._callback_url = callback_url

    def send(self, *codes: str, stream: str = STREAM) -> list[str]:
        """A request for each code, all in one go; their ids."""
        names = [uuid.uuid4().hex for _ in codes]
        with self._client.pipeline(transaction=False) as pipeline:
            for name, code in zip(names, codes, strict=True):
                fields = {
                    "request_id": name,
                    "camera_code": code,
                    "cos_path": f"snap/{name}.jpg",
                    "callback_url": self._callback_url,
                    "sent_ns": time.monotonic_ns(),
                }
                pipeline.xadd(stream, fields)  # type: ignore[arg-type]
            pipeline.execute()
        return names


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Redis, the cloud, and what a host's configuration says of both."""

    redis_url: str
    client: redis.Redis
    cloud: Cloud
    queue: Queue
    sections: Sections


@contextmanager
def surroundings(directory: Path) -> Iterator[Surroundings]:
    """Them, for the length of the block."""
    with ExitStack() as stack:
        with shielded():
            server = stack.enter_context(RedisServer(directory / "redis"))
        far = stack.enter_context(cloud())
        client = stack.enter_context(server.client())
        place = far.place
        store = {"bucket": place.bucket, "secret_id": place.secret_id, "secret_key": place.secret_key}
        store |= {"scheme": "http", "domain": place.domain}
        sections: Sections = {"redis": {"url": server.url}, "store": store}
        yield Surroundings(server.url, client, far, Queue(client, place.callback_url), sections)
