"""Pictures in Tencent COS, through its SDK, whose retries, time-outs, session and log are replaced by ours."""

import logging

import requests
from qcloud_cos import CosConfig, CosS3Client
from qcloud_cos.cos_exception import CosClientError, CosException, CosServiceError
from requests.adapters import HTTPAdapter
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random

from framesrv import ConfigError
from framesrv.settings import Store as StoreSettings
from snapd.errors import StoreError

TIMEOUT = (3, 10)  # s to connect, s for each read
ATTEMPTS = 2
PAUSE = (0.1, 0.4)  # s between them
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500

# It logs every upload at INFO, tracebacks at ERROR and signing keys at DEBUG.
logging.getLogger("qcloud_cos").setLevel(logging.CRITICAL + 1)


class CosStore:
    """One bucket.

    Args:
        settings: complete, see `framesrv.settings.Store.check`.
        connections: how many uploads there may be at once.

    Raises:
        ConfigError: the SDK refuses the settings.
    """

    def __init__(self, settings: StoreSettings, *, connections: int) -> None:
        self._bucket = settings.bucket
        self._url_ttl = settings.url_ttl
        # The SDK sends a temporary token with uploads but leaves it out of presigned URLs.
        self._url_params = {"x-cos-security-token": settings.token} if settings.token else {}
        try:
            config = CosConfig(
                Region=settings.region or None,
                SecretId=settings.secret_id,
                SecretKey=settings.secret_key,
                Token=settings.token or None,
                Scheme=settings.scheme,
                Domain=settings.domain or None,
                Timeout=TIMEOUT,
            )
            # A session of our own: the SDK's is one for all clients, sized by the first of them.
            self._client = CosS3Client(config, retry=0, session=_session(connections))
            if not settings.domain:
                config.uri(bucket=self._bucket)  # checks the bucket's name
        except CosException as error:
            raise ConfigError([f"store: {error}"]) from error
        self._retrying = Retrying(
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random(*PAUSE),
            retry=retry_if_exception(_is_passing),
            reraise=True,
        )

    def put(self, key: str, jpeg: bytes) -> str:
        """Uploads `jpeg` as `key` and gives a presigned URL."""
        try:
            self._retrying(
                self._client.put_object,
                Bucket=self._bucket,
                Body=jpeg,
                Key=key,
                ContentType="image/jpeg",
            )
            url: str = self._client.get_presigned_url(
                self._bucket, key, "GET", Expired=self._url_ttl, Params=self._url_params
            )
        except CosException as error:
            raise StoreError(f"COS does not take {key!r}: {_sentence(error)}") from error
        return url

    def check(self) -> str:
        """Asks for the bucket."""
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except CosException as error:
            raise StoreError(f"bucket {self._bucket} cannot be reached: {_sentence(error)}") from error
        return f"bucket {self._bucket} answers"


def _session(connections: int) -> requests.Session:
    session = requests.Session()
    session.trust_env = False  # no proxies or .netrc from the environment
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_connections=2, pool_maxsize=connections))
    return session


def _is_passing(error: BaseException) -> bool:
    """Whether another try may succeed: the connection failed, or the server has trouble of its own."""
    if isinstance(error, CosServiceError):
        status: int = error.get_status_code()
        return status >= SERVER_ERROR or status == TOO_MANY_REQUESTS
    return isinstance(error, CosClientError)


def _sentence(error: CosException) -> str:
    if isinstance(error, CosServiceError):
        return f"{error.get_status_code()} {error.get_error_code()}: {error.get_error_msg()}"
    return str(error)
