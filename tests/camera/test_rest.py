"""While nobody looks at a camera on demand, its decoder keeps no memory for pictures, and the next one is right."""

import re
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from av.video.codeccontext import VideoCodecContext

from framesrv import FrameReader, camera_status
from framesrv.camera.policy import Policy
from framesrv.camera.sources.decoding import Decoding, Frames
from framesrv.codec.arrival import Arrival
from framesrv.codec.damage import Damage
from framesrv.codec.presentation import Presentation
from framesrv.codec.questions import Questions
from framesrv.codec.trial import Trial
from tests.camera.test_fewest import COUNT, KINDS, a_codec, newest_of_all, packets_of, same
from tests.support.footage import footage, read_code
from tests.support.processes import Program, wait_for, write_config
from tests.support.rtsp import RtspServer
from tests.support.sink import Counts

WIDTH, HEIGHT = 1920, 1080
PICTURE = WIDTH * HEIGHT * 3 // 2  # bytes
PICTURES = 2  # that a codec has at least, and gives back
MANY = 5  # the picture at which it has all that it needs


@pytest.mark.parametrize("name", ["h264, two of three are not", "hevc, sub-layers"])
def test_codec_is_let_go_at_the_next_key_frame_and_the_picture_after_that_is_right(name: str) -> None:
    kind = KINDS[name]
    counts = Counts()
    trial = Trial({})
    codec = a_codec(kind)
    with Damage() as damage:
        questions = Questions(trial) if kind.codec == "hevc" else None
        decoding = Decoding(codec, Presentation(), Policy("demand"), damage, counts, questions)

        def fed(count: int, *, asked: bool = False) -> Frames:
            """What is given for the last of the first packets of a group, when somebody asks."""
            frames: Frames = ()
            for number, packet in enumerate(packets_of(kind, count), 1):
                counts.demanded = asked and number == count
                frames = decoding.frames(packet, Arrival(time.monotonic_ns(), time.time_ns()))
            return frames

        assert same(fed(COUNT, asked=True)[0][0], newest_of_all(kind, COUNT))
        fed(COUNT)
        assert in_use(decoding) is codec, "it may yet be asked for a picture that refers to those it has"
        fed(1)
        assert in_use(decoding) is not codec
        assert not in_use(decoding).is_open
        assert held(codec, trial) == (0, False)
        ((frame, _),) = fed(COUNT, asked=True)
        assert same(frame, newest_of_all(kind, COUNT))
        assert in_use(decoding).is_open
    assert counts.counters["corrupt"] == 0


def in_use(decoding: Decoding) -> VideoCodecContext:
    return decoding.codec


def held(codec: VideoCodecContext, trial: Trial) -> tuple[int, bool]:
    """How many hold the codec beside whoever asks and this function; whether there is one for trials."""
    return sys.getrefcount(codec) - 3, bool(trial._codecs)


def anonymous(pid: int) -> int:
    """Bytes of a process's memory that are no file's, nor shared."""
    found = re.search(r"^Anonymous: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def seen(reader: FrameReader, pid: int) -> tuple[int, int]:
    """The camera's number, as read in one of its pictures, and what the decoder takes while it is followed."""
    for number, frame in enumerate(reader.frames(timeout=30)):
        if number == MANY:
            code = read_code(frame.planes[0])
            assert code is not None
            return code[0], anonymous(pid)
    raise AssertionError


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_decoder_gives_memory_back_when_nobody_looks_any_more(codec: Any, tmp_path: Path, prefix: str) -> None:
    video = footage(codec=codec, width=WIDTH, height=HEIGHT, frames=30, gop=10, number=3)
    with RtspServer({"cam": video}, tmp_path) as server:
        camera = {"code": "cam", "source": server.url("cam"), "decode": "demand", "timeout": 10.0}
        config = write_config(tmp_path / "framesrv.toml", {"shm": {"prefix": prefix}}, [camera])
        with Program("framesrv", "decode", "cam", "--config", config, log=tmp_path / "decode.log") as program:
            wait_for(lambda: camera_status(prefix, "cam").state == "live", "the stream flows")
            with FrameReader("cam", prefix=prefix) as reader:
                for _ in range(2):
                    code, taken = seen(reader, program.pid)
                    assert code == 3
                    most = taken - PICTURES * PICTURE
                    wait_for(partial(lambda most: anonymous(program.pid) < most, most), "its memory is given back")
            assert camera_status(prefix, "cam").corrupt == 0
            assert program.stop() == 0
