"""The service: one thread reads the stream, `workers` threads answer requests, as many hand the answers over.

So a platform that is slow to hear an answer holds no picture up. An entry is taken only when a worker is free for
it; what cannot be worked on stays in Redis. It is acknowledged only when its result has been handed over or it is
a dead letter. Nothing that goes wrong with one request ends a thread.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import redis

from framesrv import FramesrvError
from framesrv.settings import Settings
from snapd.answered import Answered, Begun, Turn
from snapd.capture import Capture, Captures
from snapd.connection import COMMAND_LIMIT, open_client
from snapd.dead import DeadLetters
from snapd.delivery import Delivery
from snapd.encoder import Encoder
from snapd.errors import DeadLetterError, RedisVersionError, StoreError
from snapd.late import Handover
from snapd.pool import Pool
from snapd.request import Request, parse
from snapd.result import EXPIRED, INTERNAL, NOT_CONNECTED, UPLOAD_FAILED, Result
from snapd.store import Store, open_store
from snapd.stream import Entry, RequestStream

logger = logging.getLogger(__name__)

UPLOAD_LIMIT = 17.0  # s that a store takes at most, with its second try
CALLBACK_PAUSE = 1.0  # s between two callbacks, at most
SPARE = 2.0  # s for taking and encoding a picture
AGAIN = 1.0  # s after which the reading thread goes on when something nobody thought of happened to it


def job_limit(settings: Settings) -> float:
    """The seconds that answering one request takes at most, whatever hangs.

    Redis counts twice: a job whose first command fails sends only the one that cannot be left out. So do
    callbacks: an answer may have to wait for one to end before its own begins.
    """
    callbacks = 2 * settings.result.callback_timeout + CALLBACK_PAUSE
    return settings.snapshot.wait + SPARE + UPLOAD_LIMIT + 2 * callbacks + 2 * COMMAND_LIMIT


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
    """An entry in hand.

    Attributes:
        begun: None where nobody can be told a result, or where that is another host's affair.
        capture: None if no picture will be taken for it.
        is_readable: False if reading it failed in a way nobody thought of.
        is_late: whether it was past its deadline when its turn came.
        result: the answer, once there is one.
    """

    entry: Entry
    request: Request
    begun: Begun | None = None
    capture: Capture | None = None
    is_readable: bool = True
    is_late: bool = False
    result: Result | None = None
    stages: Stages = field(default_factory=Stages)


class Service:
    """Answers requests until `stop` is called."""

    def __init__(
        self,
        settings: Settings,
        client: redis.Redis,
        captures: Captures,
        store: Store,
        delivery: Delivery,
    ) -> None:
        self._settings = settings
        self._limit = job_limit(settings)
        self._stream = RequestStream(settings.redis.url, settings.stream, client, claim_after=self._limit)
        self._answered = Answered(client, self._stream.is_pending, taken_for=2 * self._limit)
        self._dead = DeadLetters(settings.stream, client)
        self._captures = captures
        self._store = store
        self._handover = Handover(delivery)
        self._codes = frozenset(camera.code for camera in settings.cameras)
        self._stopped = threading.Event()
        workers = settings.snapshot.workers
        self._answering: Pool[Job] = Pool("worker", workers, lambda job: self._guard(job, self._answer))
        self._handing: Pool[Job] = Pool("handover", workers, lambda job: self._guard(job, self._hand_over))

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
            on_demand=[camera.code for camera in settings.cameras if camera.decode == "demand"],
        )
        store = open_store(settings.store, connections=snapshot.workers, file=settings.file)
        return cls(settings, client, captures, store, Delivery(settings.result, client))

    def run(self) -> None:
        """Serves in this thread and its workers; returns when what was in hand at `stop` is done.

        Raises:
            RedisVersionError: the first Redis it meets is too old.
        """
        try:
            while not self._stopped.is_set():
                self._answering.man()
                self._handing.man()
                try:
                    self._take()
                except RedisVersionError:
                    raise
                except Exception:
                    logger.exception("Requests could not be taken, going on")
                    self._stopped.wait(AGAIN)
        finally:
            self._drain()

    def stop(self) -> None:
        """Takes no more requests. For any thread, but not for a signal handler."""
        self._stopped.set()
        self._stream.stop()
        self._answering.release()  # the reader may be waiting for a worker

    def _take(self) -> None:
        """Takes as many entries as there are free workers, at least one."""
        self._answering.claim()
        free = 1 + self._answering.claim_free()
        entries: list[Entry] = []
        jobs: list[Job] = []
        try:
            entries += self._stream.take(free)
            # Workers that came free while it waited take the rest of what came together.
            while len(entries) == free and (more := self._answering.claim_free()):
                free += more
                entries += self._stream.take(more, wait=False)
            jobs = self._begin(entries)
        except BaseException:
            for entry in entries:
                self._stream.give_back(entry.id)
            raise
        finally:
            self._answering.release(free - len(jobs))
        # All join before the first can begin: a batch for one camera costs one picture.
        for job in jobs:
            self._answering.give(job)

    def _begin(self, entries: list[Entry]) -> list[Job]:
        jobs = [self._job(entry) for entry in entries]
        told = [job for job in jobs if job.request.request_id and not self._is_of_another_host(job.request)]
        for job, begun in zip(told, self._answered.begin([job.request for job in told]), strict=True):
            job.begun = begun
            request = job.request
            if (
                begun.turn is Turn.GO
                and begun.result is None
                and not request.problem
                and request.camera_code in self._codes
                and not self._is_expired(request)
                and job.entry.deliveries <= self._settings.stream.max_deliveries
            ):
                job.capture = self._captures.join(request.camera_code)
        return jobs

    def _job(self, entry: Entry) -> Job:
        try:
            return Job(entry, parse(entry.id, entry.fields, key_prefix=self._settings.store.key_prefix))
        except Exception:
            logger.exception("Entry cannot be read entry=%s", entry.id)
            return Job(entry, Request(entry.id, "", "", "", ""), is_readable=False)

    def _is_of_another_host(self, request: Request) -> bool:
        ignored = self._settings.stream.unknown_camera == "ignore"
        return ignored and request.camera_code != "" and request.camera_code not in self._codes

    def _is_expired(self, request: Request) -> bool:
        return self._stream.clock.now() - request.sent_at > self._settings.snapshot.deadline

    def _drain(self) -> None:
        deadline = time.monotonic() + self._limit
        left = 0
        for pool in (self._answering, self._handing):  # in this order: the one gives the other work
            pool.end()
            left += pool.join(max(0.0, deadline - time.monotonic()))
        if left:
            logger.warning("Stopped before all was done; it stays pending requests=%d", left)
        self._stream.close()
        self._captures.close()

    def _guard(self, job: Job, step: Callable[[Job], None]) -> None:
        """Does a step of a job; whatever happens, the entry is not forgotten."""
        try:
            step(job)
        except Exception:
            logger.exception("Request failed and stays pending entry=%s", job.entry.id)
            self._stream.give_back(job.entry.id)
        except BaseException:  # the thread ends, the request does not
            self._stream.give_back(job.entry.id)
            raise

    def _answer(self, job: Job) -> None:
        """Gets the answer and passes it on; or ends the entry, if no answer is due."""
        entry, request = job.entry, job.request
        if not job.is_readable:
            self._bury(job, "cannot be read")
            return
        if job.begun is None:
            if not request.request_id:
                logger.warning("Request without a usable id dropped entry=%s reason=%s", entry.id, request.problem)
            self._stream.acknowledge(entry.id)
            return
        if job.begun.turn is Turn.DONE:
            logger.info("Request was answered before request_id=%r entry=%s", request.request_id, entry.id)
            self._stream.acknowledge(entry.id)
            return
        if job.begun.turn is Turn.WAIT:
            self._stream.give_back(entry.id, counts=False)
            return
        if entry.deliveries > self._settings.stream.max_deliveries:
            self._bury(job, f"delivered {entry.deliveries - 1} times without an answer")
            return
        job.is_late = self._is_expired(request)
        job.stages.add("queued", self._stream.clock.now() - request.sent_at)
        job.result = job.begun.result or self._result(job)
        self._handing.claim()
        self._handing.give(job)

    def _hand_over(self, job: Job) -> None:
        entry, request, result = job.entry, job.request, job.result
        if result is None:
            raise ValueError("there is no result to hand over")
        job.stages.end("place")
        via = self._handover.deliver(request, result, late=job.is_late)
        job.stages.end("deliver")
        if via is None:
            self._stream.give_back(entry.id)
            return
        self._stream.acknowledge(entry.id, self._answered.done(request))
        logger.log(
            logging.DEBUG if result.status == "ok" else logging.INFO,
            "Answered request_id=%r camera=%r status=%s message=%r via=%s %s",
            request.request_id,
            request.camera_code,
            result.status,
            result.message,
            via,
            job.stages,
        )

    def _bury(self, job: Job, reason: str) -> None:
        """Makes a dead letter of an entry, and tells the sender."""
        entry, request, begun = job.entry, job.request, job.begun
        try:
            letter, done = self._dead.letter(entry, reason), self._answered.done(request)
            self._stream.forget(entry.id, lambda pipeline: (letter(pipeline), begun and done(pipeline)))
        except (redis.RedisError, DeadLetterError) as error:
            logger.error("No dead letter made, entry stays pending entry=%s reason=%r", entry.id, str(error))  # noqa: TRY400
            self._stream.give_back(entry.id)
            return
        via = None
        if begun:
            result = begun.result or Result.error(request.request_id, request.camera_code, INTERNAL)
            via = self._handover.deliver(request, result, late=True)
        logger.error(
            "Dead letter request_id=%r entry=%s reason=%r answered_via=%s", request.request_id, entry.id, reason, via
        )

    def _result(self, job: Job) -> Result:
        """The answer, remembered if it took work to get."""
        request = job.request
        request_id, code = request.request_id, request.camera_code
        if request.problem:
            return Result.error(request_id, code, request.problem)
        if job.is_late:
            return Result.error(request_id, code, EXPIRED)
        if job.capture is None:
            return Result.error(request_id, code, NOT_CONNECTED.format(code=code))
        try:
            result = self._snapshot(request, job.capture, job.stages)
        except Exception:
            logger.exception("Request failed request_id=%r", request_id)
            result = Result.error(request_id, code, INTERNAL)
        if job.begun and job.begun.remembered:
            self._answered.keep(request, result)
            job.stages.end("keep")
        return result

    def _snapshot(self, request: Request, capture: Capture, stages: Stages) -> Result:
        request_id, code = request.request_id, request.camera_code
        stages.end("wait")
        try:
            picture = capture.picture()
        except FramesrvError as error:
            logger.warning("No picture request_id=%r reason=%r", request_id, str(error))
            return Result.error(request_id, code, NOT_CONNECTED.format(code=code))
        finally:
            stages.end("capture")
        stages.add("convert", picture.converted)
        stages.add("encode", picture.encoded)
        try:
            url = self._store.put(request.cos_path, picture.jpeg)
        except StoreError as error:
            level = logging.DEBUG if error.told else logging.WARNING
            logger.log(level, "Upload failed request_id=%r reason=%r", request_id, str(error))
            return Result.error(request_id, code, UPLOAD_FAILED)
        finally:
            stages.end("upload")
        return Result.ok(request_id, code, url)
