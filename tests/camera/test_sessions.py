"""Cameras that refuse, lose, fall silent or forget, to whoever shows their pictures; to a session see `rtsp`."""

import re
import time
from collections.abc import Iterator
from functools import partial
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
from tests.support.held_up import HeldUp
from tests.support.odd_camera import OddCamera, OddClient
from tests.support.odd_clients import Forgetful, answering, asked_for, describing, replaced
from tests.support.processes import Program, wait_for, write_config
from tests.support.rtsp_server import RtspRequest, RtspResponse
from tests.support.side_by_side import side_by_side
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


def test_camera_that_refuses_tcp_is_played_over_udp_and_says_so(video: Path) -> None:
    with OddCamera(video, answering("461 Unsupported Transport", ways=("tcp",))) as camera:
        source, counts = source_of(camera.url()), Counts()
        assert len(played(source)) == 5
        assert len(list(islice(filter(None, source.frames(counts)), 5))) == 5
        assert asked_for(camera) == ["tcp", "udp", "udp"]
        assert counts.transport == "udp"


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(describing(lambda text: re.sub(r"a=fmtp.*\r\n", "", text)), id="no-parameter-sets"),
        pytest.param(describing(replaced("RTP/AVP 96", "RTP/AVP 96 97")), id="two-payload-numbers"),
    ],
)
def test_pictures_come_whatever_the_description_lacks(kind: type[OddClient], video: Path) -> None:
    with OddCamera(video, kind) as camera:
        assert len(played(source_of(camera.url()))) == 5


def test_video_of_an_unknown_kind_alone_says_so(video: Path) -> None:
    unknown = "m=video 0 RTP/AVP 97\r\na=rtpmap:97 vnd.private/90000\r\na=control:private\r\n"
    kind = describing(lambda text: text[: text.index("m=video")] + unknown)
    with OddCamera(video, kind) as camera, pytest.raises(SourceError, match="FFmpeg does not know") as caught:
        played(source_of(camera.url(), timeout=1.0))
    assert caught.value.cause == "format"


def test_scheme_may_stand_in_capitals(video: Path) -> None:
    with OddCamera(video) as camera:
        assert len(played(source_of(camera.url(scheme="RTSP")))) == 5


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


def test_camera_that_falls_silent_gives_no_picture_before_it_counts_as_lost(video: Path) -> None:
    """FFmpeg hands out the picture that its parser held when its own time-out comes, and waits once more."""
    side_by_side({transport: partial(falls_silent, transport, video) for transport in ("tcp", "udp")})


def falls_silent(transport: str, video: Path) -> None:
    with OddCamera(video) as camera, HeldUp() as held_up:
        playing = pictures(camera.url(), timeout=2.0, transport=transport)
        assert len(list(islice(playing, 50))) == 50
        camera.mode("stall")
        ages: list[float] = []
        with pytest.raises(SourceError, match="no packet for 2 s"):
            ages.extend(ages_of(playing))
        assert max(ages, default=0) < 1.9 + held_up.seconds


def test_relay_whose_publisher_is_replaced_is_followed_or_found_again(video: Path, held_up: HeldUp) -> None:
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
        assert max(ages) < 0.9 + held_up.seconds


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


def test_session_that_cannot_be_kept_is_opened_again_at_once(video: Path, tmp_path: Path, prefix: str) -> None:
    class Deaf(Forgetful):
        lasts = 1.0
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
