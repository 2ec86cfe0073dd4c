"""What is answered over HTTP: a picture, by one connection as long as the camera keeps it, or many without an end.

FFmpeg's client opens a connection for each request, knows no Digest but MD5, and does not ask whether the picture has
changed. This one is bounded in time and bytes; it follows redirects to HTTP alone.
"""

import http.client
import io
import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urljoin, urlsplit

from framesrv import __version__
from framesrv.camera.sources import reasons
from framesrv.camera.sources.address import WEB, Address, address_of
from framesrv.camera.sources.authentication import Authentication, Challenge, challenges
from framesrv.camera.sources.reasons import cannot
from framesrv.camera.sources.sockets import SHORTEST, connected
from framesrv.camera.sources.still.image import LARGEST, Image, NoImageError, too_large
from framesrv.errors import SourceError, SourceUsageError
from framesrv.process import reaching
from framesrv.settings import Camera

if TYPE_CHECKING:
    from ssl import SSLContext

REDIRECTS = 5
ASKS = 4  # requests to one address: without the password, with it in two ways, with a new nonce
SKIPPED = 64 * 1024  # bytes of an answer that nobody wants; of a longer one the connection is not kept
CHUNK = 65_536  # bytes that are read at a time of what has no end
SCHEME = 16  # characters of one that are shown

_ELSEWHERE = {301, 302, 303, 307, 308}
_STREAMS = ("multipart", "video", "audio")  # what types of content begin with that have no end
_REASONS = {401: reasons.UNAUTHORIZED, 403: reasons.FORBIDDEN, 404: reasons.NOT_FOUND}

Taken = TypeVar("Taken")

logger = logging.getLogger(__name__)


class Web:
    """The picture at one URL.

    Args:
        camera: whose.
        told: what has been said of it so far, and is not to be said again.
    """

    def __init__(self, camera: Camera, told: set[str]) -> None:
        self._camera = camera
        self._told = told
        self._address = address_of(camera.source, schemes=WEB)
        self._authentication = Authentication(self._address.user, self._address.password)
        self._connection: http.client.HTTPConnection | None = None
        self._place: Address | None = None  # where that leads
        self._validators: dict[str, str] = {}
        self._deadline = 0.0

    def get(self) -> Image | None:
        """See `Origin.get`."""
        return self._fetched(self._image)

    def stream(self) -> Callable[[], bytes]:
        """Gives what comes of pictures that follow one another without an end; nothing at the end all the same.

        Raises:
            NoImageError: there are none.
            SourceError: it cannot be had; where more is asked for, it is lost.
        """
        response = self._fetched(self._multipart)

        def more() -> bytes:
            self._deadline = time.monotonic() + self._camera.timeout
            try:
                return response.read1(CHUNK)
            except http.client.IncompleteRead:  # it sent in chunks, and has ended without the last one
                return b""
            except TimeoutError as error:
                raise SourceError(f"lost: no packet for {self._camera.timeout:g} s", "timeout") from error
            except (OSError, http.client.HTTPException) as error:
                raise SourceError(f"lost: {getattr(error, 'strerror', None) or error}", "lost") from error

        return more

    def beginning(self, size: int) -> bytes:
        """So many bytes of what is there, whatever it is, or all of it."""

        def take(response: http.client.HTTPResponse) -> bytes:
            self._kind(response)
            return response.read(size)

        return self._fetched(take)

    def _fetched(self, take: Callable[[http.client.HTTPResponse], Taken]) -> Taken:
        """What is made of the answer, after all redirects."""
        self._deadline = time.monotonic() + self._camera.timeout
        at = self._address
        try:
            for _ in range(REDIRECTS + 1):
                response = self._answer(at)
                if response.status not in _ELSEWHERE:
                    return take(response)
                at = self._led(at, response)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise cannot(self._reason(error, at)) from error
        except SourceError:
            self.close()
            raise
        raise cannot(("protocol", f"it leads from one address to the next, {REDIRECTS} times"))

    def offers(self) -> list[Challenge]:
        """In what ways the camera takes a password; none where it cannot be asked, or wants none."""
        self._deadline = time.monotonic() + self._camera.timeout
        try:
            response = self._ask(self._address)
        except (OSError, http.client.HTTPException, SourceError) as error:
            logger.debug("it cannot be asked what it offers: %s", error)
            return []
        return challenges(response.headers.get_all("WWW-Authenticate") or [])

    def close(self) -> None:
        """See `Origin.close`."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def _answer(self, at: Address) -> http.client.HTTPResponse:
        """What the camera answers once it knows who asks."""
        for _ in range(ASKS):
            response = self._ask(at)
            if response.status != http.client.UNAUTHORIZED:
                self._authentication.accepted()
                return response
            if not self._is_ours(at):
                words = f"it leads to {at.where}, which asks for a user and a password: give its URL as source"
                raise cannot(("unauthorized", words))
            offers = response.headers.get_all("WWW-Authenticate") or []
            if not self._authentication.challenged(offers):
                raise cannot(self._authentication.refusal())
            self._skip(response)
        raise cannot(self._authentication.refusal())

    def _ask(self, at: Address) -> http.client.HTTPResponse:
        """Asks once; anew where the camera has closed a connection that was kept."""
        if self._connection is not None and self._connection.sock is not None and self._place == at:
            with suppress(ConnectionError, http.client.BadStatusLine):
                return self._exchange(self._connection, at)
        self.close()
        self._connection, self._place = self._connect(at), at
        return self._exchange(self._connection, at)

    def _connect(self, at: Address) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(at.host, at.port)
        connection.sock = connected((at.host, at.port), self._left, self._context(at))
        # typed as a class, used as what makes one
        connection.response_class = partial(_Response, self)  # type: ignore[assignment]
        return connection

    def _exchange(self, connection: http.client.HTTPConnection, at: Address) -> http.client.HTTPResponse:
        url = urlsplit(at.url)
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        headers = {"User-Agent": f"framesrv/{__version__}", "Accept": "image/jpeg, image/png, */*;q=0.1"}
        headers |= self._validators
        if self._is_ours(at) and (words := self._authentication.header("GET", path)):
            headers["Authorization"] = words
        self.wait(connection.sock)
        connection.request("GET", path, headers=headers)
        return connection.getresponse()

    def _image(self, response: http.client.HTTPResponse) -> Image | None:
        now = (time.monotonic_ns(), time.time_ns())
        if response.status == http.client.NOT_MODIFIED and self._validators:
            self._skip(response)
            return None
        kind = self._kind(response)
        if kind.startswith(_STREAMS):
            raise NoImageError(f"what is there is no single picture, but {kind}", "format")
        data = self._body(response)
        fields = {"If-None-Match": response.headers["ETag"], "If-Modified-Since": response.headers["Last-Modified"]}
        self._validators = {name: value for name, value in fields.items() if value}
        return Image(data, *now)

    def _multipart(self, response: http.client.HTTPResponse) -> http.client.HTTPResponse:
        kind = self._kind(response)
        if not kind.startswith("multipart"):
            raise NoImageError(f"what is there is no motion JPEG, but {kind}", "format")
        return response

    def _kind(self, response: http.client.HTTPResponse) -> str:
        """Of what is answered."""
        if response.status != http.client.OK:
            status = f"{response.status} {response.reason}".strip()
            raise cannot(_REASONS.get(response.status) or reasons.answers(status, "GET"))
        return response.headers.get_content_type()

    def _body(self, response: http.client.HTTPResponse) -> bytes:
        if response.length is not None and response.length > LARGEST:
            raise too_large(response.length)
        data = response.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise too_large()
        if response.length:
            raise SourceError(f"lost: {response.length} bytes of its picture are missing", "lost")
        return data

    def _skip(self, response: http.client.HTTPResponse) -> None:
        """Reads what follows, where it is short, so that the connection can be kept."""
        if response.read(SKIPPED) and not response.isclosed():
            self.close()

    def _led(self, at: Address, response: http.client.HTTPResponse) -> Address:
        """Where a redirect leads."""
        location = response.headers.get("Location", "")
        self._skip(response)
        if not location:
            raise cannot(reasons.answers(f"{response.status} {response.reason}".strip(), "GET"))
        try:
            there = address_of(urljoin(at.url, location), schemes=WEB)
        except SourceUsageError as error:
            raise cannot(reasons.leads_to(location.partition(":")[0][:SCHEME])) from error
        return replace(there, user="", password="")

    def _is_ours(self, at: Address) -> bool:
        """Whether it is where user and password are meant for."""
        own = self._address
        return (at.host, at.port, at.secure) == (own.host, own.port, own.secure)

    def _context(self, at: Address) -> "SSLContext | None":
        if not at.secure:
            return None
        from framesrv.camera.sources import tls  # and OpenSSL, which few cameras need

        return tls.context_of(self._camera, self._told)

    def _reason(self, error: OSError | http.client.HTTPException, at: Address) -> reasons.Reason:
        if isinstance(error, TimeoutError):
            return reasons.no_answer(self._camera.timeout, error, at.scheme)
        if at.secure and isinstance(error, OSError):
            from framesrv.camera.sources import tls

            if reason := tls.explain(error, at):
                return reason
        if isinstance(error, ConnectionResetError | BrokenPipeError):  # http.client.RemoteDisconnected too
            return reasons.unanswered(at.scheme, at.host, at.port)
        if isinstance(error, http.client.IncompleteRead):
            return "lost", "its picture ends too early"
        if isinstance(error, http.client.HTTPException):
            return "protocol", f"{at.where} answers what is no HTTP: {error}"
        return reaching.explain(error, at.host, at.port) or ("", error.strerror or str(error))

    @property
    def _left(self) -> float:
        return max(self._deadline - time.monotonic(), SHORTEST)

    def wait(self, one: socket.socket) -> None:
        """Lets whoever uses a connection wait as long as there is time. Raises TimeoutError where there is none."""
        if time.monotonic() >= self._deadline:
            raise TimeoutError("no time is left")
        one.settimeout(self._left)


class _Response(http.client.HTTPResponse):
    """An answer all of which, its head too, must come before the deadline."""

    def __init__(self, owner: Web, one: socket.socket, **options: Any) -> None:
        super().__init__(one, **options)
        self.fp = io.BufferedReader(_Waiting(owner, one, self.fp))


class _Waiting(io.RawIOBase):
    """What is read from a connection, with no more patience than there is time left."""

    def __init__(self, owner: Web, one: socket.socket, inner: io.BufferedReader) -> None:
        self._owner, self._socket, self._inner = owner, one, inner

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._owner.wait(self._socket)
        return self._inner.readinto1(buffer)

    def close(self) -> None:
        self._inner.close()
        super().close()
