"""The service: one thread reads the stream, `workers` threads answer requests.

An entry is taken only when a worker is free for it; what cannot be worked on stays in Redis. It is
acknowledged only when its result has been handed over.
"""

import logging
import queue
import threading
import time
from dataclasses import dataclass, field
from typing import Self

from framesrv import FramesrvError
from framesrv.settings import Settings
from snapd.capture import Capture, Captures
from snapd.delivery import Delivery
from snapd.encoder import Encoder
from snapd.errors import StoreError
from snapd.request import Request, parse
from snapd.result import INTERNAL, NOT_CONNECTED, UPLOAD_FAILED, Result
from snapd.store import Store, open_store
from snapd.stream import Entry, RequestStream, open_client

logger = logging.getLogger(__name__)

DRAIN = 45.0  # s that requests in hand are given at the end; more than an upload tried twice and a callback


class Stages:
    """How long each stage of one request took, as the ``key=value`` of a log line."""

    def __init__(self) -> None:
        self._times: list[str] = []
        self._last = time.perf_counter()

    def add(self, name: str, seconds: float) -> None:
        """A stage that was measured elsewhere."""
        self._times.append(f"{name}_ms={seconds * 1000:.1f}")

    def end(self, name: str) -> None:
        """A stage that began where the last one ended."""
        now = time.perf_counter()
        self.add(name, now - self._last)
        self._last = now

    def __str__(self) -> str:
        return " ".join(self._times)


@dataclass(slots=True)
class Job:
    """A request in hand; `capture` is None if no picture will be taken for it."""

    request: Request
    capture: Capture | None
    stages: Stages = field(default_factory=Stages)


class Service:
    """Answers requests until `stop` is called."""

    def __init__(
        self, settings: Settings, stream: RequestStream, captures: Captures, store: Store, delivery: Delivery
    ) -> None:
        self._settings = settings
        self._stream = stream
        self._captures = captures
        self._store = store
        self._delivery = delivery
        self._codes = frozenset(camera.code for camera in settings.cameras)
        self._free = threading.Semaphore(settings.snapshot.workers)
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._stopped = threading.Event()

    @classmethod
    def open(cls, settings: Settings, encoder: Encoder | None = None) -> Self:
        """The service of a configuration.

        Raises:
            ConfigError: the store's settings are incomplete.
            EncoderError: the encoder is not on this host.
        """
        snapshot = settings.snapshot
        client = open_client(settings.redis.url)
        captures = Captures(
            encoder or Encoder(snapshot.encoder, snapshot.quality),
            prefix=settings.shm.prefix,
            max_age=snapshot.max_age,
            wait=snapshot.wait,
        )
        return cls(
            settings,
            RequestStream(settings.redis.url, settings.stream, client),
            captures,
            open_store(settings.store, connections=snapshot.workers),
            Delivery(settings.result, client),
        )

    def run(self) -> None:
        """Serves in this thread and its workers; returns when what was in hand at `stop` is done."""
        threads = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            for number in range(self._settings.snapshot.workers)
        ]
        for thread in threads:
            thread.start()
        try:
            while not self._stopped.is_set():
                self._take()
        finally:
            self._drain(threads)

    def stop(self) -> None:
        """Takes no more requests. For any thread, but not for a signal handler."""
        self._stopped.set()
        self._stream.stop()
        self._free.release()  # the reader may be waiting for a worker

    def _take(self) -> None:
        """Takes as many entries as there are free workers, at least one."""
        self._free.acquire()
        free = 1 + self._claim()
        entries = self._stream.take(free)
        # Workers that came free while it waited take the rest of what came together.
        while len(entries) == free and (more := self._claim()):
            free += more
            entries += self._stream.take(more, wait=False)
        if free > len(entries):
            self._free.release(free - len(entries))
        # All join before the first can begin: a batch for one camera costs one picture.
        for job in [self._job(entry) for entry in entries]:
            self._jobs.put(job)

    def _claim(self) -> int:
        """Claims every worker that is free now, and says how many those are."""
        count = 0
        while self._free.acquire(blocking=False):
            count += 1
        return count

    def _job(self, entry: Entry) -> Job:
        request = parse(entry.id, entry.fields, key_prefix=self._settings.store.key_prefix)
        served = request.request_id and not request.problem and request.camera_code in self._codes
        return Job(request, self._captures.join(request.camera_code) if served else None)

    def _drain(self, threads: list[threading.Thread]) -> None:
        for _ in threads:
            self._jobs.put(None)
        deadline = time.monotonic() + DRAIN
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        left = sum(thread.is_alive() for thread in threads)
        if left:
            logger.warning("Stopped before all was done; it stays pending requests=%d", left)
        self._stream.close()
        self._captures.close()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._serve(job)
            except Exception:
                logger.exception("Request failed and stays pending entry=%s", job.request.entry_id)
                self._stream.give_back(job.request.entry_id)
            finally:
                self._free.release()

    def _serve(self, job: Job) -> None:
        request, stages = job.request, job.stages
        if not request.request_id:
            logger.warning("Request without request_id dropped entry=%s", request.entry_id)
            self._stream.acknowledge(request.entry_id)
            return
        if not request.problem and job.capture is None and self._settings.stream.unknown_camera == "ignore":
            self._stream.acknowledge(request.entry_id)
            return
        stages.add("queued", time.time() - request.sent_at)
        try:
            result = self._answer(job)
        except Exception:
            logger.exception("Request failed request_id=%r", request.request_id)
            result = Result.error(request.request_id, request.camera_code, INTERNAL)
        via = self._delivery.deliver(request, result)
        stages.end("deliver")
        if via is None:
            self._stream.give_back(request.entry_id)
            return
        self._stream.acknowledge(request.entry_id)
        logger.log(
            logging.DEBUG if result.status == "ok" else logging.INFO,
            "Answered request_id=%r camera=%r status=%s message=%r via=%s %s",
            request.request_id,
            request.camera_code,
            result.status,
            result.message,
            via,
            stages,
        )

    def _answer(self, job: Job) -> Result:
        request, stages = job.request, job.stages
        request_id, code = request.request_id, request.camera_code
        if request.problem:
            return Result.error(request_id, code, request.problem)
        if job.capture is None:
            return Result.error(request_id, code, NOT_CONNECTED.format(code=code))
        stages.end("wait")
        try:
            picture = job.capture.picture()
        except FramesrvError as error:
            stages.end("capture")
            logger.warning("No picture request_id=%r reason=%r", request_id, str(error))
            return Result.error(request_id, code, NOT_CONNECTED.format(code=code))
        stages.end("capture")
        stages.add("convert", picture.converted)
        stages.add("encode", picture.encoded)
        try:
            url = self._store.put(request.cos_path, picture.jpeg)
        except StoreError as error:
            logger.warning("Upload failed request_id=%r reason=%r", request_id, str(error))
            return Result.error(request_id, code, UPLOAD_FAILED)
        finally:
            stages.end("upload")
        return Result.ok(request_id, code, url)
