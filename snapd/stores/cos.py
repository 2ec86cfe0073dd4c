"""Pictures in Tencent COS, through its SDK, whose retries, time-outs, session and log are replaced by ours.

Errors come in classes. A time-out, a reset, 5xx and 429 are worth one more try. What is refused for good
(credentials, signature, bucket) is for a person to mend and is logged once, not once a picture. And a store that
falls silent is asked by one thread at a time until it answers.
"""

import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import requests
from qcloud_cos import CosConfig, CosS3Client
from qcloud_cos.cos_exception import CosException, CosServiceError
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random

from framesrv import ConfigError
from framesrv.process.breaker import Breaker, Call
from framesrv.settings import StoreSettings
from snapd.errors import StoreError, StoreTrouble
from snapd.http.guard import Resolver
from snapd.http.session import CONNECT_TIMEOUT, DeadlineSession, Reply, deadline
from snapd.stores.cause import (
    FORBIDDEN,
    SERVER_ERROR,
    TOO_MANY_REQUESTS,
    UNAUTHORIZED,
    explain,
    field,
    is_expired,
    underlying,
)
from snapd.stores.clock_skew import ClockSkew
from snapd.stores.credentials import Credentials, CredentialSource
from snapd.stores.facts import JPEG, StoreFacts

LIMIT = 8.0  # s for one try, all of it
LARGE, LARGE_RATE, LARGE_LIMIT = 2 * 1024 * 1024, 512 * 1024, 16.0  # bytes; bytes a second beyond, for so many s more
PATIENCE = 3.5  # s of silence that a try bears
# A probe has less, so that it is over soon after the store is back; every second one has as much as any
# other try, or else a store that has become slow would never pass.
PROBE_PATIENCE = (2.0, PATIENCE)
SILENT_TRIES, SILENT_FOR = 4, 6.0  # tries in a row without an answer, or two over so many s, after which it is silent
PROBE_PAUSE = 0.5  # s between a probe and the next
HEADSTART = 0.3  # s from a probe's begin in which others wait for its outcome: a store that is back answers in that
ATTEMPTS = 2
PAUSE = (0.1, 0.4)  # s between them
REDIRECTS = range(300, 400)
CERTIFICATE = "CertificateRefused"
NO_ANSWER = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError, TimeoutError)

logger = logging.getLogger(__name__)

# It logs every upload at INFO, tracebacks at ERROR and signing keys at DEBUG.
logging.getLogger("qcloud_cos").setLevel(logging.CRITICAL + 1)


@dataclass(frozen=True, slots=True, repr=False)
class _Client:
    """The SDK's client for certain credentials."""

    credentials: Credentials
    sdk: CosS3Client


class CosStore:
    """One bucket.

    Args:
        settings: complete, see `framesrv.settings.Store.check`.
        connections: how many uploads there may be at once.

    Raises:
        ConfigError: the SDK refuses the settings.
    """

    def __init__(self, settings: StoreSettings, *, connections: int) -> None:
        self._settings = settings
        self._bucket = settings.bucket
        self._credentials = CredentialSource(settings)
        # A session of our own: the SDK's is one for all clients, sized by the first of them.
        self._clock = ClockSkew()
        self._session = DeadlineSession(Resolver(), connections=connections, heard=[self._clock, _no_redirect])
        self._breaker = Breaker(failures=SILENT_TRIES, within=SILENT_FOR, pause=PROBE_PAUSE, headstart=HEADSTART)
        self._grievances = _Grievances()
        self._silence = ""  # why, as one word, when it last began
        self._client = self._open(self._credentials.current())
        self._retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random(*PAUSE),
            retry=retry_if_exception(_is_passing),
            reraise=True,
        )

    def put(self, key: str, content: bytes, content_type: str = JPEG, about: Mapping[str, str] | None = None) -> str:
        """Uploads `content` as `key`, with `about` as metadata, and gives a presigned URL."""
        metadata = {f"x-cos-meta-{name}": value for name, value in (about or {}).items()}
        try:
            client = self._retrying(self._upload, key, content, content_type, metadata)
            # The SDK sends a temporary token with uploads but leaves it out of presigned URLs.
            token = client.credentials.token
            params = {"x-cos-security-token": token} if token else {}
            url: str = client.sdk.get_presigned_url(
                self._bucket, key, "GET", Expired=self._settings.url_ttl, Params=params
            )
        except CosException as error:
            told = _code(error) in self._grievances.known
            cause, why = explain(error, self._settings)
            message = f"COS does not take {key!r}: {why}"
            raise StoreError(message, _trouble(error), why, cause=cause, told=told) from error
        return url

    def check(self) -> str:
        """Asks for the bucket's content: a GET, because an answer to HEAD does not say why it refuses."""
        try:
            with deadline(LIMIT, silence=PATIENCE):
                self._current().sdk.list_objects(Bucket=self._bucket, MaxKeys=1)
        except CosException as error:
            if _may_not_look(error):  # credentials that may put objects and nothing else are usual on edge hosts
                return f"bucket {self._bucket} knows these credentials, which may not look into it; uploads tell more"
            cause, why = explain(error, self._settings)
            raise StoreError(f"bucket {self._bucket}: {why}", _trouble(error), why, cause=cause) from error
        return f"bucket {self._bucket} answers"

    def begin(self) -> None:
        """Nothing: how long pictures stay is for the bucket to say."""

    def close(self) -> None:
        """Likewise."""

    @property
    def facts(self) -> StoreFacts:
        """The store's clock."""
        return StoreFacts(clock_ahead=self._clock.ahead)

    def _upload(self, key: str, content: bytes, content_type: str, metadata: Mapping[str, str]) -> _Client:
        client = self._current()
        try:
            with self._attempt() as patience, deadline(_limit(content), silence=patience):
                client.sdk.put_object(
                    Bucket=self._bucket, Body=content, Key=key, ContentType=content_type, Metadata=metadata
                )
        except CosException as error:
            if _is_refusal(error) and self._credentials.current(now=True) != client.credentials:
                raise _ReplacedError("credentials were refused that have been replaced meanwhile") from error
            if not _is_passing(error):
                self._grievances.add(_code(error), explain(error, self._settings)[1])
            raise
        self._grievances.end()
        return client

    @contextmanager
    def _attempt(self) -> Iterator[float]:
        """One try. Gives the seconds of silence after which it is to be given up.

        Raises:
            StoreError: the store is silent and is not asked now.
        """
        call = self._breaker.begin()
        if call.refused:
            raise StoreError("COS is silent and is not asked now", "silent", cause=self._silence, told=True)
        try:
            yield PROBE_PATIENCE[(call.probe - 1) % 2] if call.probe else PATIENCE
        except BaseException as error:
            self._ended(call, error)
            raise
        self._ended(call, None)

    def _ended(self, call: Call, error: BaseException | None) -> None:
        """Any answer, be it an error, shows that the store is not silent."""
        silent = isinstance(error, CosException) and _is_silence(error)
        change = self._breaker.end(call, failed=silent)
        if change == "opened" and silent:
            self._silence, why = explain(error, self._settings)
            logger.error(
                "COS is silent; uploads fail at once until it answers failures=%d reason=%r",
                self._breaker.failures,
                why,
            )
        elif change == "closed":
            logger.info("COS answers again after=%.1fs refused=%d", self._breaker.open_for, self._breaker.refusals)

    def _current(self) -> _Client:
        """The client of the credentials in force."""
        credentials = self._credentials.current()
        client = self._client
        if client.credentials != credentials:
            client = self._client = self._open(credentials)
        return client

    def _open(self, credentials: Credentials) -> _Client:
        settings = self._settings
        try:
            config = CosConfig(
                Region=settings.region or None,
                SecretId=credentials.secret_id,
                SecretKey=credentials.secret_key,
                Token=credentials.token or None,
                Scheme=settings.scheme,
                Domain=settings.domain or None,
                Timeout=(CONNECT_TIMEOUT, LIMIT),
                AllowRedirects=False,
            )
            client = CosS3Client(config, retry=0, session=self._session)
            if not settings.domain:
                config.uri(bucket=self._bucket)  # checks the bucket's name
        except CosException as error:
            raise ConfigError([f"store: {error}"]) from error
        return _Client(credentials, client)


class _Grievances:
    """What a person must mend: each is logged once, until a picture is taken again."""

    def __init__(self) -> None:
        self._since = 0.0
        self._lock = threading.Lock()
        self.known: frozenset[str] = frozenset()

    def add(self, code: str, why: str) -> None:
        with self._lock:
            if code in self.known:
                return
            self._since = self._since if self.known else time.monotonic()
            self.known |= {code}
        logger.error("COS refuses pictures, this is to be mended code=%s reason=%r", code, why)

    def end(self) -> None:
        if not self.known:
            return
        with self._lock:
            known, self.known = self.known, frozenset()
        if known:
            after = time.monotonic() - self._since
            logger.info("COS takes pictures again after=%.0fs mended=%s", after, ",".join(sorted(known)))


class _ReplacedError(CosException):  # type: ignore[misc]
    """Credentials were refused that have been replaced in their file since they were last read."""


class _RedirectError(Exception):
    """COS answered with a redirect, which the SDK takes for a success."""


def _limit(content: bytes) -> float:
    """The seconds that one try takes at most; a clip has more than a picture."""
    return LIMIT + min(LARGE_LIMIT, max(0, len(content) - LARGE) / LARGE_RATE)


def _no_redirect(reply: Reply) -> None:
    if reply.status_code in REDIRECTS:
        where = reply.headers.get("Location", "nowhere")
        raise _RedirectError(f"redirected to {where}: are region, bucket and domain right?")


def _is_silence(error: BaseException) -> bool:
    """Whether there was no answer."""
    return isinstance(underlying(error), NO_ANSWER) and _code(error) != CERTIFICATE


def _is_refusal(error: BaseException) -> bool:
    """Whether others' credentials might be taken where these were not."""
    return isinstance(error, CosServiceError) and error.get_status_code() in UNAUTHORIZED


def _may_not_look(error: BaseException) -> bool:
    """Whether the credentials are right, and do not allow what was asked."""
    if not isinstance(error, CosServiceError) or error.get_status_code() != FORBIDDEN:
        return False
    return _code(error) == "AccessDenied" and not is_expired(error)


def _is_passing(error: BaseException) -> bool:
    """Whether another try may succeed: there was no answer, or the server has trouble of its own."""
    if isinstance(error, CosServiceError):
        status: int = error.get_status_code()
        return status >= SERVER_ERROR or status == TOO_MANY_REQUESTS
    return isinstance(error, _ReplacedError) or _is_silence(error)


def _trouble(error: BaseException) -> StoreTrouble:
    if _is_silence(error):
        return "silent"
    return "failed" if _is_passing(error) else "refused"


def _code(error: BaseException) -> str:
    """A word for what is wrong."""
    if isinstance(error, CosServiceError):
        return field(error, "code") or f"HTTP-{error.get_status_code()}"
    if isinstance(underlying(error), requests.exceptions.SSLError) and "CERTIFICATE" in str(error):
        return CERTIFICATE
    return type(underlying(error) or error).__name__.strip("_")
