"""A stand-in for Tencent COS that verifies signatures as COS does, over real HTTP.

Tests upload to it with the real SDK and fetch by presigned URL. The signature functions are pure: they
know requests, not servers. Its bucket is checked where the host names one (`BUCKET.cos...`), which
an address as the domain does not.
"""

import hashlib
import hmac
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote
from xml.sax.saxutils import escape

from tests.support.http_server import FaultyServer, HttpRequest, HttpResponse

META = "x-cos-meta-"
SIGNATURE_FIELDS = (
    "q-sign-algorithm",
    "q-ak",
    "q-sign-time",
    "q-key-time",
    "q-header-list",
    "q-url-param-list",
    "q-signature",
)


@dataclass(frozen=True)
class Signature:
    """The fields of an Authorization header or of a presigned URL's query."""

    access_key: str
    sign_time: str
    key_time: str
    headers: tuple[str, ...]
    params: tuple[str, ...]
    digest: str

    @classmethod
    def parse(cls, fields: Mapping[str, str]) -> "Signature | None":
        """None unless every field is there and the algorithm is sha1."""
        if any(name not in fields for name in SIGNATURE_FIELDS) or fields["q-sign-algorithm"] != "sha1":
            return None
        return cls(
            fields["q-ak"],
            fields["q-sign-time"],
            fields["q-key-time"],
            tuple(filter(None, fields["q-header-list"].split(";"))),
            tuple(filter(None, fields["q-url-param-list"].split(";"))),
            fields["q-signature"],
        )

    def valid_at(self, now: float) -> bool:
        """Whether Unix time `now` lies within the key's time."""
        start, _, end = self.key_time.partition(";")
        return start.isdigit() and end.isdigit() and int(start) <= now <= int(end)


def http_string(method: str, path: str, params: Mapping[str, str], headers: Mapping[str, str]) -> str:
    """The canonical request; `path` decoded, `params` and `headers` only those that are signed."""

    def listed(values: Mapping[str, str]) -> str:
        return "&".join(sorted(f"{quote(k, '-_.~').lower()}={quote(v, '-_.~')}" for k, v in values.items()))

    return f"{method.lower()}\n{path}\n{listed(params)}\n{listed(headers)}\n"


def sign(secret_key: str, key_time: str, canonical: str) -> str:
    """The signature of a canonical request."""
    sign_key = _hmac_sha1(secret_key, key_time)
    return _hmac_sha1(sign_key, f"sha1\n{key_time}\n{hashlib.sha1(canonical.encode()).hexdigest()}\n")  # noqa: S324


def verify(
    secret_key: str,
    signature: Signature,
    method: str,
    path: str,
    params: Mapping[str, str],
    headers: Mapping[str, str],
) -> bool:
    """Whether `signature` is this request's. Header names lower-case; a listed name must be there."""
    have_params = {quote(name, "-_.~").lower(): (name, value) for name, value in params.items()}
    if any(p not in have_params for p in signature.params) or any(h not in headers for h in signature.headers):
        return False
    signed_params = dict(have_params[name] for name in signature.params)
    signed_headers = {name: headers[name] for name in signature.headers}
    expected = sign(secret_key, signature.key_time, http_string(method, path, signed_params, signed_headers))
    return hmac.compare_digest(expected, signature.digest)


def _hmac_sha1(key: str, text: str) -> str:
    return hmac.new(key.encode(), text.encode(), hashlib.sha1).hexdigest()


@dataclass(frozen=True)
class StoredObject:
    body: bytes
    content_type: str
    time: float
    about: dict[str, str]  # metadata, by names without ``x-cos-meta-``


@dataclass(frozen=True)
class Put:
    """An upload that came; `status` is 0 if it was left without an answer, `time` its arrival (Unix s)."""

    key: str
    time: float
    ok: bool
    status: int


@dataclass(eq=False)
class _RefusedError(Exception):
    status: int
    code: str
    message: str


CODES = {
    403: "AccessDenied",
    404: "NoSuchBucket",
    429: "TooManyRequests",
    500: "InternalError",
    503: "SlowDown",
}


class CosServer(FaultyServer):
    """One bucket. Keys in `objects` and `puts` have no leading slash. Faults and `delay` concern uploads."""

    faulty_method = "PUT"

    def __init__(
        self,
        bucket: str = "edge-1250000000",
        secret_id: str = "AKIDtest",  # noqa: S107 (nobody's)
        secret_key: str = "sekret",  # noqa: S107
        token: str = "",
        *,
        port: int = 0,
    ) -> None:
        super().__init__(port)
        self.bucket = bucket
        self.secret_id = secret_id
        self.secret_key = secret_key
        self.token = token
        self.may_only_put = False  # whether the credentials may do nothing else
        self.objects: dict[str, StoredObject] = {}
        self.puts: list[Put] = []

    def answer(self, request: HttpRequest) -> HttpResponse:
        try:
            self._authorize(request)
            response = self._perform(request)
        except _RefusedError as refused:
            response = _error(request, refused)
        return self._recorded(request, response)

    def refusal(self, request: HttpRequest, status: int) -> HttpResponse:
        code = CODES.get(status, "InternalError")
        return self._recorded(request, _error(request, _RefusedError(status, code, "as ordered by the test")))

    def unanswered(self, request: HttpRequest) -> None:
        self._record(request, 0)

    def _authorize(self, request: HttpRequest) -> None:
        in_query = "q-signature" in request.params
        fields = request.params if in_query else _fields(request.headers.get("authorization", ""))
        signature = Signature.parse(fields)
        if signature is None:
            raise _RefusedError(403, "AccessDenied", "Access Denied.")
        # The SDK signs the host without its port, as COS sees it on port 80 or 443.
        host = request.headers.get("host", "").partition(":")[0]
        if host.endswith(".myqcloud.com") and host.partition(".")[0] != self.bucket:
            raise _RefusedError(404, "NoSuchBucket", "The specified bucket does not exist.")
        if signature.access_key != self.secret_id:
            raise _RefusedError(403, "InvalidAccessKeyId", "The Access Key Id you provided does not exist")
        if not signature.valid_at(time.time()):
            raise _RefusedError(403, "AccessDenied", "Request has expired")
        token = request.headers.get("x-cos-security-token", request.params.get("x-cos-security-token", ""))
        if token != self.token:
            raise _RefusedError(403, "InvalidAccessKeyId", "The security token is missing or wrong")
        params = {name: value for name, value in request.params.items() if name not in SIGNATURE_FIELDS}
        headers = request.headers | {"host": host}
        if not verify(self.secret_key, signature, request.method, request.path, params, headers):
            raise _RefusedError(403, "SignatureDoesNotMatch", "The signature we calculated does not match")

    def _perform(self, request: HttpRequest) -> HttpResponse:
        key = request.path.removeprefix("/")
        if request.method == "PUT":
            if "content-length" not in request.headers:
                raise _RefusedError(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
            content_type = request.headers.get("content-type", "application/octet-stream")
            about = {
                name.removeprefix(META): value for name, value in request.headers.items() if name.startswith(META)
            }
            stored = StoredObject(request.body, content_type, request.time, about)
            with self.changed:
                self.objects[key] = stored
            return HttpResponse(headers={"ETag": _etag(request.body)})
        if request.method == "DELETE":
            with self.changed:
                self.objects.pop(key, None)
            return HttpResponse(204)
        if not key:  # HEAD or GET of the bucket itself
            if self.may_only_put:
                raise _RefusedError(403, "AccessDenied", "Access Denied.")
            listing = "<?xml version='1.0' encoding='utf-8' ?>\n<ListBucketResult></ListBucketResult>"
            return HttpResponse(200, listing.encode(), "application/xml")
        with self.changed:
            found = self.objects.get(key)
        if found is None:
            raise _RefusedError(404, "NoSuchKey", "The specified key does not exist.")
        return HttpResponse(200, found.body, found.content_type, {"ETag": _etag(found.body)})

    def _recorded(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        self._record(request, response.status)
        response.headers["x-cos-request-id"] = uuid.uuid4().hex
        return response

    def _record(self, request: HttpRequest, status: int) -> None:
        if request.method == "PUT":
            with self.changed:
                key = request.path.removeprefix("/")
                self.puts.append(Put(key, request.time, status == 200, status))
                self.changed.notify_all()


def _fields(authorization: str) -> dict[str, str]:
    return {name: value for name, _, value in (part.partition("=") for part in authorization.split("&"))}


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'  # noqa: S324


def _error(request: HttpRequest, refused: _RefusedError) -> HttpResponse:
    body = (
        "<?xml version='1.0' encoding='utf-8' ?>\n<Error>"
        f"<Code>{refused.code}</Code><Message>{escape(refused.message)}</Message>"
        f"<Resource>{escape(request.path)}</Resource><RequestId>{uuid.uuid4().hex}</RequestId>"
        "<TraceId></TraceId></Error>"
    )
    return HttpResponse(refused.status, body.encode(), "application/xml")
