"""Packets of RTP and RTCP: taken apart, put in order, what is missing told."""

import random
import struct
import time

import pytest

from framesrv.camera.sources.rtsp import rtcp, rtp
from framesrv.camera.sources.rtsp.clock import CameraClock
from framesrv.segment.status import difference


def packet(sequence: int, source: int = 7, arrived: int = 0, payload: bytes = b"x") -> rtp.RtpPacket:
    found = rtp.parse(memoryview(struct.pack(">BBHII", 0x80, 96, sequence & 0xFFFF, 5, source) + payload), arrived)
    assert found is not None
    return found


def given(order: rtp.Order, *packets: rtp.RtpPacket) -> list[tuple[int, bool]]:
    return [(one.sequence, one.lost) for each in packets for one in order.put(each)]


def test_a_packet_is_taken_apart_with_extension_sources_and_padding() -> None:
    data = (
        struct.pack(">BBHII", 0xB2, 0xE0, 9, 1000, 3) + bytes(8) + b"\xbe\xde\0\1" + bytes(4) + b"picture" + b"\0\0\3"
    )
    found = rtp.parse(memoryview(data), 17)
    assert found is not None
    assert (bytes(found.payload), found.marker, found.payload_type) == (b"picture", True, 96)
    assert found.extension == (0xBEDE, bytes(4))
    assert (found.sequence, found.timestamp, found.source, found.arrived) == (9, 1000, 3, 17)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80" * 11,
        b"\x40" + bytes(11),
        b"\x90" + bytes(11),
        b"\x90" + bytes(13) + b"\xff\xff",
        b"\xa0" + bytes(11) + b"\xff",
    ],
)
def test_what_is_no_packet_is_none(data: bytes) -> None:
    assert rtp.parse(memoryview(data), 0) is None


@pytest.mark.parametrize("keeps", [True, False])
def test_packets_in_order_go_straight_through_also_where_numbers_wrap(keeps: bool) -> None:
    order = rtp.Order(keeps=keeps)
    numbers = [65534, 65535, 0, 1]
    assert given(order, *map(packet, numbers)) == [(number, False) for number in numbers]
    assert (order.received, order.missing, order.highest) == (4, 0, (1 << 16) + 1)


def test_missing_packets_are_told_at_once_where_the_way_keeps_the_order() -> None:
    order = rtp.Order(keeps=True)
    assert given(order, packet(65535), packet(2), packet(3)) == [(65535, False), (2, True), (3, False)]
    assert order.missing == 2


def test_packets_out_of_order_are_put_right_and_copies_left_out() -> None:
    numbers = [(65_500 + index) & 0xFFFF for index in range(200)]
    shuffled = [packet(number) for number in numbers]
    generator = random.Random(1)
    for start in range(1, 200, 8):
        part = shuffled[start : start + 8]
        generator.shuffle(part)
        shuffled[start : start + 8] = [*part, *part[:2]][: len(part) + 2]
    order = rtp.Order(keeps=False)
    assert given(order, *shuffled) == [(number, False) for number in numbers]
    assert order.missing == 0


def test_a_packet_that_does_not_come_is_waited_for_and_then_lost() -> None:
    order = rtp.Order(keeps=False)
    soon, late = int(rtp.LATE * 1e9 / 2), int(rtp.LATE * 1e9 * 2)
    assert given(order, packet(1), packet(3), packet(4, arrived=soon)) == [(1, False)]
    assert given(order, packet(5, arrived=late)) == [(3, True), (4, False), (5, False)]
    assert given(order, packet(2, arrived=late)) == []  # too late
    assert order.missing == 1


def test_no_more_packets_wait_than_the_window_holds() -> None:
    order = rtp.Order(keeps=False)
    given(order, packet(0))
    assert given(order, *(packet(number) for number in range(2, rtp.WINDOW + 2))) == []
    assert given(order, packet(rtp.WINDOW + 2))[0] == (2, True)


@pytest.mark.parametrize("keeps", [True, False])
def test_a_stream_that_begins_anew_counts_as_a_loss(keeps: bool) -> None:
    order = rtp.Order(keeps=keeps)
    assert given(order, packet(100), packet(40_000), packet(40_001)) == [
        (100, False),
        (40_000, True),
        (40_001, False),
    ]
    assert given(order, packet(7, source=8), packet(8, source=8)) == [(7, True), (8, False)]


def test_ticks_go_on_when_the_clock_of_32_bits_wraps_and_may_go_back() -> None:
    ticks = rtp.Ticks()
    stamps = [0xFFFF_FF00, 0xFFFF_FFF0, 0x10, 0, 0x100]
    assert [ticks.at(stamp) for stamp in stamps] == [0, 0xF0, 0x110, 0x100, 0x200]


def test_a_sender_report_tells_the_camera_s_clock() -> None:
    before = struct.pack(">BBHI", 0x80, 202, 1, 9)
    body = struct.pack(">IIIIII", 9, rtcp.EPOCH + 1_700_000_000, 1 << 31, 90_000, 0, 0)
    report = rtcp.sender_report(memoryview(before + struct.pack(">BBH", 0x80, 200, 6) + body))
    assert report is not None
    assert (report.source, report.unix, report.timestamp) == (9, 1_700_000_000_500_000_000, 90_000)


@pytest.mark.parametrize("data", [b"", b"\x80\xc8\0\6", b"\0" * 40, b"\x80\xca\xff\xff"])
def test_what_is_no_sender_report_is_none(data: bytes) -> None:
    assert rtcp.sender_report(memoryview(data)) is None
    assert not rtcp.says_goodbye(memoryview(data))


def report(unix: float, timestamp: int = 0) -> rtcp.SenderReport:
    return rtcp.SenderReport(7, int(unix * 1e9), timestamp, 0)


def test_captured_follows_the_camera_s_clock_also_where_ticks_wrap() -> None:
    clock = CameraClock(90_000)
    assert clock.captured(5) is None
    now = time.time()
    clock.set(report(now, 0xFFFF_FFF0))
    assert clock.captured(90_000 - 16) == int(now * 1e9) + 10**9
    assert clock.captured(0xFFFF_FFF0 - 9000) == int(now * 1e9) - 10**8
    assert not clock.wrong


@pytest.mark.parametrize(
    ("unix", "words"), [(0.0, "years slow"), (946_684_800.0, "years slow"), (None, "24 hours fast")]
)
def test_a_clock_that_is_wrong_is_said_once_and_not_believed(
    unix: float | None, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = CameraClock(90_000)
    for _ in range(3):
        clock.set(report(time.time() + 86_400 if unix is None else unix))
    assert clock.wrong
    assert clock.captured(0) is None
    assert [words in line for line in caplog.messages] == [True]


def test_a_camera_without_a_clock_has_none() -> None:
    body = struct.pack(">BBHIIIIII", 0x80, 200, 6, 9, 1234, 0, 0, 0, 0)
    found = rtcp.sender_report(memoryview(body))
    assert found is not None
    assert found.unix is None
    clock = CameraClock(90_000)
    clock.set(found)
    assert (clock.captured(0), clock.wrong, clock.ahead) == (None, False, None)


def test_a_difference_is_in_words_of_its_size() -> None:
    assert [difference(ahead) for ahead in (90, -7200, 3 * 86_400, -1.2e9)] == [
        "90 seconds fast",
        "2 hours slow",
        "3 days fast",
        "38 years slow",
    ]
