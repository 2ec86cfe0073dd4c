"""What one request is answered with: a picture's URL, those of several, or an error.

An answer is found in steps: between them it waits for a later moment, and needs no worker.
"""

import logging
import math
import time
from collections import deque
from collections.abc import Generator

from framesrv import FramesrvError, FrameUnavailableError
from framesrv.process.unforeseen import Unforeseen
from snapd.configured import UPLOAD_LIMIT
from snapd.errors import CropError, EncoderError, StoreError
from snapd.job import Job, Steps
from snapd.pictures.capture import Capture
from snapd.pictures.encoder import Jpeg
from snapd.telemetry.counters import Counters
from snapd.wire.burst import Burst
from snapd.wire.messages import CROP_OUTSIDE, EXPIRED, INTERNAL, NO_OVERLAY, NOT_CONNECTED, UPLOAD_FAILED
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
    if job.capture is None:
        return Result.error(request_id, code, NOT_CONNECTED.format(code=code), "not_configured"), False
    try:
        if request.burst:
            return (yield from _several(job, job.capture, request.burst, counters)), True
        return _one(job, job.capture, counters), True
    except Exception as error:  # noqa: BLE001  it is told
        unforeseen.tell("Request failed", error)
        return Result.error(request_id, code, INTERNAL), True


class _FailedError(Exception):
    """What the sender is told, and a word for programs where there is a closer one than the message's own."""

    def __init__(self, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.message, self.reason = message, reason


def _one(job: Job, capture: Capture, counters: Counters) -> Result:
    request = job.request
    try:
        url = _stored(job, request.cos_path, _taken(job, capture), counters)
    except _FailedError as error:
        return Result.error(request.request_id, request.camera_code, error.message, error.reason)
    return Result.ok(request.request_id, request.camera_code, url)


def _several(job: Job, capture: Capture, burst: Burst, counters: Counters) -> Generator[float, None, Result]:
    """Each picture is taken at its time. They are stored in between, as far as that leaves the next one its time."""
    request, began = job.request, time.monotonic()
    series = _Series(job, burst, counters, until=began + burst.seconds + UPLOAD_LIMIT)
    failure = None
    try:
        for number in range(burst.count):
            due = began + number * burst.interval
            series.store(before=due)
            if time.monotonic() < due:
                yield due
                job.stopwatch.end("waiting")
            if number:
                capture = job.configured.captures.join(request.camera_code, request.form)
            try:
                series.pictures.append(_taken(job, capture))
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
            self.urls.append(_stored(self._job, next(self._paths), self.pictures.popleft(), self._counters))
            self._spent = time.monotonic() - now


def _taken(job: Job, capture: Capture) -> Jpeg:
    """The picture. Raises _FailedError."""
    code, elsewhere = job.request.camera_code, 0.0
    try:
        picture = capture.picture()
        elsewhere = picture.converted + picture.encoded
    except CropError as error:
        raise _FailedError(CROP_OUTSIDE) from error
    except EncoderError as error:
        logger.warning("No picture reason=%r", str(error))
        raise _FailedError(NO_OVERLAY) from error
    except FramesrvError as error:
        logger.warning("No picture reason=%r", str(error))
        reason = (error.cause or error.reason) if isinstance(error, FrameUnavailableError) else "damaged"
        raise _FailedError(NOT_CONNECTED.format(code=code), reason) from error
    finally:
        job.stopwatch.end("waiting", less=elsewhere)
    job.stopwatch.add("converting", picture.converted)
    job.stopwatch.add("encoding", picture.encoded)
    return picture


def _stored(job: Job, path: str, picture: Jpeg, counters: Counters) -> str:
    """Where it can be fetched. Raises _FailedError."""
    about = {"captured-at": f"{picture.captured_at:.6f}", "camera": job.request.camera_code}
    try:
        url = job.configured.store.put(path, picture.content, about=about)
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
