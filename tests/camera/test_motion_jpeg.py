"""Motion JPEG over HTTP: each picture when its last byte has come, whatever its part says of itself."""

import socket
import statistics
from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import pytest
import simplejpeg

from framesrv import SourceError
from framesrv.camera.policy import Policy
from framesrv.camera.sources import Source, open_source
from framesrv.camera.sources.motion import parts
from framesrv.camera.sources.still.image import LARGEST
from framesrv.errors import SourceLimitError
from framesrv.settings import Camera
from tests.camera.test_sources import gray, pictures
from tests.camera.test_streams import lags
from tests.support.footage import read_code
from tests.support.held_up import HeldUp
from tests.support.motion_camera import MotionCamera, with_length, without_length
from tests.support.picture_server import PictureServer, picture
from tests.support.rtsp_answers import Answering
from tests.support.rtsp_login import Login
from tests.support.sink import Counts

JPEG = picture(3)
EOI = b"\xff\xd9"


@pytest.mark.parametrize("part", [with_length, without_length])
def test_pictures_of_motion_jpeg_come_when_they_are_sent_and_say_so(
    part: Callable[[bytes], bytes], held_up: HeldUp
) -> None:
    """Those without a length came with the next one, and said that they had come then."""
    with MotionCamera(part) as camera:
        found = lags(pictures(camera.source), 25, lambda: camera.sent)
    assert max(claimed for _, claimed in found) < 0.09 + held_up.seconds
    assert statistics.median(lag for lag, _ in found[5:]) < 0.05 + held_up.seconds
    assert statistics.median(claimed for _, claimed in found[5:]) > -0.05


def test_motion_jpeg_that_falls_silent_or_ends_is_lost_and_found_again() -> None:
    with MotionCamera(without_length, 50, number=10) as camera:
        for camera.silent, words in ((0.0, "the camera ended the stream"), (30.0, "lost: no packet for 1 s")):
            given: list[tuple[int, int] | None] = []
            with pytest.raises(SourceError, match=words):
                given.extend(read_code(gray(one)) for one in pictures(camera.source, timeout=1.0))
            assert given == [(7, index) for index in range(10)]


@pytest.mark.parametrize("algorithm", ["", "SHA-256"])
def test_motion_jpeg_behind_a_password_is_had(algorithm: str) -> None:
    """FFmpeg, which looks at it first, knows no Digest but MD5."""
    login = Login("digest", "admin", "pw", algorithm=algorithm)
    with MotionCamera(without_length, 20, number=30, login=login) as camera:
        source = camera_source(camera.source)
        for _ in range(2):
            shown = islice((one for one in source.frames(Counts()) if one is not None), 5)
            assert [read_code(gray(one)) for one in shown] == [(7, index) for index in range(5)]


def camera_source(url: str) -> Source:
    return open_source(Camera(code="cam", source=url, timeout=2.0), Policy("all"))


def test_answer_in_chunks_that_breaks_off_is_one_that_ended() -> None:
    """Motion's, when it is killed: its error was shown as Python has it."""

    def answer(connection: socket.socket) -> None:
        connection.recv(4096)
        part = without_length(JPEG)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n"
        connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            connection.sendall(b"%x\r\n%b\r\n" % (len(part), part))

    with Answering(answer) as server, pytest.raises(SourceError, match="the camera ended the stream") as caught:
        list(pictures(f"http://127.0.0.1:{server.port}/video"))
    assert caught.value.cause == "ended"


def test_camera_that_gives_single_pictures_later_is_played_as_that() -> None:
    with PictureServer() as server:
        stream = b"".join(map(without_length, map(picture, range(40))))
        server.body, server.content_type = stream, "multipart/x-mixed-replace; boundary=frame"
        playing = pictures(server.source(), fps=20.0)
        assert next(playing).width == 640
        server.body = b""
        with pytest.raises(SourceError, match="ended"):
            list(playing)


@pytest.mark.parametrize("policy", ["keyframes", "fps:5", "demand"])
def test_policies_have_pictures_of_motion_jpeg_as_well(policy: str) -> None:
    counts = Counts()
    counts.demanded = True
    with MotionCamera(without_length, 20) as camera:
        assert [one.width for one in islice(pictures(camera.source, counts, decode=policy), 3)] == [640] * 3
    if policy == "demand":
        assert counts.idle_form in (None, (640, 360, "yuv420p"))


def taken(data: bytes, step: int) -> Iterator[bytes]:
    """The pictures in an answer that comes so many bytes at a time, each as it is given."""
    chunks = iter([data[at : at + step] for at in range(0, len(data), step)])
    return (image.data for image in parts.pictures(lambda: next(chunks, b"")))


def progressive() -> bytes:
    """A JPEG of several scans, with tables between them."""
    bgr = np.random.default_rng(1).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    ordinary = bytes(simplejpeg.encode_jpeg(bgr, 85, "BGR", "420"))
    scan = ordinary[ordinary.index(b"\xff\xda") : -2]
    return ordinary[:-2] + b"\xff\xc4\x00\x05abc" + scan + EOI


def with_thumbnail() -> bytes:
    """A JPEG in whose beginning another one lies, with its own end."""
    small = b"\xff\xd8\xff\xdb\x00\x04ab" + EOI
    return JPEG[:2] + b"\xff\xe1" + (len(small) + 2).to_bytes(2, "big") + small + JPEG[2:]


@pytest.mark.parametrize("step", [1, 2, 3, 1000, 65_536])
@pytest.mark.parametrize("jpeg", [JPEG, progressive(), with_thumbnail(), b"\xff\xd8\xff\xff" + JPEG[3:]])
@pytest.mark.parametrize("part", [with_length, without_length])
def test_end_of_a_part_is_found_however_its_bytes_come(
    part: Callable[[bytes], bytes], jpeg: bytes, step: int
) -> None:
    data = b"garbage\r\n" + part(jpeg) + part(JPEG) + part(jpeg)
    assert list(taken(data, step)) == [jpeg, JPEG, jpeg]


@pytest.mark.parametrize("step", [1, 65_536])
def test_part_without_an_end_of_its_own_ends_with_the_next_boundary(step: int) -> None:
    endless, broken = JPEG[:-2], JPEG[:20] + b"no marker" + JPEG[29:-2]
    data = b"".join(map(without_length, (endless, JPEG, broken, JPEG)))
    assert list(taken(data, step)) == [endless, JPEG, broken, JPEG]


def test_picture_is_given_with_its_last_byte() -> None:
    came = 0

    def more() -> bytes:
        nonlocal came
        came += 1
        return data[came - 1 : came]

    data = without_length(JPEG)
    next(parts.pictures(more))
    assert came == len(data) - len(b"\r\n")


def test_what_has_no_end_is_refused() -> None:
    with pytest.raises(SourceError, match="what comes between its pictures has no end"):
        next(parts.pictures(lambda: b"x" * 10_000))
    scan = iter([without_length(JPEG[:-2])[:-2]])
    with pytest.raises(SourceLimitError, match=f"its picture has no end, more than {LARGEST} bytes are not taken"):
        next(parts.pictures(lambda: next(scan, b"x" * 1_000_000)))
