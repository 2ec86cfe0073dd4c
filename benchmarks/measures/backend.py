"""Requests for snapshots as the cloud sends them, and the backend that they need."""

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


class Requester:
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
class Backend:
    """Redis, the cloud, and what a host's configuration says of both."""

    redis_url: str
    client: redis.Redis
    cloud: Cloud
    requester: Requester
    sections: Sections


@contextmanager
def open_backend(directory: Path) -> Iterator[Backend]:
    """Them, for the length of the block."""
    with ExitStack() as stack:
        with shielded():
            server = stack.enter_context(RedisServer(directory / "redis"))
        far = stack.enter_context(cloud())
        client = stack.enter_context(server.client())
        endpoints = far.endpoints
        store = {"bucket": endpoints.bucket, "secret_id": endpoints.secret_id, "secret_key": endpoints.secret_key}
        store |= {"scheme": "http", "domain": endpoints.domain}
        sections: Sections = {"redis": {"url": server.url}, "store": store}
        yield Backend(server.url, client, far, Requester(client, endpoints.callback_url), sections)
