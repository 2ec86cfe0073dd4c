"""Hands a result over: by a callback, or else under a key in Redis that the sender looks at.

Who is called is said by whoever can write to the stream. So nothing is called that is not meant to be (see
`snapd.http.guard`), redirects are not followed, and a reply is neither waited for nor read for long.
"""

import logging
import random
import threading
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import redis
import requests
from urllib3.exceptions import HTTPError

from framesrv import ConfigError
from framesrv.settings import Result as ResultSettings
from snapd.answers.signature import Signer
from snapd.errors import AddressRefusedError
from snapd.http.guard import Resolver, Target, refusal
from snapd.http.session import DeadlineSession, deadline, is_timeout, reason
from snapd.telemetry.counters import Tally
from snapd.wire.request import Request
from snapd.wire.result import Result

logger = logging.getLogger(__name__)

MAX_REPLY = 4096  # bytes of the callback's reply that are read, to keep its connection
SUCCESS = range(200, 300)
SERVER_ERROR = 500
ATTEMPTS = 2
PAUSE = (0.3, 0.4)  # s between them
SHOWN = 200  # characters of a URL in the log

Via = Literal["callback", "key"]


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why a callback failed, and whether another try may succeed.

    `trouble` is ``refused`` (by us: nobody to call), ``unreachable``, ``late``, or the class of its status.
    """

    reason: str
    trouble: str
    passing: bool = False


class Delivery:
    """Used by several threads at once; each keeps its connections.

    Args:
        settings: the section ``[result]``.
        client: writes the keys; a result may be written twice.
        tally: counts callbacks that failed.

    Raises:
        ConfigError: an allowed origin is none, or the secret has no key in it.
    """

    def __init__(self, settings: ResultSettings, client: redis.Redis, tally: Tally | None = None) -> None:
        self._settings = settings
        self._client = client
        self._tally = tally or Tally()
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

    def deliver(self, request: Request, result: Result) -> Via | None:
        """Hands `result` over and says how; None if it could not be."""
        content = result.to_json()
        if request.callback_url:
            failure = self._call_back(request, content)
            if failure is None:
                return "callback"
            self._tally.add("callback_errors", failure.trouble)
            logger.warning(
                "Callback failed, result goes to its key url=%r reason=%r",
                request.callback_url[:SHOWN],
                failure.reason,
            )
        try:
            self._client.set(self._settings.key_prefix + request.request_id, content, ex=self._settings.key_ttl)
        except redis.RedisError as error:
            logger.error("Result could not be handed over reason=%r", str(error))  # noqa: TRY400
            return None
        return "key"

    def _call_back(self, request: Request, content: bytes) -> _Failure | None:
        """Posts `content`, twice if what the first try met may pass; None if that succeeded."""
        try:
            target = _target(request.callback_url)
        except ValueError as error:
            return _Failure(f"refused: {error}", "refused")
        if self._allowed and target.origin not in self._allowed:
            return _Failure("refused: not in result.allowed_callbacks", "refused")
        failure: _Failure | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(random.uniform(*PAUSE))  # noqa: S311
            failure = self._post(target.url + self._settings.callback_path, request.request_id, content)
            if failure is None or not failure.passing:
                break
        return failure

    def _post(self, url: str, request_id: str, content: bytes) -> _Failure | None:
        """One try; None if it succeeded."""
        headers = {"Content-Type": "application/json"}
        if self._signer:
            headers |= self._signer.headers(request_id, content)
        try:
            with deadline(self._settings.callback_timeout):
                response = self._session.post(
                    url,
                    content,
                    headers=headers,
                    timeout=self._settings.callback_timeout,
                    allow_redirects=False,
                    stream=True,
                )
                _finish(response)
        except AddressRefusedError as error:
            return _Failure(f"refused: {error}", "refused")
        except (requests.RequestException, ValueError, OSError) as error:  # ValueError: an impossible URL
            late = is_timeout(error)
            passing = isinstance(error, requests.ConnectionError) and not late
            return _Failure(reason(error), "late" if late else "unreachable", passing)
        if response.status_code in SUCCESS:
            return None
        status = response.status_code
        return _Failure(f"status {status}", f"status_{status // 100}xx", status >= SERVER_ERROR)

    @property
    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = DeadlineSession(self._resolve)
        return session


@lru_cache(maxsize=64)
def _target(url: str) -> Target:
    return Target.parse(url)


def _finish(response: requests.Response) -> None:
    """Reads a short reply to its end, which keeps the connection; leaves a long or slow one."""
    length = 0
    try:
        while length < MAX_REPLY:
            chunk = response.raw.read1(MAX_REPLY)
            if not chunk:
                break
            length += len(chunk)
    except (HTTPError, OSError, ValueError):
        pass  # the status has been heard, and is what counts
    finally:
        response.close()
