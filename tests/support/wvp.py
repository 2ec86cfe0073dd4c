"""A stand-in for WVP, the platform that asks for snapshots and is called back with their results.

A result is judged against the wire form (exactly the fields of an ok or of an error); what does not
conform is answered 400 and kept in `bad`, so a test can assert that there was none.
"""

import json
from dataclasses import dataclass

from tests.support.http_server import FaultyServer, HttpRequest, HttpResponse

CALLBACK_PATH = "/api/ai/roi/snap/callback"
OK_FIELDS = {"request_id", "camera_code", "status", "url"}
ERROR_FIELDS = {"request_id", "camera_code", "status", "message"}


@dataclass(frozen=True)
class Callback:
    """A result that came: `url` is empty for an error, `message` for an ok; `time` is Unix seconds."""

    request_id: str
    camera_code: str
    status: str
    url: str
    message: str
    time: float
    headers: dict[str, str]
    raw: bytes


@dataclass(frozen=True)
class BadRequest:
    """A request that no platform would understand, and why."""

    reason: str
    request: HttpRequest


class WvpServer(FaultyServer):
    """`base` is a path before the callback's, as a platform behind a proxy has; `url` includes it."""

    faulty_method = "POST"

    def __init__(self, base: str = "", *, port: int = 0) -> None:
        super().__init__(port)
        self.base = base
        self.results: list[Callback] = []
        self.bad: list[BadRequest] = []

    @property
    def url(self) -> str:
        return super().url + self.base

    def wait(self, n: int, timeout: float) -> list[Callback]:
        """The results, once there are `n`; TimeoutError, with what came, after `timeout` seconds."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.results) >= n, timeout):
                raise TimeoutError(
                    f"{len(self.results)} of {n} results in {timeout} s: {self.results}, bad: {self.bad}"
                )
            return list(self.results)

    def answer(self, request: HttpRequest) -> HttpResponse:
        try:
            callback = self._parse(request)
        except ValueError as error:
            with self.changed:
                self.bad.append(BadRequest(str(error), request))
            return HttpResponse(400, b'{"code": 400}')
        with self.changed:
            self.results.append(callback)
            self.changed.notify_all()
        return HttpResponse(200, b'{"code": 0, "msg": "success"}')

    def _parse(self, request: HttpRequest) -> Callback:
        if request.method != "POST" or request.path != self.base + CALLBACK_PATH:
            raise ValueError(f"{request.method} {request.path} is not the callback")
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise ValueError(f"content type {request.headers.get('content-type')!r}")
        result: object = json.loads(request.body)
        if not isinstance(result, dict) or not all(isinstance(value, str) for value in result.values()):
            raise ValueError("not an object of strings")
        if set(result) != {"ok": OK_FIELDS, "error": ERROR_FIELDS}.get(result.get("status", "")):
            raise ValueError(f"fields {sorted(result)} with status {result.get('status')!r}")
        return Callback(
            request_id=result["request_id"],
            camera_code=result["camera_code"],
            status=result["status"],
            url=result.get("url", ""),
            message=result.get("message", ""),
            time=request.time,
            headers=request.headers,
            raw=request.body,
        )
