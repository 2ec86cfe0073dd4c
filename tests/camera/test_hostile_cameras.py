"""Cameras that mean ill: where they lead FFmpeg, and what their streams may cost."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from framesrv import FrameWriter, SourceError, camera_status
from framesrv.camera.decoder import CHANGES, Decoder
from framesrv.camera.sources import Facts, Sink, SourceFrame
from framesrv.camera.sources.ffmpeg.protocols import whitelist
from framesrv.errors import SourceLimitError
from framesrv.process.notify import Notifier
from framesrv.process.signals import Signals
from framesrv.settings import Camera
from tests.camera.test_sources import gray, pictures
from tests.support.footage import footage, read_code
from tests.support.processes import Program, wait_for, write_config


@contextmanager
def serving(files: dict[str, tuple[str, bytes]]) -> Iterator[str]:
    """An HTTP server of these files: path to content type and content; a type of "" redirects to the content."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, content = files.get(self.path, ("text/plain", b""))
            self.send_response((200 if content else 404) if kind else 302)
            for name, value in (("Content-Type", kind), ("Location", "" if kind else content.decode())):
                if value:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *arguments: object) -> None:
            """Says nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A video on this host that no camera is to show."""
    file = tmp_path / "secret.ts"
    source = footage(width=320, height=240, frames=50, number=9)
    with av.open(str(source)) as read, av.open(str(file), "w", "mpegts") as write:
        stream = read.streams.video[0]
        copy = write.add_stream_from_template(stream)
        for packet in read.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                write.mux(packet)
    return file


def playlist(*urls: str) -> bytes:
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:2"]
    return "\n".join([*lines, *(f"#EXTINF:2.0,\n{url}" for url in urls), "#EXT-X-ENDLIST", ""]).encode()


def test_playlist_of_a_web_camera_is_played(secret: Path) -> None:
    files = {
        "/a.m3u8": ("application/vnd.apple.mpegurl", playlist("/s.ts")),
        "/s.ts": ("video/mp2t", secret.read_bytes()),
    }
    with serving(files) as url:
        taken = [read_code(gray(picture)) for picture in islice(pictures(f"{url}/a.m3u8"), 3)]
    assert [code[0] for code in taken if code] == [9, 9, 9]


@pytest.mark.parametrize("form", ["file://{}", "{}", "concat:{}", "subfile,,start,0,end,0,,:{}", "crypto:file://{}"])
def test_playlist_leads_to_no_file_of_this_host(secret: Path, form: str) -> None:
    with (
        serving({"/a.m3u8": ("application/vnd.apple.mpegurl", playlist(form.format(secret)))}) as url,
        pytest.raises(SourceError),
    ):
        next(pictures(f"{url}/a.m3u8", timeout=3.0))


@pytest.mark.parametrize("form", ["file://{}", "{}", "concat:{}"])
def test_redirect_leads_to_no_file_of_this_host(secret: Path, form: str) -> None:
    with serving({"/cam": ("", form.format(secret).encode())}) as url, pytest.raises(SourceError):
        next(pictures(f"{url}/cam", timeout=3.0))


def test_description_leads_to_no_file_of_this_host(secret: Path) -> None:
    description = (
        "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
        f"m=video 0 RTP/AVP 33\r\na=control:file://{secret}\r\n"
    )
    with serving({"/a.sdp": ("application/sdp", description.encode())}) as url, pytest.raises(SourceError):
        next(pictures(f"{url}/a.sdp", timeout=2.0))


def test_local_playlist_leads_to_files_alone(tmp_path: Path, secret: Path) -> None:
    with serving({"/s.ts": ("video/mp2t", secret.read_bytes())}) as url:
        there, elsewhere = tmp_path / "there.m3u8", tmp_path / "elsewhere.m3u8"
        there.write_bytes(playlist("secret.ts"))
        elsewhere.write_bytes(playlist(f"{url}/s.ts"))
        assert read_code(gray(next(pictures(there)))) is not None
        with pytest.raises(SourceError):
            next(pictures(elsewhere, timeout=3.0))


@pytest.mark.parametrize(
    "source",
    [
        "rtsp://h/x",
        "RTSPS://h/x",
        "http://h/x",
        "https://h",
        "rtmp://h",
        "srt://h:1",
        "udp://@:1",
        "rtp://h:1",
        "weird://h",
    ],
)
def test_no_source_of_the_network_may_open_files(source: str) -> None:
    allowed = set(whitelist(source).split(","))
    assert not allowed & {"file", "concat", "concatf", "subfile", "pipe", "fd", "unix", "cache", "async", "data"} - {
        "data"
    }


def test_stream_with_too_large_pictures_is_refused_in_one_sentence() -> None:
    with pytest.raises(SourceLimitError, match="of 640x360 are larger than max_pixels = 100000"):
        next(pictures(footage(width=640, height=360), max_pixels=100_000))


def test_stream_that_becomes_too_large_is_refused(tmp_path: Path) -> None:
    """The size is in the container's own description only at first."""
    small, large = (footage(width=width, height=height, frames=25) for width, height in ((320, 240), (640, 360)))
    both = tmp_path / "both.h264"
    with both.open("wb") as file:
        for video in (small, large):
            with av.open(str(video)) as container:
                stream = container.streams.video[0]
                to_annex_b = av.BitStreamFilterContext("h264_mp4toannexb", stream)
                for packet in container.demux(stream):
                    for one in to_annex_b.filter(packet):
                        file.write(bytes(one))
    playing = pictures(both, max_pixels=100_000)
    assert next(playing).width == 320
    with pytest.raises(SourceLimitError, match="of 640x360 are larger"):
        for _ in islice(playing, 60):
            pass


def test_camera_with_too_large_pictures_waits_long_and_disturbs_nobody(tmp_path: Path, prefix: str) -> None:
    cameras: list[dict[str, Any]] = [
        {"code": "large", "source": "test:640x360@25", "max_pixels": 1000},
        {"code": "good", "source": "test:64x48@25"},
    ]
    config = write_config(tmp_path / "framesrv.toml", {"shm": {"prefix": prefix}}, cameras)
    words = ("framesrv", "decode", "--config", config)
    with (
        Program(*words, "large", log=tmp_path / "large.log") as large,
        Program(*words, "good", log=tmp_path / "good.log") as good,
    ):
        wait_for(lambda: "max_pixels" in camera_status(prefix, "large").error, "the reason is told")
        wait_for(lambda: camera_status(prefix, "good").seq > 10, "the other camera is live")
        status = camera_status(prefix, "large")
        assert (status.state, status.seq, status.nbytes) == ("connecting", 0, 4096)
        wait_for(lambda: "next_in=" in large.output, "it is logged, which comes after it is told")
        assert float(large.output.split("next_in=")[1].split("s")[0]) >= 15
        assert large.output.count("no stream") == 1
        assert (large.stop(), good.stop()) == (0, 0)


def test_stream_that_changes_its_size_all_the_time_makes_no_churn_of_segments(
    tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    from framesrv.segment.stamp import Stamp

    class Restless:
        def frames(self, sink: Sink) -> Iterator[SourceFrame | None]:
            for size in range(2, 400, 2):
                planes = tuple(
                    np.zeros(shape, np.uint8) for shape in ((size, size), (size // 2, size // 2)) for _ in range(1)
                )
                yield SourceFrame((*planes, planes[1]), size, size, "yuv420p", Stamp.now(size))

        def facts(self) -> Facts:
            return Facts()

    sizes: list[int] = []
    with FrameWriter("cam", 0, 0, "yuv420p", prefix=prefix) as writer:
        resize = writer.resize

        def counted(width: int, height: int, pixel_format: object) -> bool:
            changed = resize(width, height, "yuv420p")
            sizes.extend([width] * changed)
            return changed

        monkeypatch.setattr(writer, "resize", counted)
        camera = Camera(code="cam", source="test:2x2@1")
        decoder = Decoder(camera, prefix, Restless(), writer, Notifier({}))
        with pytest.raises(SourceLimitError, match="change their size all the time"):
            decoder._play(Signals())
    assert len(sizes) == CHANGES + 1
