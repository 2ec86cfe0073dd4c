"""What a camera is told of its stream: what has come, and that a key frame is wanted."""

import struct
import time

import pytest

from framesrv import SourceError
from framesrv.camera.sources.rtsp import rtcp, stream
from framesrv.camera.sources.rtsp.stream import Stream
from tests.camera.rtsp.feed import Track, packets


def kinds(message: bytes) -> list[int]:
    """The types of the messages in a packet."""
    found, at = [], 0
    while at < len(message):
        _, kind, words = struct.unpack_from(">BBH", message, at)
        found.append(kind)
        at += 4 + 4 * words
    assert at == len(message)
    return found


def playing(*, feedback: bool) -> Stream:
    one = Stream(Track("h264", feedback=feedback), keeps_order=True)  # type: ignore[arg-type]
    assert one.reports(wants_key=True) == b""  # nobody is there yet
    first, _, third = packets([[b"\x65\x88\x80"]] * 3)
    for data in (first, third):  # one is missing
        list(one.take([memoryview(data)], time.monotonic_ns(), is_rtcp=False))
    return one


def test_report_says_what_has_come_and_what_has_not() -> None:
    message = playing(feedback=False).reports(wants_key=False)
    assert kinds(message) == [rtcp.RECEIVER_REPORT]
    source, missing, highest = struct.unpack_from(">III", message, 8)
    assert (source, missing & 0xFFFFFF, highest) == (77, 1, 65_002)


def test_key_frame_is_asked_for_where_the_camera_takes_that_and_not_all_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = playing(feedback=True)
    assert kinds(one.reports(wants_key=True)) == [rtcp.RECEIVER_REPORT, rtcp.PAYLOAD_FEEDBACK]
    assert one.reports(wants_key=True) == b""
    monkeypatch.setattr(stream, "ASK_EVERY", 0.0)
    assert rtcp.PAYLOAD_FEEDBACK in kinds(one.reports(wants_key=True))
    assert one.reports(wants_key=False) == b""
    assert kinds(playing(feedback=False).reports(wants_key=True)) == [rtcp.RECEIVER_REPORT]


def test_end_of_the_stream_is_heard() -> None:
    one = playing(feedback=False)
    goodbye = struct.pack(">BBHI", 0x81, rtcp.GOODBYE, 1, 77)
    with pytest.raises(SourceError, match="the camera ended the stream"):
        list(one.take([memoryview(goodbye)], 0, is_rtcp=True))
