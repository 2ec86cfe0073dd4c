"""The addresses: the page, cameras, pictures, streams, health and metrics. `README.md` has the table."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from framesrv import FramesrvError, FrameUnavailableError, HistoryUnavailableError, log
from framesrv.settings import Settings
from snapd.errors import ClipError, CropError
from snapd.pages.access import Access
from snapd.pages.follow import MAX_FPS, Followers, FpsLimit
from snapd.pages.metrics import Metrics
from snapd.pages.overview import Overview
from snapd.pages.parameters import ParameterError, Parameters
from snapd.pages.pictures import BusyError, FrameId, Picture, Pictures
from snapd.pages.places import Place, Places
from snapd.pages.readiness import Readiness
from snapd.pictures.clip import Clip
from snapd.stores.facts import MP4
from snapd.wire.form import Form
from snapd.wire.moment import NOW

STREAMS = 64  # that may be watched at once
CLIPS = 8  # that are made at once
BOUNDARY = b"frame"

CONTENT = {
    "index.html": "text/html",
    "fleet.html": "text/html",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "fleet.js": "text/javascript",
}

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Pages:
    """What the addresses show; for the event loop's thread."""

    overview: Overview
    pictures: Pictures
    followers: Followers
    metrics: Metrics
    readiness: Readiness
    streams: Places = field(default_factory=lambda: Places(STREAMS, "streams are watched"))
    clips: Places = field(default_factory=lambda: Places(CLIPS, "clips are made"))

    def configure(self, settings: Settings) -> None:
        """Shows the cameras of `settings` from now on."""
        self.overview.configure(settings)
        self.pictures.configure(settings)

    def app(self, settings: Settings) -> Access:
        """The ASGI application, for those whom `settings` let in."""
        routes = [
            Route("/cameras", self._cameras),
            Route("/cameras/{code}.jpg", self._told(self._picture)),
            Route("/cameras/{code}.mp4", self._told(self._clip)),
            Route("/cameras/{code}.mjpeg", self._told(self._stream)),
            Route("/overview", self._overview),
            Route("/fleet", self._fleet),
            Route("/healthz", _healthz),
            Route("/readyz", self._readyz),
            Route("/metrics", self._metrics),
            *(_file(name) for name in CONTENT),
        ]
        return Access(Starlette(routes=routes), settings.http)

    async def _cameras(self, _: Request) -> Response:
        kept = await self.overview.kept()
        return _json([camera.to_json(kept.get(camera.code)) for camera in await self.overview.cameras()])

    async def _overview(self, _: Request) -> Response:
        return _json(await self.overview.page())

    async def _fleet(self, _: Request) -> Response:
        found = await self.overview.fleet()
        return _json(found) if found else PlainTextResponse("Redis does not tell of the fleet now.\n", 503)

    async def _readyz(self, _: Request) -> Response:
        problems = await self.readiness.problems()
        return PlainTextResponse("".join(f"{one}\n" for one in problems) or "ready\n", 503 if problems else 200)

    async def _metrics(self, request: Request) -> Response:
        figures = self.metrics.figures
        figures.cameras, figures.queue = await self.overview.cameras(), await self.overview.queue()
        figures.fleet = await self.overview.fleet() if self.overview.is_router else None
        figures.condition = self.overview.condition
        figures.viewers, figures.encoded = self.followers.viewers, self.pictures.encoded
        content, content_type = self.metrics.text(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": content_type})

    async def _picture(self, request: Request) -> Response:
        code = request.path_params["code"]
        parameters = Parameters(request.query_params)
        if moment := parameters.moment():
            form = parameters.form(None, self.pictures.settings.snapshot)
            past = await self.pictures.past(code, form, moment.unix(time.time()))
            return Response(past.jpeg, media_type="image/jpeg", headers=_about(past.frame))
        max_age = parameters.seconds("max_age", self.pictures.settings.snapshot.max_age)
        newest = await self.pictures.look(code, max_age)
        form = parameters.form(newest.size, self.pictures.settings.snapshot)
        known = request.headers.get("if-none-match", "")
        if _etag(newest.frame, form) in known:
            return Response(status_code=304, headers=_headers(newest.frame, form))
        picture = await self.pictures.picture(code, form, newest.frame)
        return Response(picture.jpeg, media_type="image/jpeg", headers=_headers(picture.frame, form))

    async def _clip(self, request: Request) -> Response:
        code = request.path_params["code"]
        parameters = Parameters(request.query_params)
        span, asked_at = parameters.span(), time.time()
        moment = (parameters.moment() or NOW).unix(asked_at)
        if moment > asked_at + self.pictures.settings.snapshot.wait:
            raise ParameterError("at: that moment is to come")
        if request.method == "HEAD":
            return Response(media_type=MP4)
        place = self.clips.take()
        try:
            clip = await self.pictures.clip(code, moment, span)
            return _Clip(clip, place)
        except BaseException:
            place.leave()
            raise

    async def _stream(self, request: Request) -> Response:
        code = request.path_params["code"]
        parameters = Parameters(request.query_params)
        max_age = parameters.seconds("max_age", self.pictures.settings.snapshot.max_age)
        fps = parameters.number("fps", 0.01, MAX_FPS, MAX_FPS)
        media_type = f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}"
        place = self.streams.take()  # before anything is waited for: others come meanwhile
        try:
            newest = await self.pictures.look(code, max_age)
            form = parameters.form(newest.size, self.pictures.settings.snapshot)
            if request.method == "HEAD":
                place.leave()
                return Response(media_type=media_type)
            first = await self.pictures.picture(code, form, newest.frame)
            return _Stream(self._parts(code, form, fps, first), place, media_type)
        except BaseException:
            place.leave()
            raise

    async def _parts(self, code: str, form: Form, fps: float, picture: Picture) -> AsyncIterator[bytes]:
        """A stream's content: a picture of every new frame, until there is none.

        A viewer that reads slowly is asked for less often, and so is given fewer pictures: none wait for it.
        """
        # Each part ends with the next one's boundary: a browser shows a picture when it has seen that.
        yield b"--" + BOUNDARY + b"\r\n"
        async with self.followers.watch(code) as follower:
            seen, limit = picture.frame, FpsLimit(fps)
            while True:
                yield _part(picture, form)
                while True:
                    try:
                        seen = await follower.next(seen)
                    except FramesrvError:
                        return
                    if seen > picture.frame and limit.is_due():
                        break
                try:
                    picture = await self.pictures.picture(code, form, seen)
                except BusyError:
                    continue
                except FramesrvError:
                    return

    def _told(self, handler: Handler) -> Handler:
        """Tells a viewer what is wrong."""

        async def answer(request: Request) -> Response:
            code = request.path_params["code"]
            try:
                if not self.overview.knows(code):
                    return PlainTextResponse(f"There is no camera {code!a} on this host.\n", 404)
                return await handler(request)
            except ParameterError as error:
                return PlainTextResponse(f"{error}\n", 400)
            except BusyError as error:
                return PlainTextResponse(f"{error}\n", 503, {"Retry-After": "1"})
            except (HistoryUnavailableError, ClipError) as error:
                return PlainTextResponse(f"{log.mask(str(error))}\n", 404, {"X-Reason": error.reason})
            except CropError as error:
                return PlainTextResponse(f"{error}\n", 400)
            except FramesrvError as error:
                reason = error.reason if isinstance(error, FrameUnavailableError) else "unreadable"
                headers = {"Retry-After": "1", "X-Reason": reason}
                return PlainTextResponse(f"{log.mask(str(error))}\n", 503, headers)

        return answer


class _Stream(StreamingResponse):
    """A stream, which gives its place back at its end, whether anything of it was sent or not."""

    def __init__(self, content: AsyncIterator[bytes], place: Place, media_type: str) -> None:
        super().__init__(content, media_type=media_type)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._place.leave()


class _Clip(Response):
    """A clip, which keeps its place until it is sent: it is large."""

    def __init__(self, clip: Clip, place: Place) -> None:
        headers = {"X-Frame-Captured-At": f"{clip.captured_at:.6f}"}
        super().__init__(clip.content, media_type=MP4, headers=headers)
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._place.leave()


def _file(name: str) -> Route:
    content = (files("snapd.pages") / "files" / name).read_bytes()

    async def answer(_: Request) -> Response:
        return Response(content, media_type=CONTENT[name], headers={"Cache-Control": "no-cache"})

    return Route("/" if name == "index.html" else f"/{name}", answer)


async def _healthz(_: Request) -> Response:
    return PlainTextResponse("ok\n")


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def _etag(frame: FrameId, form: Form) -> str:
    drawn = "-overlay" if form.overlay else ""
    return f'"{frame.captured_ns:x}-{frame.seq}-{form.width or 0}-{form.quality}-{form.crop or "all"}{drawn}"'


def _headers(frame: FrameId, form: Form) -> Mapping[str, str]:
    return {"ETag": _etag(frame, form), "Cache-Control": "private, no-cache", **_about(frame)}


def _about(frame: FrameId) -> dict[str, str]:
    return {
        "X-Frame-Seq": str(frame.seq),
        "X-Frame-Captured-At": f"{frame.captured_ns / 1e9:.6f}",
        "X-Frame-Age": f"{frame.age:.3f}",
    }


def _part(picture: Picture, form: Form) -> bytes:
    headers = {"Content-Type": "image/jpeg", "Content-Length": str(len(picture.jpeg)), **_about(picture.frame)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return lines.encode() + b"\r\n" + picture.jpeg + b"\r\n--" + BOUNDARY + b"\r\n"
