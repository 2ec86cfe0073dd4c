"""Who may see the pages, and what goes with every response.

With a token: who sends it as ``Authorization: Bearer``, or brings the cookie that a browser gets for ``?token=``,
once. Without one, on an address of this host alone: who calls it by a name of this host. Else a page of somebody
else, whose name is made to point here after it was loaded (DNS rebinding), could read the pictures.
"""

import hashlib
import hmac
from urllib.parse import parse_qsl, urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from framesrv.settings import HttpSettings

COOKIE = "framesrv"
COOKIE_AGE = 30 * 24 * 3600  # s
LOCAL_NAMES = {"localhost", "127.0.0.1", "[::1]"}
METHODS = {"GET", "HEAD"}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
NOT_ADMITTED = (
    "This host's cameras are shown to those who have its token, as [http] token in snapd's configuration.\n"
    "In a browser: open this address once with ?token=TOKEN at its end.\n"
    "A program sends the header Authorization: Bearer TOKEN.\n"
)


class Access:
    """Lets those in who may see `app`."""

    def __init__(self, app: ASGIApp, http: HttpSettings) -> None:
        self._app = app
        self._token = http.token.encode()
        self._names = None
        if not http.token and http.is_local:
            self._names = LOCAL_NAMES | {http.host.lower(), f"[{http.host.lower()}]"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if scope["method"] not in METHODS:
            return _refuse(405, "Only GET and HEAD: there is nothing to change here.\n", {"Allow": "GET, HEAD"})
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return _refuse(413, "A request has no body here.\n")
        if self._names is not None and _name(headers.get("host", "")) not in self._names:
            return _refuse(
                403, f"Called by a name that is not this host's: expected {' or '.join(sorted(LOCAL_NAMES))}\n"
            )
        return self._admission(scope, headers) if self._token else None

    def _admission(self, scope: Scope, headers: Headers) -> Response | None:
        """None for who has the token."""
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(given.strip()):
            return None
        cookie = cookie_parser(headers.get("cookie", "")).get(COOKIE, "")
        if hmac.compare_digest(cookie.encode(), self._cookie.encode()):
            return None
        query = parse_qsl(scope["query_string"].decode("latin-1"))
        if any(name == "token" and self._is_token(value) for name, value in query):
            rest = urlencode([(name, value) for name, value in query if name != "token"])
            path = "/" + scope["path"].lstrip("/\\")  # "//host" would lead to another one
            response = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
            response.set_cookie(
                COOKIE, self._cookie, COOKIE_AGE, httponly=True, samesite="lax"
            )  # a link from a wiki must work
            return response
        return _refuse(401, NOT_ADMITTED, {"WWW-Authenticate": 'Bearer realm="framesrv"'})

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self._token)

    @property
    def _cookie(self) -> str:
        """Not the token itself: a browser's store of cookies is not as well kept as a configuration."""
        return hmac.new(self._token, b"framesrv pages", hashlib.sha256).hexdigest()


def _refuse(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(sentence, status, {"Connection": "close", **(headers or {})})


def _name(host: str) -> str:
    """A Host header without its port."""
    bracketed = host.startswith("[")
    return (host.partition("]")[0] + "]" if bracketed else host.partition(":")[0]).lower()
