"""The cloud's side of the stream: asks at a steady rate, and repeats itself until Redis has said that it heard."""

import random
import threading
import time
import uuid
from typing import Any

import redis

from benchmarks.chaos.backing import STREAM, Backing, StreamClient
from benchmarks.chaos.ledger import Ledger

PAUSE = 0.1  # s before the same request is sent again
HEARD_MS = 1000  # for a replica to hear it
# Shares of all requests: sent twice on purpose, without a callback URL, for a camera that nobody has.
TWICE, BY_KEY, UNKNOWN = 0.02, 0.05, 0.01


class LoadGenerator:
    """Asks for pictures of some cameras.

    Where the reply of Redis was lost, the same request may lie in the stream twice; it is to be answered once. A
    request that no replica has heard of counts as not sent, where there are replicas: it may go with its master.
    """

    def __init__(self, backing: Backing, ledger: Ledger, codes: list[str], callback_url: str, seed: int) -> None:
        self._client = StreamClient(backing)
        self._replicas = backing.replicas
        self._ledger = ledger
        self._codes = codes
        self._callback_url = callback_url
        self._dice = random.Random(seed)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self.repeats = 0

    def start(self, rate: float) -> None:
        """Asks `rate` times a second, in a thread. What could not be sent in time is sent late."""
        self._thread = threading.Thread(target=self._run, args=(rate,), name="generator", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Asks no more. The request that Redis has not heard yet is still tried."""
        self._stopped.set()

    @property
    def done(self) -> bool:
        """Whether Redis has heard everything."""
        return self._thread is None or not self._thread.is_alive()

    def ask(self, code: str, callback_url: str, *, times: int = 1) -> str:
        """Sends one request until it is acknowledged; its id."""
        request_id = uuid.uuid4().hex
        fields: dict[Any, Any] = {
            "request_id": request_id,
            "camera_code": code,
            "cos_path": f"snap/{code}/{request_id}.jpg",
        }
        if callback_url:
            fields["callback_url"] = callback_url
        self._ledger.asked(request_id, self._send(request_id, fields))
        for _ in range(1, times):
            self._ledger.asked(request_id, self._send(request_id, fields))
        return request_id

    def _send(self, request_id: str, fields: dict[Any, Any]) -> float:
        """When the attempt began that was acknowledged."""
        while True:
            at = time.monotonic()
            try:
                self._add(fields)
            except (redis.RedisError, OSError):
                self.repeats += 1
                self._ledger.perhaps_sent(request_id)
                time.sleep(PAUSE)
            else:
                return at

    def _add(self, fields: dict[Any, Any]) -> None:
        with self._client.use() as client, client.pipeline(transaction=False) as pipeline:
            pipeline.xadd(STREAM, fields)
            if self._replicas:
                pipeline.wait(self._replicas, HEARD_MS)
            replies = pipeline.execute()
        if self._replicas and replies[1] < self._replicas:
            raise redis.ConnectionError("no replica has heard of it")

    def _run(self, rate: float) -> None:
        due = time.monotonic()
        while not self._stopped.wait(max(0.0, due - time.monotonic())):
            due += 1 / rate
            code = "nosuch" if self._dice.random() < UNKNOWN else self._dice.choice(self._codes)
            url = "" if self._dice.random() < BY_KEY else self._callback_url
            self.ask(code, url, times=2 if self._dice.random() < TWICE else 1)
