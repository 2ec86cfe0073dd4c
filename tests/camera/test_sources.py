"""Sources against real streams: RTSP over TCP and UDP, HTTP, files, OpenCV, the test picture."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.codec.hwaccel import HWAccel

from framesrv import FrameReader, FrameWriter, SourceError
from framesrv.camera.policy import Policy
from framesrv.camera.sources import SourceFrame, open_source
from framesrv.camera.sources.decoding import Decoding
from framesrv.codec.arrival import Arrival
from framesrv.codec.damage import Damage
from framesrv.codec.presentation import Presentation
from framesrv.errors import SourceUsageError
from framesrv.settings import Camera
from tests.support.footage import draw_code, footage, read_code
from tests.support.held_up import HeldUp
from tests.support.motion_camera import MotionCamera
from tests.support.rtsp import RtspServer
from tests.support.sink import Counts


def turns(source: str | Path, sink: Counts | None = None, **keys: Any) -> Iterator[SourceFrame | None]:
    camera = Camera(code="cam", source=str(source), **({"timeout": 5.0} | keys))
    return open_source(camera, Policy(camera.decode)).frames(sink or Counts())


def pictures(source: str | Path, sink: Counts | None = None, **keys: Any) -> Iterator[SourceFrame]:
    return (picture for picture in turns(source, sink, **keys) if picture is not None)


def gray(picture: SourceFrame) -> Any:
    return picture.planes[0] if picture.pixel_format == "yuv420p" else picture.planes[0][..., 1]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_rtsp_frames_come_whole_and_in_order(codec: Any, transport: str, tmp_path: Path) -> None:
    video = footage(codec=codec, width=640, height=360, number=7)
    with RtspServer({"cam": video}, tmp_path) as server:
        taken = [read_code(gray(p)) for p in itertools.islice(pictures(server.url("cam"), transport=transport), 30)]
    first = taken[0]
    assert first is not None
    assert taken == [(7, first[1] + step) for step in range(30)]


@pytest.mark.parametrize(
    ("codec", "pixel_format"),
    [
        *(("h264", form) for form in ("yuv420p", "yuv422p", "yuv444p", "nv12", "yuv420p10le", "yuvj420p")),
        ("hevc", "yuv420p10le"),
        ("mjpeg", "yuvj420p"),
        ("mjpeg", "yuvj422p"),
    ],
)
@pytest.mark.parametrize("wanted", ["yuv420p", "bgr24"])
def test_every_pixel_format_becomes_the_one_that_is_wanted(codec: Any, pixel_format: str, wanted: str) -> None:
    video = footage(codec=codec, width=640, height=360, frames=12, pixel_format=pixel_format, number=9)
    picture = next(pictures(video, pixel_format=wanted))
    assert picture.pixel_format == wanted
    expected = [(360, 640), (180, 320), (180, 320)] if wanted == "yuv420p" else [(360, 640, 3)]
    assert [plane.shape for plane in picture.planes] == expected
    assert read_code(gray(picture)) == (9, 0)
    if wanted == "yuv420p":
        assert picture.stamp.full_range == pixel_format.startswith("yuvj")


@pytest.mark.parametrize(("width", "height"), [(321, 241), (322, 242), (639, 360), (640, 359), (426, 238)])
@pytest.mark.parametrize("wanted", ["yuv420p", "bgr24"])
def test_odd_sizes_come_through_shared_memory_unchanged(
    width: int, height: int, wanted: Any, tmp_path: Path, prefix: str
) -> None:
    bgr = np.full((height, width, 3), 128, np.uint8)
    draw_code(bgr, 3, 0)
    video = tmp_path / "odd.mkv"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("ffv1", rate=25, width=width, height=height, pix_fmt="yuv420p")
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(bgr, "bgr24").reformat(format="yuv420p")))
        container.mux(stream.encode())
    picture = next(pictures(video, pixel_format=wanted))
    assert (picture.width, picture.height) == (width, height)
    with (
        FrameWriter("cam", width, height, wanted, prefix=prefix) as writer,
        FrameReader("cam", prefix=prefix) as reader,
    ):
        assert writer.write(picture.planes, picture.stamp)
        with reader.latest() as frame:
            for ours, theirs in zip(frame.planes, picture.planes, strict=True):
                assert np.array_equal(ours, theirs)
            assert frame.bgr().shape == (height, width, 3)
            assert read_code(frame.bgr()) == (3, 0)


def test_http_stream_is_played() -> None:
    with MotionCamera(rate=50) as camera:
        through_ffmpeg: dict[str, Any] = {"ffmpeg_options": {"user_agent": "x"}}  # which is what has them
        for keys in ({}, through_ffmpeg):
            taken = list(itertools.islice(pictures(camera.source, **keys), 10))
            assert all(picture.stamp.full_range for picture in taken)
            assert [read_code(gray(picture)) for picture in taken] == [(7, index) for index in range(10)]


def test_file_is_looped_at_its_own_pace() -> None:
    video = footage(width=320, height=240, frames=10, fps=25, number=1)
    began = time.monotonic()
    taken = [read_code(gray(picture)) for picture in itertools.islice(pictures(video), 25)]
    assert taken == [(1, index % 10) for index in range(25)]
    assert time.monotonic() - began > 0.8  # 25 frames at 25 a second, less the first of each round


@pytest.mark.parametrize(("mode", "words"), [("stall", "no packet for 1 s"), ("silent", "no packet for 1 s")])
def test_stream_without_packets_is_lost_after_the_timeout(mode: Any, words: str, tmp_path: Path) -> None:
    with RtspServer({"cam": footage(width=320, height=240, frames=50)}, tmp_path) as server:
        playing = pictures(server.url("cam"), timeout=1.0)
        next(playing)
        server.fault(mode)
        with pytest.raises(SourceError, match=words):
            list(playing)


def test_dropped_connection_is_lost_at_once(tmp_path: Path) -> None:
    with RtspServer({"cam": footage(width=320, height=240, frames=50)}, tmp_path) as server:
        playing = pictures(server.url("cam"), timeout=60.0)
        next(playing)
        server.fault("drop")
        with pytest.raises(SourceError, match="ended the stream"):
            list(playing)


def test_open_that_hangs_is_cut_off(tmp_path: Path) -> None:
    with RtspServer({"cam": footage(width=320, height=240, frames=50)}, tmp_path) as server:
        playing = pictures(server.url("cam"), timeout=1.0)
        next(playing)
        server.fault("silent")
        with pytest.raises(SourceError):  # by then the server is silent
            list(playing)
        with pytest.raises(SourceError, match="no answer for 1 s"):
            next(pictures(server.url("cam"), timeout=1.0))


def test_resolution_change_in_mid_stream_is_followed(tmp_path: Path) -> None:
    files = [footage(width=640, height=360, frames=50, number=1), footage(width=320, height=240, frames=50, number=2)]
    with RtspServer({"cam": files}, tmp_path) as server:
        playing = pictures(server.url("cam"))
        assert next(playing).width == 640
        server.fault("switch")
        changed = next(picture for picture in itertools.islice(playing, 100) if picture.width != 640)
        assert (changed.width, changed.height, read_code(gray(changed))) == (320, 240, (2, 0))


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_capture_time_is_the_cameras_where_it_reports_one(codec: Any, tmp_path: Path, held_up: HeldUp) -> None:
    video = footage(codec=codec, width=320, height=240, frames=100)
    with RtspServer({"cam": video}, tmp_path, rtcp="wall") as server:
        taken = [(p.stamp, read_code(gray(p))) for p in itertools.islice(pictures(server.url("cam")), 60)]
        sent = {one.index: one.time for one in server.sent()}
    assert {stamp.clock for stamp, _ in taken} == {"camera"}
    for stamp, code in taken:
        assert code is not None
        # its reports, once a second, are by the wall clock, its time stamps by the frame rate
        assert abs(stamp.captured_ns / 1e9 - sent[code[1]]) < 0.5 + held_up.seconds


def test_capture_time_is_that_of_arrival_where_the_camera_has_no_clock(tmp_path: Path, held_up: HeldUp) -> None:
    with RtspServer({"cam": footage(width=320, height=240, frames=100)}, tmp_path) as server:
        taken = [(p.stamp, read_code(gray(p))) for p in itertools.islice(pictures(server.url("cam")), 30)]
        sent = {one.index: one.time for one in server.sent()}
    assert {stamp.clock for stamp, _ in taken} == {"arrival"}
    offset = time.time_ns() - time.monotonic_ns()
    for stamp, code in taken:
        assert code is not None
        assert abs(stamp.captured_ns - stamp.arrived_ns - offset) / 1e9 < 0.05 + held_up.seconds
    # once what was read while opening is over: FFmpeg gives a frame when the next one has begun
    late = [stamp.captured_ns / 1e9 - sent[code[1]] for stamp, code in taken[10:] if code is not None]
    assert sorted(late)[len(late) // 2] < 0.03 + held_up.seconds


def test_sender_without_a_wall_clock_is_no_clock(tmp_path: Path) -> None:
    with RtspServer({"cam": footage(width=320, height=240, frames=100)}, tmp_path, rtcp="uptime") as server:
        taken = [picture.stamp for picture in itertools.islice(pictures(server.url("cam")), 5)]
    assert {stamp.clock for stamp in taken} == {"arrival"}
    assert all(abs(stamp.captured_ns - time.time_ns()) < 60e9 for stamp in taken)


def test_decoding_without_the_device_is_in_software_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    available = [kind for kind in ("vaapi", "cuda", "vdpau") if _decodes_on(kind)]
    assert len(available) < 3, "this host has every device: nothing can fall back"
    missing = next(kind for kind in ("vaapi", "cuda", "vdpau") if kind not in available)
    video = footage(width=320, height=240, frames=50, number=3)
    with RtspServer({"cam": video}, tmp_path) as server:
        camera = Camera(code="cam", source=server.url("cam"), hwaccel=missing, timeout=5.0)
        source = open_source(camera, Policy("all"))
        for _ in range(2):  # connections
            codes = [read_code(p.planes[0]) for p in itertools.islice(source.frames(Counts()), 5) if p is not None]
            assert codes
            assert all(code is not None and code[0] == 3 for code in codes)
    said = [record.getMessage() for record in caplog.records if "in software" in record.getMessage()]
    assert len(said) == 1
    assert f"hwaccel={missing}" in said[0]


def _decodes_on(kind: str) -> bool:
    try:
        HWAccel(kind).create(av.codec.Codec("h264", "r"))
    except (NotImplementedError, av.error.FFmpegError):
        return False
    return True


def test_unknown_kind_of_device_is_refused() -> None:
    with pytest.raises(SourceUsageError, match=r'hwaccel "vapi": expected one of .*vaapi'):
        next(pictures("rtsp://127.0.0.1:1/cam", hwaccel="vapi"))


class Counted(Decoding):
    """Counts what the codec gives, wanted or not."""

    number = 0

    def _decode(self, packet: Any, arrival: Arrival, *, alone: bool = False) -> Any:
        frames = super()._decode(packet, arrival, alone=alone)
        self.number += len(frames)
        return frames


def test_fps_policy_does_not_decode_what_no_frame_refers_to() -> None:
    video = footage(width=320, height=240, frames=100, gop=50, bframes=2, number=4)
    decoded, wanted = {}, {}
    for policy in ("all", "fps:2"):
        with Damage() as damage, av.open(str(video)) as container:
            stream = container.streams.video[0]
            counts = Counts()
            decoding = Counted(stream.codec_context, Presentation(), Policy(policy), damage, counts)
            arrivals = (Arrival(index * 40_000_000, 0) for index in itertools.count(1))
            wanted[policy] = [
                frame for packet in container.demux(stream) for frame, _ in decoding.frames(packet, next(arrivals))
            ]
            decoded[policy] = decoding.number
            assert counts.counters["corrupt"] == 0
    assert (decoded["all"], len(wanted["all"])) == (100, 100)
    assert 8 <= len(wanted["fps:2"]) <= 9
    assert decoded["fps:2"] < 60  # two in three frames are B frames, which nothing refers to


@pytest.mark.parametrize("policy", ["all", "keyframes", "demand"])
@pytest.mark.parametrize("name", ["one.mp4", "raw.h264"])
def test_recording_is_looped_at_its_own_pace_however_short(name: str, policy: str, tmp_path: Path) -> None:
    video = footage(width=320, height=240, frames=1 if name == "one.mp4" else 25, number=9)
    path = tmp_path / name
    if name == "one.mp4":
        path = video
    else:
        with av.open(str(video)) as container:
            track = container.streams.video[0]
            to_annex_b = av.BitStreamFilterContext("h264_mp4toannexb", track)
            packets = [packet for packet in container.demux(track) if packet.size]
            path.write_bytes(b"".join(bytes(out) for packet in packets for out in to_annex_b.filter(packet)))
    counts = Counts()
    began = time.monotonic()
    given = list(itertools.takewhile(lambda _: counts.packets <= 51, turns(path, counts, decode=policy)))
    assert 1.5 < time.monotonic() - began < 8  # two seconds at 25/s; it must neither spin nor end
    codes = {read_code(gray(picture)) for picture in given if picture is not None}
    assert codes if policy != "demand" else not codes
    assert all(code is not None and code[0] == 9 for code in codes)


def test_fps_policy_skips_frames_evenly() -> None:
    video = footage(width=320, height=240, frames=50, number=4)
    taken = [read_code(gray(p)) for p in itertools.islice(pictures(video, decode="fps:5"), 6)]
    indices = [code[1] for code in taken if code is not None]
    assert len(indices) == 6
    assert all(4 <= later - earlier <= 6 for earlier, later in itertools.pairwise(indices))


def test_keyframes_policy_gives_key_frames_alone() -> None:
    video = footage(width=320, height=240, frames=50, gop=10, number=4)
    taken = [read_code(gray(p)) for p in itertools.islice(pictures(video, decode="keyframes"), 4)]
    assert taken == [(4, 0), (4, 10), (4, 20), (4, 30)]


def test_fps_policy_keeps_its_rate_when_frames_jitter() -> None:
    policy = Policy("fps:10")
    jitter = itertools.cycle([0, 3_000_000, -3_000_000])
    wanted = [policy.wants(10**12 + index * 40_000_000 + next(jitter)) for index in range(1000)]
    assert 390 <= sum(wanted) <= 410


def test_opencv_source_gives_the_same_pictures() -> None:
    video = footage(width=640, height=360, frames=20, number=6)
    for wanted in ("yuv420p", "bgr24"):
        taken = [read_code(gray(p)) for p in itertools.islice(pictures(f"opencv:{video}", pixel_format=wanted), 5)]
        assert taken == [(6, index) for index in range(5)]


def test_opencv_source_that_cannot_be_opened_says_so() -> None:
    with pytest.raises(SourceError, match="OpenCV cannot open it"):
        next(pictures("opencv:/nonexistent.mp4"))
    with pytest.raises(SourceUsageError, match="expects an index"):
        next(pictures("opencv:"))


@pytest.mark.parametrize("wanted", ["yuv420p", "bgr24"])
@pytest.mark.parametrize("size", ["320x240", "321x243", "16x16"])
def test_test_picture_moves(size: str, wanted: Any) -> None:
    playing = pictures(f"test:{size}@200", pixel_format=wanted)
    first = [plane.copy() for plane in next(playing).planes]
    second = next(playing)
    assert f"{second.width}x{second.height}" == size
    assert not np.array_equal(first[0], second.planes[0])


@pytest.mark.parametrize(
    "source", ["test:", "test:0x0@25", "test:640x480", "test:640x480@0", "test:99999x10@5", "test:axb@c"]
)
def test_wrong_test_picture_is_refused_with_its_form(source: str) -> None:
    with pytest.raises(SourceUsageError, match="expected test:WIDTHxHEIGHT@FPS"):
        pictures(source)


def test_sources_that_are_no_video_say_what_is_wrong(tmp_path: Path) -> None:
    text = tmp_path / "notes.dat"
    text.write_bytes(b"no video" * 100_000)
    with pytest.raises(SourceError, match="cannot be opened: "):
        next(pictures(text))
    with pytest.raises(SourceError, match="cannot be opened: No such file"):
        next(pictures(tmp_path / "nothing.mp4"))
    sound = tmp_path / "sound.wav"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(SourceError, match="no video"):
        next(pictures(sound))


def test_absent_rtsp_path_says_so(tmp_path: Path) -> None:
    with (
        RtspServer({"cam": footage(width=320, height=240, frames=50)}, tmp_path) as server,
        pytest.raises(SourceError, match="404"),
    ):
        next(pictures(server.url("nothing")))
