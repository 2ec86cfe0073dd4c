"""Descriptions of streams that are odd, and where they and redirects lead."""

import asyncio
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from framesrv import SourceError
from framesrv.camera.policy import Policy
from framesrv.camera.sources import open_source
from framesrv.settings import Camera as CameraSettings
from tests.camera.test_sources import gray, pictures
from tests.support.footage import footage, read_code
from tests.support.odd_camera import OddCamera, OddClient
from tests.support.processes import ROOT
from tests.support.rtsp_server import Camera, RtspRequest, RtspResponse
from tests.support.rtsp_track import Track
from tests.support.sink import Counts

Change = Callable[[str], str]
STRANGER = ROOT / "tests/support/certificate.pem"  # of nobody
OWN = ROOT / "tests/support/loopback.pem"  # of 127.0.0.1


@pytest.fixture(scope="module")
def video() -> Path:
    return footage(width=640, height=360, number=6)


def plays(url: str, number: int = 5, **keys: Any) -> bool:
    """Whether the camera's pictures come whole."""
    codes = [read_code(gray(one)) for one in islice(pictures(url, **({"timeout": 3.0} | keys)), number)]
    return len(codes) == number and all(code is not None and code[0] == 6 for code in codes)


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
    def change(description: str) -> str:
        assert old in description
        return description.replace(old, new)

    return change


def before_video(media: str) -> Change:
    return replaced("m=video", f"{media}m=video")


SOUND = "m=audio 0 RTP/AVP 8\r\na=control:sound\r\n"
METADATA = "m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\na=control:metadata\r\n"
UNKNOWN = "m=video 0 RTP/AVP 97\r\na=rtpmap:97 vnd.private/90000\r\na=control:private\r\n"


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(describing(lambda text: re.sub(r"a=fmtp.*\r\n", "", text)), id="no-parameter-sets"),
        pytest.param(describing(replaced("c=IN IP4 0.0.0.0", "c=IN IP4 ")), id="empty-c"),
        pytest.param(describing(replaced("c=IN IP4 0.0.0.0", "c=IN IP4 camera.invalid")), id="c-of-a-name"),
        pytest.param(describing(replaced("c=IN IP4 0.0.0.0", "c=IN IP6 ::garbage")), id="broken-c"),
        pytest.param(describing(before_video(SOUND)), id="sound-first"),
        pytest.param(describing(before_video(METADATA)), id="metadata-first"),
        pytest.param(describing(before_video(UNKNOWN)), id="unknown-video-first"),
        pytest.param(describing(replaced("RTP/AVP 96", "RTP/AVP 96 97")), id="two-payload-numbers"),
        pytest.param(describing(replaced("control:", "control:rtsp://192.0.2.1/x/")), id="absolute-control"),
        pytest.param(describing(replaced("control:track0", "control:*")), id="control-of-all"),
        pytest.param(describing(replaced("a=control:track0\r\n", "")), id="no-control"),
        pytest.param(describing(str, Content_Base=None), id="no-content-base"),
    ],
)
def test_odd_description_is_played(kind: type[OddClient], video: Path) -> None:
    with OddCamera(video, kind) as camera:
        assert plays(camera.url(path="/cam?channel=1&subtype=0"))
        set_up = [one.url for one in camera.asked if one.method == "SETUP"]
    assert not [url for url in set_up if "sound" in url or "metadata" in url]


def two_tracks(description: str) -> str:
    media = description[description.index("m=video") :]
    return description + media.replace("track0", "track1")


class OfTwoTracks(OddClient):
    """Has two video tracks, of which one alone gives pictures."""

    speaking = "track0"
    carriers: dict[str, Any] | None = None

    def _describe(self, request: RtspRequest, camera: Camera) -> RtspResponse:
        usual = super()._describe(request, camera)
        return replace(usual, body=two_tracks(usual.body))

    def _response(self, request: RtspRequest) -> RtspResponse:
        answer = super()._response(request)
        if request.method == "SETUP":
            self.carriers = (self.carriers or {}) | {request.url.rpartition("/")[2]: self._carrier}
            self._carrier = self.carriers.get(self.speaking, self._carrier)
        if request.method == "PLAY" and self.speaking not in (self.carriers or {}):
            self._task = asyncio.create_task(asyncio.sleep(60))
        return answer


class TheSecondOfTwo(OfTwoTracks):
    """Gives those of the other one."""

    speaking = "track1"


@pytest.mark.parametrize("kind", [OfTwoTracks, TheSecondOfTwo])
def test_of_two_video_tracks_the_one_with_pictures_is_played(kind: type[OddClient], video: Path) -> None:
    with OddCamera(video, kind) as camera:
        source = open_source(CameraSettings(code="cam", source=camera.url(), timeout=1.0), Policy("all"))
        for _ in range(2):
            with suppress(SourceError):  # where it is found out by its silence
                taken = list(islice(filter(None, source.frames(Counts())), 5))
                break
    assert all(code is not None and code[0] == 6 for code in map(read_code, map(gray, taken)))


def test_track_that_is_configured_is_the_only_one(video: Path) -> None:
    with OddCamera(video, TheSecondOfTwo) as camera:
        assert plays(camera.url(), track=2)
        for _ in range(2):
            with pytest.raises(SourceError, match=r"no packet for 1 s"):
                plays(camera.url(), track=1, timeout=1.0)
        with pytest.raises(SourceError, match="there is no video track 3 in it, only 2"):
            plays(camera.url(), track=3)


def test_video_of_an_unknown_kind_alone_says_so(video: Path) -> None:
    kind = describing(lambda text: text[: text.index("m=video")] + UNKNOWN)
    with OddCamera(video, kind) as camera, pytest.raises(SourceError, match="FFmpeg does not know") as caught:
        plays(camera.url())
    assert caught.value.cause == "format"


def leading(to: str) -> type[OddClient]:
    class Redirecting(OddClient):
        def _response(self, request: RtspRequest) -> RtspResponse:
            if request.method == "DESCRIBE":
                return RtspResponse("302 Found", {"Location": to})
            return super()._response(request)

    return Redirecting


def test_redirect_to_another_camera_is_followed(video: Path) -> None:
    with OddCamera(video) as there, OddCamera(video, leading(there.url())) as here:
        assert plays(here.url())
        assert there.methods()[:2] == ["OPTIONS", "DESCRIBE"]


@pytest.mark.parametrize("to", ["file:///etc/passwd", "http://127.0.0.1:1/x"])
def test_redirect_leads_to_nothing_but_cameras(to: str, video: Path) -> None:
    with OddCamera(video, leading(to)) as here, pytest.raises(SourceError):
        plays(here.url())


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_camera_with_an_address_of_ipv6_is_played(transport: str, video: Path) -> None:
    with OddCamera(video, host="::1") as camera:
        assert plays(camera.url(), transport=transport)


def test_scheme_may_stand_in_capitals(video: Path) -> None:
    with OddCamera(video) as camera:
        assert plays(camera.url(scheme="RTSP"))


def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_certificate_of_a_camera_is_verified_where_it_is_to_be(
    video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with OddCamera(video, context=tls(OWN)) as camera:
        url = camera.url(scheme="rtsps")
        assert plays(url, tls_ca=str(OWN))
        assert not caplog.records
        assert plays(url)
        assert "The camera's certificate is not verified" in caplog.text
        for keys in ({"tls_verify": True}, {"tls_ca": str(STRANGER)}):
            with pytest.raises(SourceError, match="is not trusted: give it, or that of its signer, as tls_ca"):
                plays(url, **keys)
        with pytest.raises(SourceError, match=r"tls_ca = .*none.pem cannot be read: No such file"):
            plays(url, tls_ca=str(tmp_path / "none.pem"))


def test_certificate_for_another_name_is_refused(video: Path) -> None:
    with (
        OddCamera(video, context=tls(STRANGER)) as camera,
        pytest.raises(SourceError, match=r"is not for 127.0.0.1: write the name that it is for into source"),
    ):
        plays(camera.url(scheme="rtsps"), tls_ca=str(STRANGER))


def test_description_in_a_file_is_played_as_the_stream_that_it_is(video: Path, tmp_path: Path) -> None:
    """It is no recording: it has no end, and is neither paced nor begun anew."""
    track = Track(video)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1] & ~1  # RTP takes an even one
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        file = tmp_path / "cam.sdp"
        file.write_text(
            "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
            f"m=video {port} RTP/AVP 96\r\n{track.sdp}"
        )
        ended = threading.Event()
        sent: list[float] = []

        def send() -> None:
            """Twice as fast as the time stamps say."""
            number = ticks = 0
            while not ended.is_set():
                for unit in track.units:
                    ticks += track.step
                    sent.append(time.monotonic())
                    for payload, marker in unit.payloads:
                        head = bytes([0x80, 96 | marker << 7]) + (number & 0xFFFF).to_bytes(2, "big")
                        stamp = ticks.to_bytes(4, "big")
                        with suppress(ConnectionRefusedError):
                            sender.sendto(head + stamp + b"\0\0\0\1" + payload, ("127.0.0.1", port))
                        number += 1
                    if ended.wait(track.interval / 2):
                        return

        sending = threading.Thread(target=send)
        sending.start()
        try:
            ages: list[float] = []
            first = None
            for number, picture in enumerate(islice(pictures(str(file), timeout=3.0), 300)):
                first = read_code(gray(picture)) if first is None else first
                assert first is not None
                ages.append(time.monotonic() - sent[first[1] + number])
                if number > 100 and ages[-1] < 1:
                    break
            assert min(ages[100:]) < 1
        finally:
            ended.set()
            sending.join()
