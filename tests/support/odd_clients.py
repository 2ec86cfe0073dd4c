"""In what cameras are odd, which several tests ask for: connections to an `OddCamera`."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from tests.support.odd_camera import OddCamera, OddClient
from tests.support.rtsp_server import Camera, RtspRequest, RtspResponse

Change = Callable[[str], str]


def asked_for(camera: OddCamera) -> list[str]:
    """The transport of each SETUP so far."""
    return [_way(one) for one in camera.asked if one.method == "SETUP"]


def _way(request: RtspRequest) -> str:
    return "tcp" if "interleaved" in request.headers.get("transport", "") else "udp"


def answering(status: str, method: str = "SETUP", ways: tuple[str, ...] = ("tcp", "udp")) -> type[OddClient]:
    """A camera that answers a method so; SETUP where it is asked for one of these transports."""

    class Refusing(OddClient):
        def _response(self, request: RtspRequest) -> RtspResponse:
            if request.method == method and (method != "SETUP" or _way(request) in ways):
                return RtspResponse(status)
            return super()._response(request)

    return Refusing


class NothingOverTcp(OddClient):
    """Takes a session over TCP, and sends nothing."""

    async def _handle(self, request: RtspRequest) -> bool:
        if request.method == "PLAY" and asked_for(self.odd)[-1] == "tcp":
            self._task = asyncio.create_task(asyncio.sleep(60))
        return await super()._handle(request)


def describing(change: Change, **headers: str | None) -> type[OddClient]:
    """A camera whose description is changed so; a header of None is left out."""

    class Describing(OddClient):
        def _describe(self, request: RtspRequest, camera: Camera) -> RtspResponse:
            usual = super()._describe(request, camera)
            said = {name.replace("_", "-"): value for name, value in headers.items()}
            kept = {name: value for name, value in (usual.headers | said).items() if value is not None}
            return replace(usual, body=change(usual.body), headers=kept)

    return Describing


def replaced(old: str, new: str) -> Change:
    """A change of that, which must be there."""

    def change(description: str) -> str:
        assert old in description
        return description.replace(old, new)

    return change


class Forgetful(OddClient):
    """Drops a session that nobody has asked anything for so long.

    Attributes:
        lasts: s.
        counts: the methods that keep it.
        answers: whether it answers them.
        offers: what it says that it knows.
    """

    lasts = 2.0
    counts: tuple[str, ...] = ("OPTIONS", "GET_PARAMETER")
    answers = True
    offers = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"

    async def _handle(self, request: RtspRequest) -> bool:
        if request.method == "PLAY" or (self._task and request.method in self.counts):
            self._heard = time.monotonic()
            if request.method == "PLAY":
                self._watch = asyncio.create_task(self._forget())
            elif not self.answers:
                self.odd.asked.append(request)
                return True
        return await super()._handle(request)

    async def _forget(self) -> None:
        while time.monotonic() - self._heard < self.lasts:
            await asyncio.sleep(0.05)
        self.abort()

    def _response(self, request: RtspRequest) -> RtspResponse:
        answer = super()._response(request)
        if self._task and request.method == "GET_PARAMETER" and "GET_PARAMETER" not in self.offers:
            return RtspResponse("501 Not Implemented")
        if request.method == "OPTIONS":
            return RtspResponse(headers={"Public": self.offers})
        if "Session" in answer.headers:
            answer.headers["Session"] = f"{self._number};timeout={self.lasts:.0f}"
        return answer
