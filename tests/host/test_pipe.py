"""``framesrv pipe``: what FFmpeg, GStreamer and whatever reads from a pipe get of a camera."""

import io
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
import numpy as np
import pytest

from framesrv import FrameWriter, Stamp
from tests.support.processes import ROOT, wait_for, write_config
from tests.support.segment_programs import pinned

WIDTH, HEIGHT = 322, 242  # rows have padding in shared memory
NBYTES = WIDTH * HEIGHT * 3 // 2
LARGER = [(HEIGHT * 2, WIDTH * 2), (HEIGHT, WIDTH), (HEIGHT, WIDTH)]


@pytest.fixture
def config(prefix: str, tmp_path: Path) -> Path:
    return Path(write_config(tmp_path / "framesrv.toml", {"shm": {"prefix": prefix}}, []))


def planes(number: int, width: int = WIDTH, height: int = HEIGHT) -> list[np.ndarray]:
    """A soft picture, lighter from one to the next."""
    luma = 40 + number % 100 + np.add.outer(np.arange(height) // 8, np.arange(width) // 8)
    half = (height // 2, width // 2)
    return [luma.astype(np.uint8), np.full(half, 100, np.uint8), np.full(half, 160, np.uint8)]


@contextmanager
def written(writer: FrameWriter, make: Callable[[int], list[np.ndarray]] = planes) -> Iterator[None]:
    """Frames of this camera, about a hundred a second, while the block runs."""
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.wait(0.01):
            number += 1
            writer.write(make(number), Stamp.now(HEIGHT)._replace(sample_aspect_ratio=Fraction(4, 3)))

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(20)


@contextmanager
def piped(config: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    words = [sys.executable, "-m", "framesrv", "pipe", "cam", "--config", str(config), *options]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """The exit status of one whose output nobody reads any more, and what it said."""
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read().decode()
    return process.wait(20), said


def picture(content: bytes, width: int = WIDTH, height: int = HEIGHT) -> list[np.ndarray]:
    area = width * height
    luma, *chroma = np.split(np.frombuffer(content, np.uint8), [area, area + area // 4])
    return [luma.reshape(height, width), *(one.reshape(height // 2, width // 2) for one in chroma)]


def shown(found: list[np.ndarray]) -> int:
    """The number of a picture that is whole."""
    number = int(found[0][0, 0]) - 40
    assert all(np.array_equal(one, expected) for one, expected in zip(found, planes(number), strict=True))
    return number


def read(pipe: IO[bytes] | None, nbytes: int) -> bytes:
    assert pipe is not None
    content = pipe.read(nbytes)
    assert len(content) == nbytes
    return content


def test_y4m_tells_its_form_and_has_each_frame_once(config: Path, prefix: str) -> None:
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer, written(writer):
        with piped(config) as process:
            assert process.stdout is not None
            head = process.stdout.readline()
            assert re.fullmatch(rb"YUV4MPEG2 W322 H242 F\d+:\d+ Ip A4:3 C420mpeg2 XCOLORRANGE=LIMITED\n", head), head
            numbers = []
            for _ in range(10):
                assert process.stdout.readline() == b"FRAME\n"
                numbers.append(shown(picture(read(process.stdout, NBYTES))))
            steps = np.diff(numbers) % 100
            assert (steps >= 1).all()
            status, said = ended(process)
            assert status == 0
            assert re.match(r"framesrv: 322x242, [\d.]+ frames a second: ffmpeg -i -\n$", said)
        assert pinned(prefix, "cam") == []


def test_raw_keeps_its_size_when_the_cameras_changes(config: Path, prefix: str) -> None:
    is_larger = threading.Event()
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:

        def make(number: int) -> list[np.ndarray]:
            if not is_larger.is_set():
                return planes(number)
            writer.resize(WIDTH * 2, HEIGHT * 2, "yuv420p")
            return [np.full(shape, 200, np.uint8) for shape in LARGER]

        with written(writer, make), piped(config, "--format", "raw") as process:
            shown(picture(read(process.stdout, NBYTES)))
            is_larger.set()
            while (luma := picture(read(process.stdout, NBYTES))[0])[0, 0] != 200:
                pass
            assert np.abs(luma.astype(int) - 200).max() <= 1
            options = f"-f rawvideo -pixel_format yuv420p -video_size {WIDTH}x{HEIGHT} -framerate "
            assert options in ended(process)[1]


def test_camera_of_bgr_is_converted_but_for_raw(config: Path, prefix: str) -> None:
    colours = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    colours[:] = (30, 60, 200)
    with FrameWriter("cam", WIDTH, HEIGHT, "bgr24", prefix=prefix) as writer, written(writer, lambda _: [colours]):
        with piped(config, "--format", "raw") as process:
            assert read(process.stdout, WIDTH * HEIGHT * 3) == colours.tobytes()
        with piped(config) as process:
            assert process.stdout is not None
            process.stdout.readline()
            process.stdout.readline()
            luma, blue, red = (int(one[9, 9]) for one in picture(read(process.stdout, NBYTES)))
            expected = (100.5, 94.1, 191.6)  # H.273, BT.601
            assert np.abs(np.array((luma, blue, red)) - expected).max() <= 2


def test_mjpeg_has_the_right_colours(config: Path, prefix: str) -> None:
    levels = zip(planes(1), (150, 80, 180), strict=True)
    picture = [np.full(plane.shape, level, np.uint8) for plane, level in levels]
    with (
        FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer,
        written(writer, lambda _: picture),
        piped(config, "--format", "mjpeg", "--fps", "50") as process,
    ):
        content = read(process.stdout, 10_000)
    first, _, rest = content[2:].partition(b"\xff\xd8")
    assert rest
    with av.open(io.BytesIO(b"\xff\xd8" + first), format="mjpeg") as container:
        assert isinstance(container, av.container.InputContainer)
        found = next(container.decode(video=0)).to_ndarray(format="bgr24").astype(int)
    assert found.shape == (HEIGHT, WIDTH, 3)
    assert np.abs(found - (59, 133, 239)).max() <= 3  # BT.601, limited range


def test_rate_that_is_asked_for_repeats_frames(config: Path, prefix: str) -> None:
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        number = 7
        with piped(config, "--format", "raw", "--fps", "200", "--timeout", "20") as process:
            wait_for(lambda: writer.demanded, "the pipe asks for frames")
            writer.write(planes(number))
            assert [shown(picture(read(process.stdout, NBYTES))) for _ in range(20)] == [number] * 20
            assert pinned(prefix, "cam") == []
            writer.write(planes(number + 1))
            while shown(picture(read(process.stdout, NBYTES))) == number:
                pass


def test_pipe_says_why_there_is_no_frame_and_ends(config: Path, prefix: str) -> None:
    with piped(config, "--timeout", "0.2") as process:
        assert ended(process) == (
            1,
            f"framesrv: camera cam: there is no /dev/shm/{prefix}.cam: its decoder was never started, or has been "
            "stopped\n",
        )
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        for options in ((), ("--fps", "20")):
            with piped(config, "--timeout", "0.3", *options) as process:
                wait_for(lambda: writer.demanded, "the pipe asks for frames")
                writer.write(planes(1))
                assert process.stdout is not None
                process.stdout.read()
                status, said = ended(process)
                assert status == 1
                assert re.search("framesrv: camera cam: (no new frame came in|its stream stands still)", said)


def test_reader_that_stops_keeps_no_slot_pinned_and_a_signal_ends_the_pipe(config: Path, prefix: str) -> None:
    with (
        FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer,
        written(writer),
        piped(config, "--format", "raw") as process,
    ):
        read(process.stdout, 1)  # and no more: the pipe is full, and its other end waits
        wait_for(lambda: "pipe_w" in Path(f"/proc/{process.pid}/wchan").read_text(), "it waits to write")
        assert pinned(prefix, "cam") == []
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_frames_are_not_for_a_terminal(config: Path) -> None:
    outer, inner = os.openpty()
    try:
        words = [sys.executable, "-m", "framesrv", "pipe", "cam", "--config", str(config)]
        done = subprocess.run(words, cwd=ROOT, stdout=inner, stderr=subprocess.PIPE, timeout=20, check=False)
        assert done.returncode == 2
        assert b"not for a terminal" in done.stderr
    finally:
        os.close(outer)
        os.close(inner)


READERS = {
    "ffmpeg, y4m": ("ffmpeg", [], ["-f", "yuv4mpegpipe", "-i", "-", "-frames:v", "10", "-f", "framemd5", "-"]),
    "ffmpeg, mjpeg": (
        "ffmpeg",
        ["--format", "mjpeg"],
        ["-f", "mjpeg", "-i", "-", "-frames:v", "10", "-f", "framemd5", "-"],
    ),
    "ffmpeg, raw": (
        "ffmpeg",
        ["--format", "raw", "--fps", "25"],
        [
            *("-f", "rawvideo", "-pixel_format", "yuv420p", "-video_size", "322x242", "-framerate", "25", "-i", "-"),
            *("-frames:v", "10", "-f", "framemd5", "-"),
        ],
    ),
    "gst-launch, y4m": (
        "gst-launch-1.0",
        ["--fps", "25"],
        ["fdsrc", "!", "y4mdec", "!", "identity", "eos-after=10", "!", "fakesink", "dump=false"],
    ),
}


@pytest.mark.parametrize(("program", "options", "words"), READERS.values(), ids=READERS.keys())
def test_others_read_it(config: Path, prefix: str, program: str, options: list[str], words: list[str]) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}: apt-get install ffmpeg gstreamer1.0-tools gstreamer1.0-plugins-bad")
    if (
        "y4mdec" in words
        and subprocess.run(["gst-inspect-1.0", "y4mdec"], capture_output=True, check=False).returncode
    ):
        pytest.skip("needs y4mdec: apt-get install gstreamer1.0-plugins-bad")
    with (
        FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer,
        written(writer),
        piped(config, *options) as process,
    ):
        done = subprocess.run(
            [program, *words], stdin=process.stdout, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        if program == "ffmpeg":
            lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
            assert len(lines) == 10
        assert ended(process)[0] == 0


def test_source_of_gstreamer_in_the_documents_gives_frames(prefix: str, tmp_path: Path) -> None:
    python = "/usr/bin/python3"
    libraries = os.pathsep.join([str(ROOT), str(Path(np.__file__).parents[1])])
    check = (
        "import gi; gi.require_version('Gst', '1.0'); from gi.repository import Gst; import framesrv.segment.colour"
    )
    environment = os.environ | {"PYTHONPATH": libraries}
    if not Path(python).exists() or subprocess.run([python, "-c", check], env=environment, check=False).returncode:
        pytest.skip("needs python3-gi and gstreamer1.0-plugins-base, of this version of Python")
    page = (ROOT / "docs/pipes.md").read_text("utf-8")
    example = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0]
    program = tmp_path / "source.py"
    program.write_text(example.replace("FrameReader(code)", f"FrameReader(code, prefix={prefix!r})"), "utf-8")
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer, written(writer):
        done = subprocess.run(
            [python, program, "cam", "20"], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"\d+ buffers of 640x481\n", done.stdout)
    assert int(done.stdout.split()[0]) >= 5
