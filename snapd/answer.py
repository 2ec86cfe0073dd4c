"""What one request is answered with: a picture's URL, or an error."""

import logging

from framesrv import FramesrvError, FrameUnavailableError
from framesrv.process.unforeseen import Unforeseen
from snapd.errors import CropError, EncoderError, StoreError
from snapd.job import Job
from snapd.pictures.capture import Capture
from snapd.telemetry.counters import Counters
from snapd.wire.messages import CROP_OUTSIDE, EXPIRED, INTERNAL, NO_OVERLAY, NOT_CONNECTED, UPLOAD_FAILED
from snapd.wire.result import Result

logger = logging.getLogger(__name__)


def find_answer(job: Job, counters: Counters, unforeseen: Unforeseen) -> tuple[Result, bool]:
    """The answer, and whether it took work to get.

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
        return _snapshot(job, job.capture, counters), True
    except Exception as error:  # noqa: BLE001  it is told
        unforeseen.tell("Request failed", error)
        return Result.error(request_id, code, INTERNAL), True


def _snapshot(job: Job, capture: Capture, counters: Counters) -> Result:
    request, stopwatch = job.request, job.stopwatch
    request_id, code = request.request_id, request.camera_code
    try:
        picture = capture.picture()
    except CropError:
        stopwatch.end("waiting")
        return Result.error(request_id, code, CROP_OUTSIDE)
    except EncoderError as error:
        stopwatch.end("waiting")
        logger.warning("No picture reason=%r", str(error))
        return Result.error(request_id, code, NO_OVERLAY)
    except FramesrvError as error:
        stopwatch.end("waiting")
        logger.warning("No picture reason=%r", str(error))
        reason = (error.cause or error.reason) if isinstance(error, FrameUnavailableError) else "damaged"
        return Result.error(request_id, code, NOT_CONNECTED.format(code=code), reason)
    stopwatch.end("waiting", less=picture.converted + picture.encoded)
    stopwatch.add("converting", picture.converted)
    stopwatch.add("encoding", picture.encoded)
    try:
        about = {"captured-at": f"{picture.captured_at:.6f}", "camera": code}
        url = job.configured.store.put(request.cos_path, picture.content, about=about)
    except StoreError as error:
        counters.add("store_errors", error.trouble)
        counters.uploads.failed(error.reason, error.trouble)
        level = logging.DEBUG if error.told else logging.WARNING
        logger.log(level, "Upload failed reason=%r", str(error))
        return Result.error(request_id, code, UPLOAD_FAILED, f"store_{error.cause or error.trouble}")
    finally:
        stopwatch.end("uploading")
    counters.uploads.succeeded()
    return Result.ok(request_id, code, url)
