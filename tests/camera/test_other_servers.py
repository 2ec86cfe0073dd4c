"""Servers that others wrote: GStreamer's, VLC's, those of `other_servers`; skipped where they are not installed."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from itertools import chain, dropwhile, islice, pairwise
from pathlib import Path

import pytest

from framesrv import SourceError
from framesrv.camera.policy import Policy
from framesrv.camera.sources import Source, SourceFrame, open_source
from framesrv.settings import Camera
from tests.support import live555, other_servers
from tests.support.footage import Codec, footage, read_code
from tests.support.other_servers import Live555, OtherServer
from tests.support.ports import free_port
from tests.support.processes import wait_for
from tests.support.sink import Counts

PYTHON = "/usr/bin/python3"  # the system's, which has the bindings
SERVER = Path(__file__).parents[1] / "support" / "gstreamer_server.py"
BALL = "videotestsrc is-live=true pattern=ball ! video/x-raw,format=I420,width={},height=360,framerate=25/1"
PIPELINES = {
    # the recipe of nearly all tutorials: slices, with the parameter sets before each
    "h264": "x264enc tune=zerolatency ! rtph264pay name=pay0 pt=96 config-interval=-1",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=50 ! rtph265pay name=pay0 pt=96",
    "jpeg": "jpegenc ! rtpjpegpay name=pay0 pt=26",
    "vp9": "vp9enc deadline=1 keyframe-max-dist=50 ! rtpvp9pay name=pay0 pt=96",
}
IMPORTS = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import Gst, GstRtspServer"


def has_gstreamer() -> bool:
    """Whether the system has GStreamer's RTSP server, its encoders and their bindings."""
    elements = ("x264enc", "x265enc", "jpegenc", "vp9enc")
    looks = f"{IMPORTS}; Gst.init(None); assert all(map(Gst.ElementFactory.find, {elements}))"
    try:
        return subprocess.run([PYTHON, "-c", looks], capture_output=True, check=False, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


gstreamer = pytest.mark.skipif(
    not has_gstreamer(),
    reason="needs gir1.2-gst-rtsp-server-1.0, python3-gi, gstreamer1.0-plugins-good, -bad and -ugly",
)


@pytest.fixture
def port() -> int:
    return free_port()


Serve = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def serve(port: int, tmp_path: Path) -> Iterator[Serve]:
    """Starts a server of GStreamer's for a pipeline, of that width, with that user and password."""
    servers: list[subprocess.Popen[bytes]] = []

    def start(name: str, *login: str, width: int = 640) -> subprocess.Popen[bytes]:
        pipeline = f"{BALL.format(width)} ! {PIPELINES[name]}"
        with (tmp_path / f"server-{len(servers)}.log").open("wb") as log:
            words = [PYTHON, str(SERVER), str(port), pipeline, *login]
            servers.append(subprocess.Popen(words, stdout=log, stderr=log))
        wait_for(lambda: b"ready" in Path(log.name).read_bytes(), "the server serves", 30)
        return servers[-1]

    yield start
    for one in servers:
        one.kill()
        one.wait()


def playing(url: str, sink: Counts | None = None, **keys: object) -> Iterator[SourceFrame]:
    camera = Camera(code="cam", source=url, **({"timeout": 4.0} | keys))  # type: ignore[arg-type]
    frames = open_source(camera, Policy("all")).frames(sink or Counts())
    return (one for one in frames if one is not None)


@gstreamer
@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("name", PIPELINES)
def test_stream_of_gstreamer_is_played_whole(name: str, transport: str, port: int, serve: Serve) -> None:
    serve(name)
    sink = Counts()
    shown = list(islice(playing(f"rtsp://127.0.0.1:{port}/cam", sink, transport=transport), 40))
    assert {(one.width, one.height) for one in shown} == {(640, 360)}
    assert sink.counters["corrupt"] <= (5 if name == "vp9" else 0)  # before its first key frame
    ball = shown[-1].planes[0]
    assert int(ball.max()) > 150  # it is white
    assert int(ball.min()) < 50  # on black


@gstreamer
def test_gstreamer_takes_the_password_by_digest_and_no_other(port: int, serve: Serve) -> None:
    serve("h264", "viewer", "se/cr?et")
    assert len(list(islice(playing(f"rtsp://viewer:se%2fcr%3fet@127.0.0.1:{port}/cam"), 3))) == 3
    with pytest.raises(SourceError, match="refuses the user or the password"):
        next(playing(f"rtsp://viewer:wrong@127.0.0.1:{port}/cam"))


@pytest.mark.skipif(bool(Live555.missing()), reason=f"needs {Live555.missing()}")
@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_every_picture_of_live555_is_given_and_its_digest_answered(
    codec: Codec, transport: str, port: int, tmp_path: Path
) -> None:
    video = footage(codec, width=640, height=360, gop=25, number=5)
    words = [str(live555.SERVER), str(port), str(Live555(tmp_path).stream(video)), "viewer", "se/cr?et"]
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as server:
        try:
            wait_for(lambda: accepts(port), "live555 serves", 30)
            sink = Counts()
            url = f"rtsp://viewer:se%2fcr%3fet@127.0.0.1:{port}/cam"
            shown = list(islice(playing(url, sink, transport=transport), 60))
            assert [code_of(one) for one in shown] == [(5, number) for number in range(60)]
            assert (sink.counters["corrupt"], sink.transport) == (0, transport)
            with pytest.raises(SourceError, match="refuses the user or the password"):
                next(playing(url.replace("cr", "CR"), transport=transport))
        finally:
            server.kill()


@gstreamer
def test_server_that_is_killed_stopped_or_replaced_is_lost_and_found_again(port: int, serve: Serve) -> None:
    url = f"rtsp://127.0.0.1:{port}/cam"
    first = serve("h264")
    frames = playing(url)
    next(frames)
    first.kill()
    with pytest.raises(SourceError, match=r"the camera ended the stream|lost"):
        list(frames)
    first.wait()
    second = serve("h265", width=320)  # another size, and another codec
    frames = playing(url)
    assert next(frames).width == 320
    second.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(SourceError, match="no packet for 4 s"):
        list(frames)
    assert time.monotonic() - began < 8
    second.send_signal(signal.SIGCONT)
    assert next(playing(url)).width == 320


@pytest.mark.skipif(shutil.which("cvlc") is None, reason="needs vlc")
def test_stream_of_vlc_is_played(port: int, tmp_path: Path) -> None:
    video = shutil.copy(footage(width=640, height=360, frames=150), tmp_path / "video.mp4")
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.getuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    words = ["cvlc", "--loop", str(video), "--sout", f"#rtp{{sdp=rtsp://127.0.0.1:{port}/cam}}", "--sout-keep"]
    user = {"user": "nobody"} if os.getuid() == 0 else {}
    with subprocess.Popen(  # type: ignore[call-overload]
        words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"HOME": str(tmp_path)}, **user
    ) as vlc:
        try:
            wait_for(lambda: plays(f"rtsp://127.0.0.1:{port}/cam"), "VLC serves", 60)
            shown = list(islice(playing(f"rtsp://127.0.0.1:{port}/cam"), 30))
            assert {(one.width, one.height) for one in shown} == {(640, 360)}
        finally:
            vlc.kill()


def plays(url: str) -> bool:
    """Whether it gives a picture; at first nobody listens, and then there is nothing to play yet."""
    try:
        return next(playing(url)).width > 0
    except SourceError:
        return False


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.skipif(bool(kind.missing()), reason=f"needs {kind.missing()}"))
        for kind in other_servers.ALL
    ],
)
def test_server_of_others_is_played_lost_and_found_again(kind: type[OtherServer], tmp_path: Path) -> None:
    """Killed, replaced by one of another size and codec, stopped, and going on."""
    first = footage(width=640, height=360, gop=25, number=5)
    other = footage(codec=kind.codecs[-1], width=320, height=240, gop=25, number=7)  # type: ignore[arg-type]
    with kind(tmp_path) as server:
        server.start(first)
        source = open_source(Camera(code="cam", source=server.source, timeout=2.0), Policy("all"))
        frames, sink = found(source)
        codes = list(islice(dropwhile(lambda code: kind.relays and code is None, map(code_of, frames)), 30))
        assert {code and code[0] for code in codes} == {5}
        steps = {(later[1] - earlier[1]) % 100 for earlier, later in pairwise(codes) if earlier and later}
        assert steps == {1} or (kind.relays and max(steps) < 25)
        assert sink.counters["corrupt"] <= 25  # before the first key frame
        assert sink.transport in kind.ways or not kind.ways
        server.kill()
        with pytest.raises(SourceError, match=r"the camera ended the stream|lost"):
            list(frames)
        server.start(other)
        frames, _ = found(source)
        shown = next(one for one in frames if not kind.relays or code_of(one) is not None)
        assert (code_of(shown) or (0, 0))[0] == 7
        assert shown.width == 320
        server.pause()
        with pytest.raises(SourceError, match=r"no packet for 2 s"):
            list(frames)
        server.go_on()
        assert next(found(source)[0]).width == shown.width


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    with socket.socket() as knocking:
        return knocking.connect_ex(("127.0.0.1", port)) == 0


def code_of(frame: SourceFrame) -> tuple[int, int] | None:
    return read_code(frame.planes[0])


def found(source: Source) -> tuple[Iterator[SourceFrame], Counts]:
    """Its pictures, once there are some, and what was counted of them."""
    deadline = time.monotonic() + 30
    while True:
        sink = Counts()
        frames = (one for one in source.frames(sink) if one is not None)
        try:
            return chain([next(frames)], frames), sink
        except SourceError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
