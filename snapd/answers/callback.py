"""Callbacks: a result is posted to the platform that asked.

Who is called is said by whoever can write to the stream. So nothing is called that is not meant to be (see
`snapd.http.guard`), redirects are not followed, and a reply is neither waited for nor read for long.
"""

import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import requests
from tenacity import Retrying, retry_if_result, stop_after_attempt, wait_random
from urllib3.exceptions import HTTPError

from framesrv import ConfigError
from framesrv.settings import ResultSettings
from snapd.answers.signature import Signer
from snapd.errors import AddressRefusedError
from snapd.http.cause import explain
from snapd.http.guard import Resolver, Target, refusal
from snapd.http.session import DeadlineSession, Reply, deadline, is_timeout
from snapd.wire.request import Request

MAX_REPLY = 4096  # bytes of the callback's reply that are read, to keep its connection
SUCCESS = range(200, 300)
REDIRECTS = range(300, 400)
UNAUTHORIZED = {401, 403}
NOTHING_THERE = {404, 405, 410}
SERVER_ERROR = 500
ATTEMPTS = 2
PAUSE = (0.3, 0.4)  # s between them


@dataclass(frozen=True, slots=True)
class CallbackFailure:
    """Why a callback failed, and whether another try may succeed.

    `trouble` is ``refused`` (by us: nobody to call), ``unreachable``, ``late``, or the class of its status.
    """

    reason: str
    trouble: str
    passing: bool = False


class Callbacks:
    """Used by several threads at once; each keeps its connections.

    Args:
        settings: the section ``[result]``.

    Raises:
        ConfigError: an allowed origin is none, or the secret has no key in it.
    """

    def __init__(self, settings: ResultSettings) -> None:
        self._settings = settings
        try:
            self._allowed = {Target.parse(url).origin for url in settings.allowed_callbacks}
        except ValueError as error:
            raise ConfigError([f"result.allowed_callbacks: {error}"]) from error
        try:
            self._signer = Signer(settings.signing_secret) if settings.signing_secret else None
        except ValueError as error:
            raise ConfigError([f"result.signing_secret: {error}"]) from error
        # Whom the configuration allows may be called wherever they are.
        self._resolve = Resolver() if self._allowed else Resolver(refusal)
        self._local = threading.local()
        self._retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random(*PAUSE),
            retry=retry_if_result(lambda failure: failure is not None and failure.passing),
            retry_error_callback=lambda state: state.outcome and state.outcome.result(),
        )

    def post(self, request: Request, content: bytes) -> CallbackFailure | None:
        """Posts the result `content`, twice if what the first try met may pass; None if that succeeded."""
        try:
            target = _target(request.callback_url)
        except ValueError as error:
            return CallbackFailure(f"refused: {error}", "refused")
        if self._allowed and target.origin not in self._allowed:
            return CallbackFailure("refused: not in result.allowed_callbacks", "refused")
        url = target.url + self._settings.callback_path
        failure: CallbackFailure | None = self._retrying(self._try, url, request.request_id, content)
        return failure

    def _try(self, url: str, request_id: str, content: bytes) -> CallbackFailure | None:
        headers = {"Content-Type": "application/json"}
        if self._signer:
            headers |= self._signer.headers(request_id, content)
        try:
            with deadline(self._settings.callback_timeout):
                reply = self._session.post(url, content, headers=headers, stream=True)
                _finish(reply)
        except AddressRefusedError as error:
            return CallbackFailure(f"refused: {error}", "refused")
        except (requests.RequestException, ValueError, OSError) as error:  # ValueError: an impossible URL
            late = is_timeout(error)
            passing = isinstance(error, requests.ConnectionError) and not late
            return CallbackFailure(explain(error, url)[1], "late" if late else "unreachable", passing)
        status = reply.status_code
        if status in SUCCESS:
            return None
        return CallbackFailure(_of_status(status), f"status_{status // 100}xx", status >= SERVER_ERROR)

    @property
    def _session(self) -> DeadlineSession:
        session: DeadlineSession | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = DeadlineSession(self._resolve)
        return session


@lru_cache(maxsize=64)
def _target(url: str) -> Target:
    return Target.parse(url)


def _of_status(status: int) -> str:
    """What a status means for whoever is to mend it."""
    if status >= SERVER_ERROR:
        words = "the platform has trouble of its own"
    elif status in UNAUTHORIZED:
        words = "the platform does not let this host in, see result.signing_secret"
    elif status in NOTHING_THERE:
        words = "nothing there takes results, see result.callback_path"
    elif status in REDIRECTS:
        words = "redirects are not followed, the request is to name the address itself"
    else:
        words = "the platform does not take the result"
    return f"status {status}: {words}"


def _finish(reply: Reply) -> None:
    """Reads a short reply to its end, which keeps the connection; leaves a long or slow one."""
    length = 0
    try:
        while length < MAX_REPLY:
            chunk: Any = reply.raw.read1(MAX_REPLY)
            if not chunk:
                break
            length += len(chunk)
    except (HTTPError, OSError, ValueError):
        pass  # the status has been heard, and is what counts
    finally:
        reply.close()
