"""What one request is answered with: the URL of a picture or a clip, those of several pictures, or an error.

An answer is found in steps: between them it waits for a later moment, and needs no worker.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Generator

from framesrv import FramesrvError, FrameUnavailableError, HistoryUnavailableError
from framesrv.process.unforeseen import Unforeseen
from snapd.errors import ClipError, CropError, EncoderError, StoreError
from snapd.job import Job, Steps
from snapd.limits import UPLOAD_LIMIT
from snapd.pictures.clips import GRACE
from snapd.pictures.encoder import Jpeg
from snapd.stores.facts import JPEG, MP4
from snapd.telemetry.counters import Counters
from snapd.wire.burst import Burst
from snapd.wire.messages import (
    CROP_OUTSIDE,
    DAMAGED_THEN,
    EXPIRED,
    INTERNAL,
    NO_CLIP,
    NO_HISTORY,
    NO_OVERLAY,
    NOT_CONNECTED,
    NOT_IN_HISTORY,
    UPLOAD_FAILED,
)
from snapd.wire.moment import Span
from snapd.wire.result import Result

logger = logging.getLogger(__name__)

UPLOAD = 0.3  # s that the first upload of several is thought to take


def find_answer(job: Job, counters: Counters, unforeseen: Unforeseen) -> Steps:
    """The steps to the answer. Each gives the monotonic time at which to take the next; the last the answer.

    With it goes whether it took work to get.

    Args:
        job: to be answered.
        counters: counts uploads that fail.
        unforeseen: tells of what nobody thought of.
    """
    request = job.request
    request_id, code = request.request_id, request.camera_code
    if request.problem:
        return Result.error(request_id, code, request.problem), False
    if job.is_late:
        return Result.error(request_id, code, EXPIRED), False
    if not job.is_served:
        return Result.error(request_id, code, NOT_CONNECTED.format(code=code), "not_configured"), False
    if not request.is_of_now and job.moment > time.time() + job.configured.settings.snapshot.wait:
        return Result.error(request_id, code, NOT_IN_HISTORY.format(code=code), "history_after"), False
    try:
        if request.clip:
            return (yield from _clip(job, request.clip, counters)), True
        if request.burst:
            return (yield from _several(job, request.burst, counters)), True
        return _one(job, counters), True
    except Exception as error:  # noqa: BLE001  it is told
        unforeseen.tell("Request failed", error)
        return Result.error(request_id, code, INTERNAL), True


class _FailedError(Exception):
    """What the sender is told, and a word for programs where there is a closer one than the message's own."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.message, self.reason = message, reason


def _one(job: Job, counters: Counters) -> Result:
    request = job.request
    try:
        picture = _taken(job)
        url = _stored(job, request.cos_path, picture.content, picture.captured_at, counters)
    except _FailedError as error:
        return Result.error(request.request_id, request.camera_code, error.message, error.reason)
    return Result.ok(request.request_id, request.camera_code, url)


def _clip(job: Job, span: Span, counters: Counters) -> Generator[float, None, Result]:
    """Waits until what comes after the moment has arrived."""
    request, moment = job.request, job.moment
    try:
        try:
            yield _due(moment + span.after + GRACE)
            job.stopwatch.end("waiting")
            clip = job.configured.clips.make(request.camera_code, moment, span)
        except FramesrvError as error:
            raise _failed(error, request.camera_code) from error
        finally:
            job.stopwatch.end("waiting")
        yield time.monotonic()  # a clip is large: storing it may take a while
        url = _stored(job, request.cos_path, clip.content, clip.captured_at, counters, MP4)
    except _FailedError as error:
        return Result.error(request.request_id, request.camera_code, error.message, error.reason)
    return Result.ok(request.request_id, request.camera_code, url)


def _several(job: Job, burst: Burst, counters: Counters) -> Generator[float, None, Result]:
    """Each picture is taken at its time. They are stored in between, as far as that leaves the next one its time."""
    request, began = job.request, time.monotonic()
    series = _Series(job, burst, counters, until=began + burst.seconds + UPLOAD_LIMIT)
    failure = None
    try:
        for number in range(burst.count):
            later = number * burst.interval
            due = began + later if request.moment is None else _due(job.moment + later)
            series.store(before=due)
            if time.monotonic() < due:
                yield due
                job.stopwatch.end("waiting")
            try:
                series.pictures.append(_taken(job, later))
            except _FailedError as error:  # those before it are stored all the same
                failure = error
                break
        series.store()
    except _FailedError as error:
        failure = error
    if failure:
        return Result.error(request.request_id, request.camera_code, failure.message, failure.reason, series.urls)
    return Result.several(request.request_id, request.camera_code, series.urls)


class _Series:
    """Pictures of one request that are still to be stored, and the URLs of those that are."""

    def __init__(self, job: Job, burst: Burst, counters: Counters, until: float) -> None:
        self.pictures: deque[Jpeg] = deque()
        self.urls: list[str] = []
        self._job, self._counters, self._until = job, counters, until
        self._paths = iter(burst.paths(job.request.cos_path))
        self._spent = UPLOAD

    def store(self, before: float = math.inf) -> None:
        """Stores all that can be before that monotonic time. Raises _FailedError."""
        while self.pictures and (now := time.monotonic()) + self._spent < before:
            if now > self._until:
                raise _FailedError(UPLOAD_FAILED, "store_timeout")
            picture = self.pictures.popleft()
            self.urls.append(
                _stored(self._job, next(self._paths), picture.content, picture.captured_at, self._counters)
            )
            self._spent = time.monotonic() - now


def _due(moment: float) -> float:
    """The monotonic time of a moment, in Unix seconds by this host's clock."""
    return time.monotonic() + moment - time.time()


def _taken(job: Job, later: float = 0.0) -> Jpeg:
    """The picture, or that of so many seconds `later`. Raises _FailedError."""
    request, captures, elsewhere = job.request, job.configured.captures, 0.0
    try:
        if request.moment:
            picture = captures.at(request.camera_code, request.form, job.moment + later)
        else:
            capture = job.capture if job.capture and not later else captures.join(request.camera_code, request.form)
            picture = capture.picture()
        elsewhere = picture.converted + picture.encoded
    except FramesrvError as error:
        raise _failed(error, request.camera_code) from error
    finally:
        job.stopwatch.end("waiting", less=elsewhere)
    job.stopwatch.add("converting", picture.converted)
    job.stopwatch.add("encoding", picture.encoded)
    return picture


def _failed(error: FramesrvError, code: str) -> _FailedError:
    """What the sender is told of an error of a camera."""
    if isinstance(error, CropError):
        return _FailedError(CROP_OUTSIDE)
    logger.warning("No picture reason=%r", str(error))
    match error:
        case EncoderError():
            return _FailedError(NO_OVERLAY)
        case HistoryUnavailableError(reason="absent"):
            return _FailedError(NOT_CONNECTED.format(code=code), error.reason)
        case HistoryUnavailableError(reason="no_history"):
            return _FailedError(NO_HISTORY.format(code=code))
        case HistoryUnavailableError(reason="damaged") | ClipError(reason="damaged"):
            return _FailedError(DAMAGED_THEN.format(code=code))
        case HistoryUnavailableError() | ClipError(reason="after"):
            return _FailedError(NOT_IN_HISTORY.format(code=code), f"history_{error.reason}")
        case ClipError():
            return _FailedError(NO_CLIP.format(code=code), f"clip_{error.reason}")
        case FrameUnavailableError():
            return _FailedError(NOT_CONNECTED.format(code=code), error.cause or error.reason)
    return _FailedError(NOT_CONNECTED.format(code=code), "damaged")


def _stored(
    job: Job, path: str, content: bytes, captured_at: float, counters: Counters, content_type: str = JPEG
) -> str:
    """Where it can be fetched. Raises _FailedError."""
    about = {"captured-at": f"{captured_at:.6f}", "camera": job.request.camera_code}
    try:
        url = job.configured.store.put(path, content, content_type, about)
    except StoreError as error:
        counters.add("store_errors", error.trouble)
        counters.uploads.failed(error.reason, error.trouble)
        level = logging.DEBUG if error.told else logging.WARNING
        logger.log(level, "Upload failed reason=%r", str(error))
        raise _FailedError(UPLOAD_FAILED, f"store_{error.cause or error.trouble}") from error
    finally:
        job.stopwatch.end("uploading")
    counters.uploads.succeeded()
    return url
