"""Sessions that cameras take, refuse, are slow to give, let go silent or forget."""

import asyncio
import re
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from framesrv import SourceError, camera_status
from framesrv.camera.policy import Policy
from framesrv.camera.sources import Source, SourceFrame, open_source
from framesrv.settings import Camera
from tests.camera.test_sources import gray, pictures
from tests.support.footage import footage, read_code
from tests.support.odd_camera import OddCamera, OddClient
from tests.support.processes import Program, wait_for, write_config
from tests.support.rtsp_server import RtspRequest, RtspResponse, UdpCarrier
from tests.support.rtsp_track import Track
from tests.support.sink import Counts

GOP = 25


@pytest.fixture(scope="module")
def video() -> Path:
    return footage(width=640, height=360, gop=GOP, number=5)


def source_of(url: str, **keys: Any) -> Source:
    return open_source(Camera(code="cam", source=url, **({"timeout": 5.0} | keys)), Policy("all"))


def played(source: Source, number: int = 5) -> list[int]:
    """The numbers of the next pictures."""
    codes = [read_code(gray(one)) for one in islice(shown(source), number)]
    assert None not in codes
    return [code[1] for code in codes if code is not None and code[0] == 5]


def shown(source: Source) -> Iterator[SourceFrame]:
    return (picture for picture in source.frames(Counts()) if picture is not None)


def ages_of(playing: Iterator[SourceFrame]) -> Iterator[float]:
    """How many seconds after its arrival each picture is given."""
    for picture in playing:
        yield (time.monotonic_ns() - picture.stamp.arrived_ns) / 1e9


def asked_for(camera: OddCamera) -> list[str]:
    """The transport of each SETUP so far."""
    transports = [one.headers["transport"] for one in camera.asked if one.method == "SETUP"]
    return ["tcp" if "interleaved" in one else "udp" for one in transports]


def answering(status: str, method: str, ways: tuple[str, ...] = ("tcp", "udp")) -> type[OddClient]:
    """A camera that answers a method so, asked for one of these transports."""

    class Refusing(OddClient):
        def _response(self, request: RtspRequest) -> RtspResponse:
            way = "tcp" if "interleaved" in request.headers.get("transport", "") else "udp"
            if request.method == method and (method != "SETUP" or way in ways):
                return RtspResponse(status)
            return super()._response(request)

    return Refusing


class OverUdpWhateverIsAsked(OddClient):
    """Answers a request for TCP with UDP."""

    def _set_up(self, transport: str) -> str | None:
        answer = "RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001"
        return answer if "interleaved" in transport else super()._set_up(transport)


class NothingOverTcp(OddClient):
    """Takes a session over TCP, and sends nothing."""

    async def _handle(self, request: RtspRequest) -> bool:
        if request.method == "PLAY" and asked_for(self.odd)[-1] == "tcp":
            self._task = asyncio.create_task(asyncio.sleep(60))
        return await super()._handle(request)


@pytest.mark.parametrize(
    "kind",
    [
        answering("461 Unsupported Transport", "SETUP", ("tcp",)),
        answering("406 Not Acceptable", "SETUP", ("tcp",)),
        answering("400 Bad Request", "SETUP", ("tcp",)),
        answering("500 Internal Server Error", "SETUP", ("tcp",)),
        OverUdpWhateverIsAsked,
    ],
    ids=["461", "406", "400", "500", "other"],
)
def test_camera_that_refuses_tcp_is_played_over_udp_and_that_is_remembered(
    kind: type[OddClient], video: Path
) -> None:
    with OddCamera(video, kind) as camera:
        source, counts = source_of(camera.url()), Counts()
        assert len(played(source)) == 5
        assert len(list(islice(filter(None, source.frames(counts)), 5))) == 5
        assert asked_for(camera) == ["tcp", "udp", "udp"]
        assert counts.transport == "udp"


def test_camera_that_refuses_every_transport_says_what_it_answers(video: Path) -> None:
    with (
        OddCamera(video, answering("461 Unsupported Transport", "SETUP")) as camera,
        pytest.raises(
            SourceError, match="over TCP it answers 461 Unsupported Transport to SETUP; over UDP it answers 461"
        ) as caught,
    ):
        next(pictures(camera.url()))
    assert caught.value.cause == "refused"


def test_transport_that_is_configured_is_the_only_one(video: Path) -> None:
    kind = answering("461 Unsupported Transport", "SETUP", ("tcp",))
    with OddCamera(video, kind) as camera, pytest.raises(SourceError, match="over TCP it answers 461"):
        next(pictures(camera.url(), transport="tcp"))
    assert asked_for(camera) == ["tcp"]


def test_camera_that_sends_nothing_over_tcp_is_tried_over_udp(video: Path) -> None:
    with OddCamera(video, NothingOverTcp) as camera:
        source = source_of(camera.url(), timeout=1.0)
        with pytest.raises(SourceError, match="no packet for 1 s; UDP is tried"):
            played(source)
        assert len(played(source)) == 5
        assert asked_for(camera) == ["tcp", "udp"]


def test_silence_of_a_camera_that_has_sent_over_tcp_does_not_change_the_transport(video: Path) -> None:
    with OddCamera(video) as camera:
        source = source_of(camera.url(), timeout=1.0)
        assert len(played(source)) == 5
        camera.mode("stall")
        with pytest.raises(SourceError, match=r"no packet for 1 s\Z"):
            played(source)
        camera.mode("run")
        assert len(played(source)) == 5
        assert set(asked_for(camera)) == {"tcp"}


def test_udp_that_loses_packets_is_given_up_where_tcp_works(video: Path) -> None:
    class OverTcpLater(OddClient):
        """As a camera whose TCP was refused when the decoder began."""

        def _set_up(self, transport: str) -> str | None:
            return None if asked_for(self.odd) == ["tcp"] else super()._set_up(transport)

    noisy = footage(width=640, height=360, gop=GOP, number=5, noisy=True)
    with OddCamera(noisy, OverTcpLater) as camera:
        source = source_of(camera.url())
        assert len(played(source)) == 5
        camera.mode("lose")
        with pytest.raises(SourceError, match="lost: packets are lost over UDP, TCP is tried"):
            played(source, 10_000)
        camera.mode("run")
        assert len(played(source)) == 5
        assert asked_for(camera) == ["tcp", "udp", "udp", "tcp"]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_camera_that_falls_silent_gives_no_picture_before_it_counts_as_lost(transport: str, video: Path) -> None:
    """FFmpeg hands out the picture that its parser held when its own time-out comes, and waits once more."""
    with OddCamera(video) as camera:
        playing = pictures(camera.url(), timeout=2.0, transport=transport)
        assert len(list(islice(playing, 50))) == 50
        camera.mode("stall")
        ages: list[float] = []
        with pytest.raises(SourceError, match="no packet for 2 s"):
            ages.extend(ages_of(playing))
        assert max(ages, default=0) < 1.9


def test_relay_whose_publisher_is_replaced_is_followed_or_found_again(video: Path) -> None:
    """All is numbered anew, from before what has been: FFmpeg takes 5000 packets for late ones."""
    with OddCamera(video) as camera:
        source = source_of(camera.url(), timeout=1.0)
        playing = shown(source)
        next(playing)
        (playback,) = camera.playbacks
        playback.begin_anew()
        ages: list[float] = []
        for _ in range(2):
            try:
                ages.extend(islice(ages_of(playing), 3 * GOP))
                break
            except SourceError as error:
                assert "no packet for 1 s" in str(error)  # noqa: PT017  it need not be raised
                playing = shown(source)
        assert len(ages) >= 3 * GOP
        assert max(ages) < 0.9


def test_camera_that_answers_late_is_given_more_time(video: Path) -> None:
    class Slow(OddClient):
        async def _handle(self, request: RtspRequest) -> bool:
            if request.method == "DESCRIBE":
                await asyncio.sleep(3)
            return await super()._handle(request)

    with OddCamera(video, Slow) as camera:
        source = source_of(camera.url(), timeout=1.0)
        for words in ("no answer for 1 s", "no answer for 2 s"):
            with pytest.raises(SourceError, match=words):
                played(source)
        assert len(played(source)) == 5


def test_host_that_is_not_there_is_not_given_more_time() -> None:
    source = source_of("rtsp://192.0.2.77/cam", timeout=0.5)
    for _ in range(3):
        with pytest.raises(SourceError) as caught:
            played(source)
        assert re.search(r"no answer for 0\.5 s|no way to", str(caught.value))


@pytest.mark.parametrize(
    ("status", "method", "words"),
    [
        ("404 Not Found", "DESCRIBE", "there is no such stream (404 Not Found)"),
        ("453 Not Enough Bandwidth", "SETUP", "453 Not Enough Bandwidth to SETUP: it has no room for another viewer"),
        ("503 Service Unavailable", "DESCRIBE", "503 Service Unavailable to DESCRIBE: it is busy, or still starting"),
    ],
)
def test_camera_that_refuses_at_first_is_live_once_it_gives_a_session(
    status: str, method: str, words: str, video: Path, tmp_path: Path, prefix: str
) -> None:
    class Later(answering(status, method)):  # type: ignore[misc]
        def _response(self, request: RtspRequest) -> RtspResponse:
            first = [one for one in self.odd.asked if one.method == method]
            return super()._response(request) if len(first) <= 2 else OddClient._response(self, request)

    with OddCamera(video, Later) as camera:
        config = write_config(
            tmp_path / "c.toml", {"shm": {"prefix": prefix}}, [{"code": "cam", "source": camera.url()}]
        )
        with Program("framesrv", "decode", "cam", "--config", config, log=tmp_path / "log") as program:
            wait_for(lambda: words in camera_status(prefix, "cam").error, "the reason is told")
            wait_for(lambda: camera_status(prefix, "cam").state == "live", "it is live")
            assert program.stop() == 0
        assert words in program.output


class Forgetful(OddClient):
    """Drops a session that nobody has asked anything for so long.

    Attributes:
        counts: the methods that keep it.
        answers: whether it answers them.
    """

    lasts = 2.0  # s
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


class Silent(Forgetful):
    """Counts OPTIONS, and does not answer them."""

    answers = False


class Parametric(Forgetful):
    """Counts GET_PARAMETER alone."""

    counts = ("GET_PARAMETER",)
    offers = "OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER"


@pytest.mark.parametrize("kind", [Forgetful, Silent, Parametric])
def test_session_with_a_short_timeout_is_kept(kind: type[OddClient], video: Path) -> None:
    with OddCamera(video, kind) as camera:
        assert len(played(source_of(camera.url()), 6 * GOP)) == 6 * GOP  # three of its time-outs
        assert camera.connections == 1


def test_session_that_cannot_be_kept_is_opened_again_at_once(video: Path, tmp_path: Path, prefix: str) -> None:
    class Deaf(Forgetful):
        counts = ()

    with OddCamera(video, Deaf) as camera:
        config = write_config(
            tmp_path / "c.toml", {"shm": {"prefix": prefix}}, [{"code": "cam", "source": camera.url()}]
        )
        with Program("framesrv", "decode", "cam", "--config", config, log=tmp_path / "log") as program:
            wait_for(lambda: camera_status(prefix, "cam").reconnects >= 3, "its session ends thrice")
            wait_for(lambda: camera_status(prefix, "cam").state == "live", "it is live")
            assert program.stop() == 0
        pauses = [float(one) for one in re.findall(r"next_in=([0-9.]+)s", program.output)]
        assert pauses
        assert max(pauses) <= 0.5  # the first of the back-off each time, since it gave pictures


def test_burst_of_a_key_frame_over_udp_loses_nothing(tmp_path: Path) -> None:
    class AtOnce(OddClient):
        def _set_up(self, transport: str) -> str | None:
            answer = super()._set_up(transport)
            assert isinstance(self._carrier, UdpCarrier)
            self._carrier.burst = 10_000
            return answer

    large = footage(width=1920, height=1080, frames=50, gop=10, noisy=True, number=5)
    track = Track(large)
    sizes = [sum(len(payload) for payload, _ in unit.payloads) for unit in track.units if unit.key]
    assert max(sizes) > 400_000
    with OddCamera(large, AtOnce) as camera:
        counts = Counts()
        playing = pictures(camera.url(), counts, transport="udp")
        codes = [read_code(gray(one)) for one in islice(playing, 60)]
    assert counts.counters["corrupt"] == 0
    assert None not in codes
