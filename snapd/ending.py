"""How a request ends: its result handed over and its entry acknowledged, or a dead letter made of it."""

import logging

import redis

from framesrv.process.unforeseen import Unforeseen
from snapd.answers.handover import Via
from snapd.errors import DeadLetterError
from snapd.job import Job
from snapd.requests.cause import explain
from snapd.requests.dead_letters import DeadLetters
from snapd.requests.once import IdempotencyKeys
from snapd.requests.stream import RequestStream
from snapd.requests.trouble import Refusals, is_passing, is_refusal
from snapd.telemetry.trace import Listener, Trace, keep
from snapd.wire.messages import INTERNAL
from snapd.wire.result import Result

logger = logging.getLogger("snapd.service")


class Endings:
    """Ends requests; used by several threads at once.

    Args:
        stream: whose entries they are.
        answered: remembers what was answered.
        dead: makes dead letters.
        client: tells a sender where the time went.
        refusals: is told what Redis refuses.
        on_answered: is called for each request that was answered.
        unforeseen: tells of what nobody thought of.
    """

    def __init__(
        self,
        stream: RequestStream,
        answered: IdempotencyKeys,
        dead: DeadLetters,
        client: redis.Redis,
        refusals: Refusals,
        on_answered: Listener,
        unforeseen: Unforeseen,
    ) -> None:
        self._stream, self._answered, self._dead = stream, answered, dead
        self._client, self._refusals = client, refusals
        self._on_answered, self._unforeseen = on_answered, unforeseen

    def hand_over(self, job: Job) -> None:
        """Hands the result over, and then forgets the entry."""
        entry, request, result = job.entry, job.request, job.result
        if result is None:
            raise ValueError("there is no result to hand over")
        job.stopwatch.end("place")
        via = self._deliver(job, result, late=job.is_late)
        if isinstance(via, redis.RedisError):
            self._stream.give_back(entry.id, counts=not is_passing(via), why=explain(via))
            return
        done = self._answered.done(request, result, job.begun, via) if job.begun else None
        self._stream.acknowledge(entry.id, done)
        logger.log(
            logging.DEBUG if result.status == "ok" else logging.INFO,
            "Answered status=%s message=%r via=%s %s",
            result.status,
            result.message,
            via,
            job.stopwatch,
        )
        self._tell(job, result)

    def bury(self, job: Job, reason: str) -> None:
        """Makes a dead letter of an entry, and tells the sender."""
        entry, request, begun = job.entry, job.request, job.begun
        given = begun.result if begun else None
        result = given or Result.error(request.request_id, request.camera_code, INTERNAL)
        try:
            self._dead.bury(entry, reason)
        except (redis.RedisError, DeadLetterError) as error:
            level = logging.DEBUG if is_refusal(error) else logging.ERROR  # that is told once, for all
            logger.log(level, "No dead letter made, entry stays pending reason=%r", explain(error))
            self._stream.give_back(entry.id)
            return
        self._stream.acknowledge(
            entry.id, self._answered.done(request, result, begun, "dead letter") if begun else None
        )
        via: Via | redis.RedisError | None = None
        if begun:
            job.stopwatch.end("place")
            via = self._deliver(job, result, late=True)
            if not isinstance(via, redis.RedisError):
                self._tell(job, result)
        logger.error("Dead letter reason=%r answered_via=%s", reason, None if isinstance(via, Exception) else via)

    def _deliver(self, job: Job, result: Result, *, late: bool) -> Via | redis.RedisError:
        """Hands a result over, and says how, or why not."""
        try:
            return job.configured.handover.deliver(job.request, result, late=late)
        except redis.RedisError as error:
            if is_refusal(error):
                self._refusals.tell("SET", error)
            else:
                logger.warning("Result could not be handed over reason=%r", explain(error))
            return error
        finally:
            job.stopwatch.end("deliver")

    def _tell(self, job: Job, result: Result) -> None:
        """Tells whoever listens that a request was answered. What goes wrong with that is nobody else's affair."""
        try:
            trace = Trace.of(job.request, result, job.stopwatch)
            self._on_answered(trace)
            if job.request.wants_trace:
                keep(self._client, trace)
        except redis.RedisError as error:
            logger.warning("The sender cannot see where the time went reason=%r", explain(error))
        except Exception as error:  # noqa: BLE001  it is told
            self._unforeseen.tell("Nobody was told of the answer, going on", error)
