"""How sessions are opened: what cameras describe, where they lead, whom they trust and are trusted by."""

import asyncio
import base64
import hashlib
import re
import ssl
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from framesrv.camera.sources.experience import Experience
from framesrv.camera.sources.rtsp.session import Session
from framesrv.errors import SourceError
from framesrv.settings import Camera
from tests.support.footage import footage
from tests.support.odd_camera import OddCamera, OddClient
from tests.support.odd_clients import Change, answering, describing, replaced
from tests.support.processes import ROOT
from tests.support.rtsp_server import Camera as Played
from tests.support.rtsp_server import RtspRequest, RtspResponse

STRANGER = ROOT / "tests/support/certificate.pem"  # of nobody
OWN = ROOT / "tests/support/loopback.pem"  # of 127.0.0.1
SOUND = "m=audio 0 RTP/AVP 8\r\na=control:sound\r\n"
METADATA = "m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\na=control:metadata\r\n"
UNKNOWN = "m=video 0 RTP/AVP 97\r\na=rtpmap:97 vnd.private/90000\r\na=control:private\r\n"


@pytest.fixture(scope="module")
def video() -> Path:
    return footage(width=640, height=360, gop=25, number=5)


def camera_of(url: str, **keys: Any) -> Camera:
    return Camera(code="cam", source=url, **({"timeout": 5.0} | keys))


def plays(camera: Camera, experience: Experience | None = None, number: int = 20) -> bool:
    """Whether packets come, one after the other."""
    found: list[int] = []
    with Session(camera, experience) as session:
        for one in session.packets():
            if one is not None and not one[0]:
                found += [int.from_bytes(data[2:4], "big") for data in one[1]]
            if len(found) >= number:
                break
    return all(after == before + 1 & 0xFFFF for before, after in pairwise(found))


def failure(camera: Camera, experience: Experience | None = None) -> SourceError:
    """Why it does not."""
    with pytest.raises(SourceError) as caught:
        plays(camera, experience)
    return caught.value


def before_video(media: str) -> Change:
    return replaced("m=video", f"{media}m=video")


@pytest.mark.parametrize(
    ("kind", "control"),
    [
        pytest.param(describing(lambda text: re.sub(r"a=fmtp.*\r\n", "", text)), "track0", id="no-parameter-sets"),
        pytest.param(describing(replaced("c=IN IP4 0.0.0.0", "c=IN IP4 ")), "track0", id="empty-c"),
        pytest.param(describing(replaced("0.0.0.0", "camera.invalid")), "track0", id="c-of-a-name"),
        pytest.param(describing(replaced("IP4 0.0.0.0", "IP6 ::garbage")), "track0", id="broken-c"),
        pytest.param(describing(before_video(SOUND)), "track0", id="sound-first"),
        pytest.param(describing(before_video(METADATA)), "track0", id="metadata-first"),
        pytest.param(describing(before_video(UNKNOWN)), "track0", id="unknown-video-first"),
        pytest.param(describing(before_video(SOUND + METADATA + UNKNOWN)), "track0", id="video-last"),
        pytest.param(describing(replaced("control:", "control:rtsp://192.0.2.1/x/")), "192.0.2.1/x/track0", id="far"),
        pytest.param(describing(replaced("control:track0", "control:*")), "subtype=0/", id="control-of-all"),
        pytest.param(describing(replaced("a=control:track0\r\n", "")), "subtype=0/", id="no-control"),
        pytest.param(describing(str, Content_Base=None), "subtype=0/track0", id="no-content-base"),
        pytest.param(describing(str, Content_Base="/"), "subtype=0/track0", id="content-base-that-is-none"),
        pytest.param(
            describing(str, Content_Base=None, Content_Location="rtsp://h/y/"), "rtsp://h/y/track0", id="location"
        ),
    ],
)
def test_odd_description_is_played(kind: type[OddClient], control: str, video: Path) -> None:
    with OddCamera(video, kind) as odd:
        assert plays(camera_of(odd.url(path="/cam?channel=1&subtype=0")))
        set_up = [one.url for one in odd.asked if one.method == "SETUP"]
    assert len(set_up) == 1, "nothing but one track of video"
    assert set_up[0].endswith(control)


def two_tracks(description: str) -> str:
    media = description[description.index("m=video") :]
    return description + media.replace("track0", "track1")


class OfTwoTracks(OddClient):
    """Has two video tracks, of which the second one gives pictures."""

    gives = "track1"

    def _describe(self, request: RtspRequest, camera: Played) -> RtspResponse:
        usual = super()._describe(request, camera)
        return replace(usual, body=two_tracks(usual.body))

    async def _handle(self, request: RtspRequest) -> bool:
        set_up = [one.url for one in self.odd.asked if one.method == "SETUP"]
        if request.method == "PLAY" and not set_up[-1].endswith(self.gives):
            self._task = asyncio.create_task(asyncio.sleep(60))
        return await super()._handle(request)


def test_of_two_video_tracks_the_one_with_packets_is_found(video: Path) -> None:
    with OddCamera(video, OfTwoTracks) as odd:
        camera = camera_of(odd.url(), timeout=1.0)
        experience = Experience(camera)
        assert "lost: no packet for 1 s; the next track is tried" in str(failure(camera, experience))
        assert plays(camera, experience)
        assert plays(camera, experience)
        set_up = [one.url[-6:] for one in odd.asked if one.method == "SETUP"]
    assert set_up == ["track0", "track1", "track1"]
    with OddCamera(video, type("First", (OfTwoTracks,), {"gives": "track0"})) as odd:
        assert plays(camera_of(odd.url()))
        assert [one.url[-6:] for one in odd.asked if one.method == "SETUP"] == ["track0"]


def test_track_that_is_configured_is_the_one_that_is_played(video: Path) -> None:
    with OddCamera(video, OfTwoTracks) as odd:
        assert plays(camera_of(odd.url(), track=2))
        assert str(failure(camera_of(odd.url(), track=1, timeout=1.0, transport="tcp"))) == "lost: no packet for 1 s"
        assert "there is no video track 3 in it, only 2" in str(failure(camera_of(odd.url(), track=3)))


def test_encrypted_video_is_said_to_be_that(video: Path) -> None:
    with OddCamera(video, describing(replaced("RTP/AVP", "RTP/SAVP"))) as odd:
        assert "its video is encrypted (SRTP)" in str(failure(camera_of(odd.url())))


def test_profile_of_the_description_is_asked_for(video: Path) -> None:
    with OddCamera(video, describing(replaced("RTP/AVP", "RTP/AVPF"))) as odd:
        assert plays(camera_of(odd.url()))
        assert plays(camera_of(odd.url(), transport="udp"))
        asked = [one.headers["transport"].partition(";")[0] for one in odd.asked if one.method == "SETUP"]
    assert asked == ["RTP/AVPF/TCP", "RTP/AVPF"]


def leading(to: str, method: str = "DESCRIBE") -> type[OddClient]:
    class Leading(OddClient):
        def _response(self, request: RtspRequest) -> RtspResponse:
            if request.method == method:
                return RtspResponse("302 Found", {"Location": to})
            return super()._response(request)

    return Leading


@pytest.mark.parametrize("method", ["OPTIONS", "DESCRIBE"])
def test_redirect_to_another_camera_is_followed(method: str, video: Path) -> None:
    with OddCamera(video) as there, OddCamera(video, leading(there.url(), method)) as here:
        assert plays(camera_of(here.url()))
        assert there.methods() == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY", "TEARDOWN"]


@pytest.mark.parametrize("to", ["file:///etc/passwd", "http://127.0.0.1:1/x", "rtspu://127.0.0.1/x"])
def test_redirect_leads_to_nothing_but_cameras(to: str, video: Path) -> None:
    with OddCamera(video, leading(to)) as here:
        error = failure(camera_of(here.url()))
    assert f"it leads to {to.partition(':')[0]}:, which a source of this kind may not use" in str(error)
    assert error.cause == "protocol"


def test_redirects_have_an_end(video: Path) -> None:
    with OddCamera(video, leading("/cam/again")) as here:
        assert "it leads from one address to the next" in str(failure(camera_of(here.url())))
        assert here.connections < 10


def test_redirect_does_not_lead_out_of_tls(video: Path) -> None:
    with OddCamera(video) as there, OddCamera(video, leading(there.url()), context=tls(OWN)) as here:
        assert "it leads to rtsp:, which" in str(failure(camera_of(here.url(scheme="rtsps"))))
        assert not there.connections


def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_certificate_of_a_camera_is_verified_where_it_is_to_be(
    video: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dense = footage(width=640, height=360, gop=25, number=5, noisy=True)
    with OddCamera(dense, context=tls(OWN)) as odd:
        url = odd.url(scheme="rtsps")
        assert plays(camera_of(url, tls_ca=str(OWN)), number=300)
        assert not caplog.records
        camera = camera_of(url)
        experience = Experience(camera)
        assert plays(camera, experience)
        assert plays(camera, experience)
        assert caplog.text.count("The camera's certificate is not verified") == 1
        for keys in ({"tls_verify": True}, {"tls_ca": str(STRANGER)}):
            error = failure(camera_of(url, **keys))
            assert "is not trusted: give it, or that of its signer, as tls_ca" in str(error)
            assert error.cause == "protocol"
        (tmp_path / "text.pem").write_text("no certificate")
        for name, words in (("none.pem", "No such file"), ("text.pem", "there is no certificate in it")):
            file = tmp_path / name
            assert f"tls_ca = {file} cannot be read: {words}" in str(failure(camera_of(url, tls_ca=str(file))))


def test_certificate_for_another_name_is_refused(video: Path) -> None:
    with OddCamera(video, context=tls(STRANGER)) as odd:
        error = failure(camera_of(odd.url(scheme="rtsps"), tls_ca=str(STRANGER)))
    assert "is not for 127.0.0.1: write the name that it is for into source" in str(error)


class Asking(OddClient):
    """Wants a user and a password, by Digest with one algorithm; a nonce is good for two requests."""

    algorithm, function = "SHA-256", "sha256"
    user, password = "admin", "p/ss:w#rd?%"
    uses = 2
    _nonce, _used = "", 0

    def _response(self, request: RtspRequest) -> RtspResponse:
        answer = request.headers.get("authorization", "")
        said = dict(re.findall(r'(\w+)="?([^",]*)', answer))
        if self._nonce and said.get("nonce") == self._nonce and said["response"] == self._expected(request, said):
            self._used += 1
            if self._used <= self.uses:
                return super()._response(request)
        self._nonce, self._used = f"{time.monotonic_ns()}", 0
        offer = f'Digest realm="cam", nonce="{self._nonce}", algorithm={self.algorithm}, qop="auth"'
        return RtspResponse("401 Unauthorized", {"WWW-Authenticate": offer})

    def _expected(self, request: RtspRequest, said: dict[str, str]) -> str:
        def digest(*parts: str) -> str:
            return hashlib.new(self.function, ":".join(parts).encode()).hexdigest()

        secret = digest(self.user, "cam", self.password)
        what = digest(request.method, said["uri"])
        return digest(secret, said["nonce"], said["nc"], said["cnonce"], "auth", what)


@pytest.mark.parametrize(("algorithm", "function"), [("MD5", "md5"), ("md5", "md5"), ("SHA-256", "sha256")])
@pytest.mark.parametrize("user", ["admin:p/ss:w#rd?%@", "admin:p%2Fss%3Aw%23rd%3F%25@"])
def test_camera_that_asks_for_a_password_gets_it(algorithm: str, function: str, user: str, video: Path) -> None:
    kind = type("Of", (Asking,), {"algorithm": algorithm, "function": function})
    with OddCamera(video, kind) as odd:
        assert plays(camera_of(odd.url(user)))
        assert odd.methods()[-1] == "TEARDOWN"


def test_password_that_is_wrong_is_said_to_be_and_is_tried_once(video: Path) -> None:
    with OddCamera(video, Asking) as odd:
        error = failure(camera_of(odd.url("admin:wrong@")))
        assert odd.methods() == ["OPTIONS", "OPTIONS"]
    assert "the camera refuses the user or the password (401 Unauthorized)" in str(error)
    assert error.cause == "unauthorized"


def test_algorithm_that_nobody_knows_is_not_blamed_on_the_password(video: Path) -> None:
    with OddCamera(video, type("Of", (Asking,), {"algorithm": "SHAKE-256"})) as odd:
        error = failure(camera_of(odd.url("admin:right@")))
    assert "the camera offers only Digest SHAKE-256, which framesrv does not know" in str(error)
    assert "password" not in str(error)


def test_password_that_may_be_a_host_is_told_of() -> None:
    error = failure(camera_of("rtsp://admin:p@ss.invalid/w@127.0.0.1:1/cam"))
    assert "the host name ss.invalid is unknown" in str(error)
    assert "if that is a part of a password, write its @ as %40" in str(error)


def test_basic_is_spoken_where_nothing_else_is_offered(video: Path) -> None:
    class Basic(OddClient):
        def _response(self, request: RtspRequest) -> RtspResponse:
            if request.headers.get("authorization") == "Basic " + base64.b64encode(b"u:p:w").decode():
                return super()._response(request)
            return RtspResponse("401 Unauthorized", {"WWW-Authenticate": 'Basic realm="cam"'})

    with OddCamera(video, Basic) as odd:
        assert plays(camera_of(odd.url("u:p:w@")))


def test_camera_that_answers_late_is_given_more_time(video: Path) -> None:
    class Slow(OddClient):
        async def _handle(self, request: RtspRequest) -> bool:
            if request.method == "DESCRIBE":
                await asyncio.sleep(1.5)
            return await super()._handle(request)

    with OddCamera(video, Slow) as odd:
        camera = camera_of(odd.url(), timeout=0.5)
        experience = Experience(camera)
        for words in ("no answer for 0.5 s", "no answer for 1 s"):
            assert words in str(failure(camera, experience))
        assert plays(camera, experience)


def test_host_that_is_not_there_is_not_given_more_time() -> None:
    camera = camera_of("rtsp://192.0.2.77/cam", timeout=0.5)
    experience = Experience(camera)
    for _ in range(3):
        assert re.search(r"no answer for 0\.5 s|no way to", str(failure(camera, experience)))


def test_camera_that_answers_no_options_is_played(video: Path) -> None:
    class Mute(OddClient):
        async def _handle(self, request: RtspRequest) -> bool:
            return request.method == "OPTIONS" or await super()._handle(request)

    with OddCamera(video, Mute) as odd:
        assert plays(camera_of(odd.url(), timeout=2.0))


@pytest.mark.parametrize(
    ("status", "method", "words", "cause"),
    [
        ("404 Not Found", "DESCRIBE", "there is no such stream (404 Not Found)", "not_found"),
        ("403 Forbidden", "DESCRIBE", "forbids it (403 Forbidden): see the user's rights", "unauthorized"),
        ("453 Not Enough Bandwidth", "SETUP", "453 Not Enough Bandwidth to SETUP: it has no room", "refused"),
        ("503 Service Unavailable", "DESCRIBE", "503 Service Unavailable to DESCRIBE: it is busy", "refused"),
        ("455 Method Not Valid", "PLAY", "the camera answers 455 Method Not Valid to PLAY", "refused"),
        ("551", "PLAY", "the camera answers 551 to PLAY", "refused"),
    ],
)
def test_what_a_camera_answers_is_said(status: str, method: str, words: str, cause: str, video: Path) -> None:
    with OddCamera(video, answering(status, method)) as odd:
        error = failure(camera_of(odd.url()))
    assert words in str(error)
    assert error.cause == cause
    assert str(error).startswith("cannot be opened: ")


def test_camera_that_ends_the_connection_at_play_is_said_to_do_that(video: Path) -> None:
    class Ending(OddClient):
        async def _handle(self, request: RtspRequest) -> bool:
            if request.method == "PLAY":
                self.abort()
            return await super()._handle(request)

    with OddCamera(video, Ending) as odd:
        error = failure(camera_of(odd.url()))
    assert "the camera ends the connection when it is asked to PLAY" in str(error)


@pytest.mark.parametrize(
    ("source", "cause", "words"),
    [
        ("rtsp://u:p@no-such-host.invalid/x", "name_unknown", "the host name no-such-host.invalid is unknown"),
        ("rtsp://127.0.0.1:1/x", "refused", "nothing listens at 127.0.0.1:1: Connection refused"),
        ("rtsp://[ff00::1%lo]/x", "no_route", "there is no way to ff00::1"),
        ("rtsp://[fe80::1%none]/x", "no_route", "there is no way to fe80::1"),
    ],
)
def test_host_that_cannot_be_reached_is_said_to_be(source: str, cause: str, words: str) -> None:
    error = failure(camera_of(source))
    assert words in str(error)
    assert error.cause == cause
