"""A camera that gives single pictures over HTTP, each with a code in it that says which one it is."""

from email.utils import formatdate
from fractions import Fraction
from typing import Literal

import av
import numpy as np
import simplejpeg

from tests.support.footage import draw_code
from tests.support.http_server import FaultyServer, HttpRequest, HttpResponse
from tests.support.rtsp_login import Login

Form = Literal["jpeg", "png"]
NUMBER = 7


def picture(index: int, form: Form = "jpeg", size: tuple[int, int] = (640, 360)) -> bytes:
    """One of 640 x 360, number `index` of camera `NUMBER`."""
    width, height = size
    bgr = np.full((height, width, 3), 128, np.uint8)
    draw_code(bgr, NUMBER, index)
    if form == "jpeg":
        return bytes(simplejpeg.encode_jpeg(bgr, 85, "BGR", "420"))
    codec = av.VideoCodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt, codec.framerate = width, height, "rgb24", Fraction(1)
    frame = av.VideoFrame.from_ndarray(bgr, "bgr24").reformat(format="rgb24")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)])


class PictureServer(FaultyServer):
    """A camera that has a new picture for each request, or the same one for as long as `still` says so.

    Args:
        form: of its pictures.
        kept: connections are kept; else each has one picture.
        validators: it says which picture it is, and does not send again what somebody has.
        login: what it asks for.

    Attributes:
        index: of the picture that it has.
        still: it does not change.
        body: is sent in place of pictures, if there is one.
        content_type: of that.
        redirects: path to where it leads.
        answers: the status of each, so far.
    """

    faulty_method = "GET"

    def __init__(
        self, form: Form = "jpeg", *, kept: bool = True, validators: bool = False, login: Login | None = None
    ) -> None:
        super().__init__()
        self._form: Form = form
        self._kept, self._validators, self._login = kept, validators, login
        self.index, self.still = 0, False
        self.body, self.content_type = b"", "image/jpeg"
        self.redirects: dict[str, str] = {}
        self.answers: list[int] = []
        self.paths: list[str] = []

    def source(self, user: str = "", path: str = "/cgi-bin/snapshot.cgi?channel=1") -> str:
        """Its URL, with what stands before the host, as ``user:password@``."""
        return f"http://{user}{self.domain}{path}"

    def answer(self, request: HttpRequest) -> HttpResponse:
        response = self._response(request)
        if not self._kept:
            response.headers["Connection"] = "close"
        self.answers.append(response.status)
        self.paths.append(request.path)
        return response

    def _response(self, request: HttpRequest) -> HttpResponse:
        login = self._login
        if login and not login.admits("GET", request.headers.get("authorization", "")):
            return HttpResponse(401, b"no", headers={"WWW-Authenticate": login.challenge})
        if request.path in self.redirects:
            return HttpResponse(302, headers={"Location": self.redirects[request.path]})
        if self.body:
            return HttpResponse(200, self.body, self.content_type)
        self.index += not self.still
        if not self._validators:
            return HttpResponse(200, picture(self.index, self._form), f"image/{self._form}")
        mark, date = f'"{self.index}"', formatdate(1_700_000_000 + self.index, usegmt=True)
        asked = (request.headers.get("if-none-match"), request.headers.get("if-modified-since"))
        headers = {"ETag": mark, "Last-Modified": date}
        if asked == (mark, date):
            return HttpResponse(304, headers=headers)
        return HttpResponse(200, picture(self.index, self._form), f"image/{self._form}", headers)
