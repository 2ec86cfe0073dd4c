"""The cloud's side of a snapshot: object storage and the platform that is called back, over HTTP on loopback.

They run in a process of their own, so that their work does not fall to what is measured.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TypeVar

from benchmarks.measures.process import SPAWN, BenchmarkError, child
from tests.support.cos import CosServer
from tests.support.http_server import HttpRequest, HttpResponse
from tests.support.wvp import WvpServer

TIMEOUT = 30.0  # s

Message = TypeVar("Message")


@dataclass(frozen=True, slots=True)
class Callback:
    """A result as the platform got it, at the monotonic time `answered_ns`.

    One that does not conform has the status "bad" and the reason as its message.
    """

    request_id: str
    status: str
    message: str
    answered_ns: int


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the cloud is, and as whom to log in."""

    domain: str
    bucket: str
    secret_id: str
    secret_key: str
    callback_url: str


class Cloud:
    """The benchmark's handle on that process."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.endpoints = self._receive(Endpoints, "the cloud is not there")

    def delay(self, upload: float, callback: float) -> None:
        """Adds seconds to each from now on."""
        self._connection.send((upload, callback))

    def callback(self) -> Callback:
        """The next result, when it comes."""
        result = self._receive(Callback, "no callback came")
        if result.status != "ok":
            raise BenchmarkError(f"request {result.request_id} was answered {result.status}: {result.message}")
        return result

    def results(self) -> list[Callback]:
        """Those that have come, of whatever status."""
        found = []
        while self._connection.poll():
            found.append(self._receive(Callback, "no callback came"))
        return found

    def _receive(self, kind: type[Message], failure: str) -> Message:
        if not self._connection.poll(TIMEOUT):
            raise BenchmarkError(f"{failure} within {TIMEOUT:g} s")
        message = self._connection.recv()
        assert isinstance(message, kind)
        return message


@contextmanager
def cloud() -> Iterator[Cloud]:
    """A cloud, for the length of the block."""
    ours, theirs = SPAWN.Pipe()
    with child(_serve, theirs):
        yield Cloud(ours)


class Bucket(CosServer):
    """Verifies and answers as COS, and forgets what it was given."""

    def answer(self, request: HttpRequest) -> HttpResponse:
        response = super().answer(request)
        with self.changed:
            self.objects.clear()
            self.puts.clear()
        return response


class Platform(WvpServer):
    """Tells the benchmark of every result, and of what should have been one."""

    def __init__(self, connection: Connection) -> None:
        super().__init__()
        self._connection = connection

    def answer(self, request: HttpRequest) -> HttpResponse:
        now = time.monotonic_ns()
        response = super().answer(request)
        with self.changed:
            for result in self.results:
                self._connection.send(Callback(result.request_id, result.status, result.message, now))
            for bad in self.bad:
                self._connection.send(Callback("", "bad", bad.reason, now))
            self.results.clear()
            self.bad.clear()
        return response


def _serve(connection: Connection) -> None:
    with Bucket() as bucket, Platform(connection) as platform:
        connection.send(Endpoints(bucket.domain, bucket.bucket, bucket.secret_id, bucket.secret_key, platform.url))
        while True:
            bucket.delay, platform.delay = connection.recv()
