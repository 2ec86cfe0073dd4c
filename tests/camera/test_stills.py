"""Single pictures, over HTTP and in files: asked for at a rate, for ever, and nothing else."""

import logging
import struct
import time
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import simplejpeg

from framesrv import SourceError, camera_status
from framesrv.camera.policy import Policy
from framesrv.camera.sources import SourceFrame
from framesrv.camera.sources.still.source import Still
from framesrv.codec.exif import orientation_in
from framesrv.codec.presentation import Presentation
from framesrv.codec.shape import Shape
from framesrv.errors import SourceLimitError
from framesrv.settings import Camera
from tests.camera.test_costly_cameras import processor
from tests.camera.test_sources import gray, pictures, turns
from tests.support.flood import HEADERS, LINE, Flood, FloodServer
from tests.support.footage import read_code
from tests.support.http_server import Fault
from tests.support.picture_server import NUMBER, Form, PictureServer, picture
from tests.support.processes import Program, wait_for, write_config
from tests.support.rtsp_login import Login
from tests.support.side_by_side import side_by_side
from tests.support.sink import Counts
from tests.support.trickle import HEAD, TrickleServer

RATE = 20.0


def stills(source: str, **keys: Any) -> Iterator[SourceFrame]:
    """Those of a source that is known to be a single picture."""
    camera = Camera(code="cam", source=source, fps=RATE, **({"timeout": 1.0} | keys))
    return (one for one in Still(camera, Policy("all")).frames(Counts()) if one is not None)


def codes(given: list[Any]) -> list[int]:
    """The numbers of the pictures; each must be whole."""
    found = [read_code(gray(one)) for one in given]
    assert all(code is not None and code[0] == NUMBER for code in found)
    return [code[1] for code in found if code is not None]


@pytest.mark.parametrize("kept", [True, False])
@pytest.mark.parametrize("form", ["jpeg", "png"])
def test_picture_over_http_is_asked_for_at_its_rate(form: Form, kept: bool, caplog: pytest.LogCaptureFixture) -> None:
    with PictureServer(form, kept=kept) as server, caplog.at_level(logging.INFO):
        began = time.monotonic()
        given = [(p.stamp.arrived_ns, codes([p])[0]) for p in islice(pictures(server.source(), fps=RATE), 21)]
        took = time.monotonic() - began
        numbers = [number for _, number in given]
        assert numbers == list(range(numbers[0], numbers[0] + 21))  # none is asked for in vain
        assert took >= 19 / RATE
        assert server.connections <= (3 if kept else 25)  # FFmpeg finds out what is there
        times = [moment for moment, _ in given]
        assert times == sorted(times)
    assert caplog.records == []


def with_exif(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with that orientation in its Exif."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]


UPRIGHT = np.arange(64, dtype=np.uint8).reshape(8, 8)
AS_STORED = {  # by what Exif tells: what shows the picture upright where it is turned so
    1: UPRIGHT,
    2: np.fliplr(UPRIGHT),
    3: np.rot90(UPRIGHT, 2),
    4: np.flipud(UPRIGHT),
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT),
    7: np.rot90(UPRIGHT, 2).T,
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("orientation", AS_STORED)
def test_picture_with_exif_is_shown_as_that_says(orientation: int, tmp_path: Path) -> None:
    """FFmpeg gives Exif beside the picture, in a form that PyAV does not know: none of them was shown."""
    file = tmp_path / "picture.jpg"
    luma = (AS_STORED[orientation] * 3 + 16).repeat(16, 0).repeat(16, 1)
    jpeg = simplejpeg.encode_jpeg(np.ascontiguousarray(luma[..., None]), 95, "GRAY", "Gray")
    file.write_bytes(with_exif(bytes(jpeg), orientation))
    for playing in (stills(str(file)), pictures(file, fps=RATE)):  # FFmpeg shows the first one itself
        given = Shape(Presentation()).applied(next(playing))
        assert np.abs(given.planes[0][8::16, 8::16].astype(int) - (UPRIGHT * 3 + 16)).max() <= 6


@pytest.mark.parametrize(
    "exif", [b"", b"II", b"XX*\0\x08\0\0\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"]
)
def test_exif_that_makes_no_sense_turns_nothing(exif: bytes) -> None:
    content = b"Exif\0\0" + exif
    jpeg = picture(1)
    odd = jpeg[:2] + b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content + jpeg[2:]
    assert orientation_in(odd) is None
    assert orientation_in(b"\x89PNG") is None


@pytest.mark.parametrize("pixel_format", ["yuv420p", "bgr24"])
def test_picture_that_has_not_changed_is_not_sent_again_and_keeps_its_time(pixel_format: str) -> None:
    with PictureServer(validators=True) as server:
        server.still = True
        playing = pictures(server.source(), fps=RATE, pixel_format=pixel_format)
        given = [p.stamp for p in islice(playing, 8)]
        assert server.answers.count(304) >= 5
        assert len({stamp.captured_ns for stamp in given[2:]}) == 1
        ages = [stamp.arrived_ns for stamp in given]
        assert ages == sorted(set(ages))
        server.still = False
        assert 1 in codes(list(islice(playing, 3)))


def test_same_picture_sent_again_keeps_its_time() -> None:
    with PictureServer() as server:
        server.still = True
        given = [p.stamp for p in islice(pictures(server.source(), fps=RATE), 8)]
    assert len({stamp.captured_ns for stamp in given[2:]}) == 1
    assert len({stamp.arrived_ns for stamp in given}) == 8


@pytest.mark.parametrize(
    "login",
    [
        Login("basic", "admin", "p@ss/w#rd"),
        Login("digest", "admin", "p@ss/w#rd"),
        Login("digest", "admin", "p@ss/w#rd", algorithm="SHA-256"),
    ],
    ids=["basic", "md5", "sha256"],
)
def test_picture_behind_a_password_is_had(login: Login) -> None:
    with PictureServer(login=login) as server:
        assert codes(list(islice(pictures(server.source("admin:p%40ss%2Fw%23rd@"), fps=RATE), 5)))
        assert server.answers.count(200) >= 5


def test_wrong_password_of_a_picture_is_said_and_not_tried_for_ever() -> None:
    with PictureServer(login=Login("digest", "admin", "right")) as server:
        for source, words in ((server.source("admin:wrong@"), "refuses the user or"), (server.source(), "has none")):
            with pytest.raises(SourceError, match=words) as caught:
                next(pictures(source))
            assert caught.value.cause == "unauthorized"
        assert len(server.answers) <= 6


def test_stream_behind_a_password_that_ffmpeg_cannot_tell_is_not_blamed_on_the_password() -> None:
    with PictureServer(login=Login("digest", "admin", "pw", algorithm="SHA-256")) as server:
        server.body, server.content_type = b"G", "video/mp2t"
        with pytest.raises(SourceError, match="offers only Digest SHA-256, which FFmpeg does not know"):
            next(pictures(server.source("admin:pw@")))


def test_redirect_of_a_picture_is_followed_to_http_alone_and_not_for_ever(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(picture(99))
    with PictureServer() as server:
        server.redirects = {"/a": "/b", "/b": "/snap.jpg", "/file": f"file://{secret}", "/round": "/round"}
        assert codes(list(islice(pictures(server.source(path="/a"), fps=RATE), 4)))
        for path in ("/file", "/round"):
            with pytest.raises(SourceError):
                next(pictures(server.source(path=path)))


def test_redirect_that_turns_to_a_file_later_is_refused(tmp_path: Path) -> None:
    with PictureServer() as server:
        server.redirects = {"/a": "/snap.jpg"}
        playing = pictures(server.source(path="/a"), fps=RATE, timeout=0.5)
        list(islice(playing, 3))
        server.redirects = {"/a": f"file://{tmp_path}"}
        with pytest.raises(SourceError, match="it leads to file:, which a source of this kind may not use"):
            list(islice(playing, 1000))
        server.redirects = {"/a": "/a"}
        with pytest.raises(SourceError, match="from one address to the next, 5 times"):
            next(stills(server.source(path="/a")))


def test_password_is_told_to_nobody_else() -> None:
    with PictureServer(login=Login("basic", "admin", "pw")) as elsewhere, PictureServer() as server:
        server.redirects = {"/a": elsewhere.source(path="/snap.jpg")}
        with pytest.raises(SourceError, match=f"leads to {elsewhere.domain}, which asks for"):
            next(stills(server.source("admin:pw@", "/a")))
        assert elsewhere.answers == [401]


@pytest.mark.parametrize("fault", [Fault(500, 3), Fault("reset", 3), Fault(404, 3)])
def test_failure_that_passes_costs_a_picture_and_no_session(fault: Fault) -> None:
    with PictureServer() as server:
        playing = pictures(server.source(), fps=RATE, timeout=10.0)
        list(islice(playing, 3))
        server.fault = fault
        wait = list(islice(playing, 5))
        assert codes(wait) == list(range(codes(wait)[0], codes(wait)[0] + 5))


@pytest.mark.parametrize(
    ("fault", "words"),
    [(500, "answers 500"), ("reset", "ends the connection"), ("hang", "no answer for 1 s"), (404, "no such stream")],
)
def test_failure_that_stays_ends_the_source_after_the_timeout(fault: Any, words: str) -> None:
    with PictureServer() as server:
        playing = pictures(server.source(), fps=RATE, timeout=1.0)
        list(islice(playing, 3))
        server.fault = Fault(fault)
        began = time.monotonic()
        with pytest.raises(SourceError, match=words):
            list(playing)
        assert 0.9 < time.monotonic() - began < 6


def test_damaged_picture_is_not_shown_and_is_told_of() -> None:
    with PictureServer() as server:
        playing = pictures(server.source(), fps=RATE, timeout=1.0)
        list(islice(playing, 3))
        whole = picture(5)
        server.body = whole[: len(whole) // 2]
        counts = Counts()
        with pytest.raises(SourceError, match="damaged"):
            assert codes(list(pictures(server.source(), counts, fps=RATE, timeout=1.0))) == []
        with pytest.raises(SourceError, match="damaged"):
            codes(list(playing))


def test_answer_that_is_no_picture_is_said() -> None:
    with PictureServer() as server:
        playing = pictures(server.source(), fps=RATE, timeout=1.0)
        list(islice(playing, 3))
        server.body, server.content_type = b"<html>please log in</html>", "text/html"
        with pytest.raises(SourceError, match="no picture in JPEG or PNG"):
            list(islice(playing, 1000))


def test_picture_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("framesrv.camera.sources.still.web.LARGEST", 10_000)
    with PictureServer() as server:
        playing = pictures(server.source(), fps=RATE, timeout=1.0)
        list(islice(playing, 3))
        server.body = picture(5) + bytes(20_000)
        with pytest.raises(SourceLimitError, match="more than"):
            list(islice(playing, 1000))
        server.body = picture(1, size=(1280, 720))
        with pytest.raises(SourceLimitError, match="of 1280x720 are larger than max_pixels"):
            next(pictures(server.source(), max_pixels=640 * 360))


def test_answer_that_comes_a_byte_at_a_time_is_waited_for_no_longer_than_the_timeout() -> None:
    for head in (HEAD, b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n"):
        with TrickleServer(head) as server:
            began = time.monotonic()
            with pytest.raises(SourceError, match="no answer for 1 s"):
                next(stills(f"http://{server.domain}/snap.jpg"))
            assert 0.9 < time.monotonic() - began < 5


ENDLESS = Flood(b"Content-Type: image/jpeg\r\n\r\n\xff\xd8\xff", b"abcdefgh" * 8000)


@pytest.mark.parametrize(
    ("flood", "words"),
    [
        (HEADERS, "answers what is no HTTP: got more than 100 headers"),
        (LINE, "answers what is no HTTP: got more than 65536 bytes when reading header line"),
        (ENDLESS, "its picture has no end, more than 33554432 bytes are not taken"),
    ],
    ids=["headers", "line", "picture"],
)
def test_answer_without_end_is_refused(flood: Flood, words: str) -> None:
    with FloodServer(flood) as server, pytest.raises(SourceError, match=words):
        next(stills(server.url("http"), timeout=60.0))


def test_certificate_of_a_picture_is_verified_where_it_is_to_be() -> None:
    certificate = Path(__file__).parents[1] / "support" / "loopback.pem"
    with TrickleServer(certificate=certificate) as server:
        source = f"https://{server.domain}/snap.jpg"
        with pytest.raises(SourceError, match="is not trusted: give it, or that of its signer, as tls_ca"):
            next(stills(source, tls_verify=True))
        with pytest.raises(SourceError, match="no answer for 1 s"):
            next(stills(source, tls_ca=str(certificate)))


def test_picture_on_demand_is_decoded_when_somebody_asks() -> None:
    with PictureServer() as server:
        counts = Counts()
        playing = turns(server.source(), counts, fps=RATE, decode="demand")
        while counts.packets < 5:
            assert next(playing) is None
        assert counts.idle_form == (640, 360, "yuv420p")
        counts.demanded = True
        assert codes(list(islice((one for one in playing if one is not None), 3)))


def test_picture_that_is_rarely_asked_for_does_not_stand_still_meanwhile() -> None:
    with PictureServer() as server:
        counts = Counts()
        playing = turns(server.source(), counts, fps=0.1, timeout=1.0)
        given = [next(playing) for _ in range(8)]
        assert counts.packets >= 5
        assert sum(one is not None for one in given) <= 2


def test_picture_in_a_file_follows_what_is_put_there(tmp_path: Path) -> None:
    file = tmp_path / "snap.jpg"
    file.write_bytes(picture(1))
    playing = pictures(file, fps=RATE, timeout=0.5)
    assert set(codes(list(islice(playing, 5)))) == {1}
    (tmp_path / "new").write_bytes(picture(2))
    (tmp_path / "new").replace(file)
    assert 2 in codes(list(islice(playing, 3)))
    file.unlink()
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        list(islice(playing, 1000))


def test_decoder_of_a_single_picture_neither_spins_nor_floods_its_log(tmp_path: Path, prefix: str) -> None:
    """A JPEG over HTTP took a whole core after its first picture; a PNG two lines of log each time."""
    kinds = ("jpeg", "png", "http", "http-png-closing", "cover")
    side_by_side({kind: partial(neither_spins_nor_floods, kind, tmp_path, prefix) for kind in kinds})


def neither_spins_nor_floods(kind: str, tmp_path: Path, prefix: str) -> None:
    with PictureServer("png" if "png" in kind else "jpeg", kept="closing" not in kind) as server:
        source = server.source()
        if not kind.startswith("http"):
            file = tmp_path / f"a.{kind}"
            file.write_bytes(
                song_with_a_cover(tmp_path) if kind == "cover" else picture(1, "png" if kind == "png" else "jpeg")
            )
            source = str(file)
        camera = {"code": kind, "source": source, "fps": 5.0}
        config = write_config(tmp_path / f"{kind}.toml", {"shm": {"prefix": prefix}}, [camera])
        with Program("framesrv", "decode", kind, "--config", config, log=tmp_path / f"{kind}.log") as program:
            if kind == "cover":
                words = "there is no video in it, only a picture beside the sound"
                wait_for(lambda: words in camera_status(prefix, kind).error, "it is said")
                assert camera_status(prefix, kind).cause == "no_video"
            else:
                wait_for(lambda: camera_status(prefix, kind).seq > 2, "pictures come")
            wait_for(lambda: camera_status(prefix, kind).attempts > 2 or camera_status(prefix, kind).seq > 15, "more")
            spent, began = processor(program.pid), time.monotonic()
            seq = camera_status(prefix, kind).seq
            wait_for(lambda: time.monotonic() - began > 2.0, "some time has passed")
            assert processor(program.pid) - spent < 1.0
            assert camera_status(prefix, kind).seq - seq <= 5 * (time.monotonic() - began) + 2
            assert program.stop() == 0
        lines = [line for line in program.output.splitlines() if "live" in line or "no stream" in line]
        assert len(lines) == 1, program.output


def song_with_a_cover(directory: Path) -> bytes:
    """Sound, and a picture attached to it, as music has."""
    file = directory / "song.mp3"
    with av.open(str(file), "w") as container:
        sound = container.add_stream("mp3", rate=44100)
        cover = container.add_stream("mjpeg", rate=1, width=640, height=360, pix_fmt="yuvj420p")
        container.mux(cover.encode(av.VideoFrame(640, 360, "yuvj420p")))
        silence = av.AudioFrame.from_ndarray(np.zeros((2, 44100), np.float32), "fltp", "stereo")
        silence.sample_rate = 44100
        container.mux(sound.encode(silence))
        container.mux(sound.encode())
    return file.read_bytes()
