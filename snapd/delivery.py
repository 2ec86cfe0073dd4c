"""Hands a result over: by a callback, or else under a key in Redis that the sender looks at."""

import logging
import threading
import time
from typing import Literal
from urllib.parse import urlsplit

import redis
import requests
from urllib3.exceptions import HTTPError

from framesrv import ConfigError
from framesrv.settings import Result as ResultSettings
from snapd.request import Request
from snapd.result import Result

logger = logging.getLogger(__name__)

MAX_REPLY = 4096  # bytes of the callback's reply that are read, to keep its connection
SUCCESS = range(200, 300)
PORTS = {"http": 80, "https": 443}

Via = Literal["callback", "key"]
Origin = tuple[str, str, int]


class Delivery:
    """Used by several threads at once; each keeps its connections.

    Args:
        settings: the section ``[result]``.
        client: writes the keys; a result may be written twice.

    Raises:
        ConfigError: an allowed origin is none.
    """

    def __init__(self, settings: ResultSettings, client: redis.Redis) -> None:
        self._settings = settings
        self._client = client
        try:
            self._allowed = {_origin(url) for url in settings.allowed_callbacks}
        except ValueError as error:
            raise ConfigError([f"result.allowed_callbacks: {error}"]) from error
        self._local = threading.local()

    def deliver(self, request: Request, result: Result) -> Via | None:
        """Hands `result` over and says how; None if it could not be."""
        content = result.to_json()
        if request.callback_url:
            failure = self._call_back(request.callback_url, content)
            if not failure:
                return "callback"
            logger.warning(
                "Callback failed, result goes to its key request_id=%r url=%r reason=%r",
                request.request_id,
                request.callback_url,
                failure,
            )
        try:
            self._client.set(self._settings.key_prefix + request.request_id, content, ex=self._settings.key_ttl)
        except redis.RedisError as error:
            logger.error("Result could not be handed over request_id=%r reason=%r", result.request_id, str(error))  # noqa: TRY400
            return None
        return "key"

    def _call_back(self, base: str, content: bytes) -> str:
        """Posts `content`; the reason if that failed, else an empty text."""
        refusal = self._refusal(base)
        if refusal:
            return refusal
        url = base.rstrip("/") + self._settings.callback_path
        deadline = time.monotonic() + self._settings.callback_timeout
        try:
            response = self._session.post(
                url,
                content,
                headers={"Content-Type": "application/json"},
                timeout=self._settings.callback_timeout,
                allow_redirects=False,
                stream=True,
            )
        except (requests.RequestException, ValueError, OSError) as error:  # ValueError: an impossible URL
            return str(error) or type(error).__name__
        _finish(response, deadline)
        return "" if response.status_code in SUCCESS else f"status {response.status_code}"

    def _refusal(self, url: str) -> str:
        """Why `url` is not to be called; empty if it may be."""
        try:
            origin = _origin(url)
        except ValueError as error:
            return f"not a URL: {error}"
        if origin[0] not in PORTS or not origin[1]:
            return "not an http or https URL"
        if self._allowed and origin not in self._allowed:
            return "not in result.allowed_callbacks"
        return ""

    @property
    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.trust_env = False  # no proxies or .netrc from the environment
        return session


def _origin(url: str) -> Origin:
    """Scheme, host and port. Raises ValueError if `url` has none that could be."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)


def _finish(response: requests.Response, deadline: float) -> None:
    """Reads a short reply to its end, which keeps the connection; leaves a long or slow one."""
    length = 0
    try:
        while length < MAX_REPLY and time.monotonic() < deadline:
            chunk = response.raw.read1(MAX_REPLY)
            if not chunk:
                break
            length += len(chunk)
    except (HTTPError, OSError, ValueError):
        pass  # the status has been heard, and is what counts
    finally:
        response.close()
