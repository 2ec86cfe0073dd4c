"""What a history keeps, and what it tells where it keeps nothing."""

import math
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framesrv import (
    CodecParameters,
    FrameReader,
    FrameWriter,
    History,
    HistoryUnavailableError,
)
from framesrv.codec.presentation import Presentation
from framesrv.history import layout
from framesrv.history.file import HistoryFile, history_path
from framesrv.history.packet import packed
from framesrv.history.writer import HistoryWriter, Times
from tests.history.programs import DESCRIPTION
from tests.support.segment_programs import Process

BASE = 1_800_000_000 * 10**9  # Unix nanoseconds of the first packet
SECOND = 10**9


def put(
    writer: HistoryWriter, number: int, *, gop: int = 10, nbytes: int = 1000, every: int = SECOND // 10, **marks: Any
) -> int:
    """Adds packet `number` of a stream, whose bytes all say its number; gives what `add` does."""
    at = number * every
    times: Times = (
        number * 9000,
        None,
        BASE + at,
        BASE + at + 5,
        at + SECOND,
        marks.pop("clock", "arrival") == "camera",
    )
    description = DESCRIPTION if number % gop == 0 else b""
    return writer.add(bytes([number % 256]) * nbytes, times, description, **marks)


def moment(number: int, every: int = SECOND // 10) -> float:
    return (BASE + number * every) / 1e9


def numbers(history: History, start: float, end: float = math.inf) -> list[int]:
    """Which packets of an interval there are, each whole."""
    found = history.packets(start, end)
    for packet in found:
        assert packet.pts is not None
        assert set(packet.data) == {packet.pts // 9000 % 256}
    return [(packet.pts or 0) // 9000 for packet in found]


def test_packets_carry_all_that_was_known_of_them(kept: Callable[..., HistoryWriter], history: History) -> None:
    writer = kept()
    parameters = CodecParameters(
        "hevc", b"extra", Fraction(1, 12_800), 1920, 1080, Fraction(4, 3),
        Presentation("bgr24", False, Fraction(16, 9), 270),
    )  # fmt: skip
    times: Times = (-5, -7, BASE, BASE + 1, 42, True)
    assert writer.add(b"key", times, packed(parameters), whole=False) == 1
    assert writer.add(memoryview(b"other"), (None, None, BASE + 2, BASE + 3, 44, False), lost=True) == 2
    key, other = history.packets(BASE / 1e9)
    assert key.parameters == other.parameters == parameters
    assert parameters.rotate == 270
    assert (key.number, key.data, key.key, key.pts, key.dts, key.clock) == (1, b"key", True, -5, -7, "camera")
    assert (key.captured_ns, key.arrived_ns, key.monotonic_ns) == (BASE, BASE + 1, 42)
    assert (key.whole, key.lost, key.damaged) == (False, False, True)
    assert (other.data, other.key, other.pts, other.dts, other.clock) == (b"other", False, None, None, "arrival")
    assert (other.whole, other.lost, other.damaged) == (True, True, True)
    assert other.captured_at == (BASE + 2) / 1e9


def test_an_interval_begins_at_the_key_frame_before_it_and_not_a_group_earlier(
    kept: Callable[..., HistoryWriter], history: History
) -> None:
    writer = kept()
    for number in range(50):
        put(writer, number)
    assert history.span() == (moment(0), moment(49))
    assert history.seconds == 10.0
    assert numbers(history, moment(25), moment(33)) == list(range(20, 34))
    assert numbers(history, moment(30), moment(30)) == [30]
    assert numbers(history, moment(29)) == list(range(20, 50))
    assert numbers(history, moment(0), moment(3) + 0.05) == [0, 1, 2, 3]


def test_what_is_older_than_it_is_to_be_is_let_go_by_groups(
    kept: Callable[..., HistoryWriter], history: History
) -> None:
    writer = kept(seconds=2.0)
    for number in range(101):
        put(writer, number)
        if number > 40:  # a group more than the time, at most
            oldest, newest = history.span()
            assert 2.0 <= newest - oldest + 0.001 < 4.0
    assert numbers(history, history.span()[0]) == list(range(80, 101))


def test_the_ring_is_never_larger_than_it_may_be_and_keeps_whole_groups(
    kept: Callable[..., HistoryWriter], history: History, prefix: str
) -> None:
    writer = kept(seconds=60.0, nbytes=300_000)
    room = HistoryFile.attach(history_path(prefix, "cam"))
    assert Path(history_path(prefix, "cam")).stat().st_size <= 300_000
    random = np.random.default_rng(3)
    for number in range(200):
        put(writer, number, nbytes=int(random.integers(100, 9000)))
        kept_now = numbers(history, history.span()[0])
        assert kept_now[0] % 10 == 0
        assert kept_now == list(range(kept_now[0], number + 1))
    assert sum(len(packet.data) for packet in history.packets(history.span()[0])) > room.form.data_size * 0.6
    room.close()


def test_a_group_that_is_longer_than_the_ring_is_kept_as_far_as_it_goes(
    kept: Callable[..., HistoryWriter], history: History, caplog: pytest.LogCaptureFixture
) -> None:
    writer = kept(seconds=10.0, nbytes=300_000)
    for number in range(199):
        put(writer, number, gop=100, nbytes=5000)
    held = numbers(history, history.span()[0])
    assert held == list(range(100, 100 + len(held)))  # from the key frame on, and then no more
    assert 40 < len(held) < 60
    assert put(writer, 199, gop=100) == 0
    assert put(writer, 200, gop=100)  # the next group is kept again
    assert len([one for one in caplog.records if "history_bytes = 300000 hold" in one.message]) == 1
    assert put(writer, 300, gop=100, nbytes=400_000) == 0  # nor may a packet be larger than the ring
    assert numbers(history, moment(200)) == [200]


def test_a_packet_is_given_up_before_it_is_written_over_and_given_when_it_is_whole(
    kept: Callable[..., HistoryWriter], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = kept(seconds=60.0, nbytes=layout.LEAST)
    file, bar = writer._file, HistoryFile.bar
    seen: list[tuple[int, int, bytes]] = []

    def look(self: HistoryFile) -> None:
        seen.append((file.first, file.following, bytes(file.data)))
        bar(self)

    monkeypatch.setattr(HistoryFile, "bar", look)
    monkeypatch.setattr("framesrv.history.writer.IN_ORDER", False)
    number = evictions = 0
    while evictions < 3:
        first, before = file.first, bytes(file.data)
        seen.clear()
        put(writer, number, nbytes=5000)
        number += 1
        assert [following for _, following, _ in seen] == [number] * len(seen)  # it is not told of yet
        assert seen[-1][2] == bytes(file.data)  # and is all there
        if file.first != first:
            evictions += 1
            assert seen[0] == (file.first, number, before)  # told first, and nothing written over
    assert number > 30


def test_nothing_is_kept_before_the_first_key_frame_of_a_stream(
    kept: Callable[..., HistoryWriter], history: History
) -> None:
    writer = kept()
    assert put(writer, 1) == 0
    with pytest.raises(HistoryUnavailableError) as raised:
        history.span()
    assert raised.value.reason == "empty"
    put(writer, 10)
    put(writer, 11)
    writer.begin()
    assert put(writer, 12) == 0
    put(writer, 20)
    assert [(packet.pts, packet.stream) for packet in history.packets(moment(10))] == [
        (90_000, 1),
        (99_000, 1),
        (180_000, 2),
    ]


def test_each_reason_for_which_there_is_nothing_is_told(
    kept: Callable[..., HistoryWriter], history: History, camera: FrameReader, prefix: str
) -> None:
    def reason(ask: Callable[[], object]) -> str:
        with pytest.raises(HistoryUnavailableError) as raised:
            ask()
        assert str(raised.value).startswith("camera cam: ")
        return raised.value.reason

    assert reason(lambda: camera.at(ago=1.0)) == "absent"
    with FrameWriter("cam", 64, 48, "yuv420p", prefix=prefix):
        assert reason(history.span) == "no_history"
        writer = kept()
        assert reason(lambda: camera.at(ago=1.0)) == "empty"
        for number in range(21):
            put(writer, number)
        assert reason(lambda: history.packets(moment(0) - 0.001)) == "before"
        assert reason(lambda: history.packets(moment(20) + 0.001)) == "after"
        assert reason(lambda: camera.at(moment(0) - 5)) == "before"
        assert reason(lambda: camera.at(moment(20) + 0.001, timeout=0.05)) == "after"
        assert reason(lambda: camera.at(time.time() + 10**9)) == "after"
        writer.begin()
        put(writer, 90)
        assert reason(lambda: camera.at(moment(60))) == "gap"
        assert reason(lambda: camera.at(moment(15))) == "damaged"  # these are no pictures
        with pytest.raises(ValueError, match="either when or ago"):
            camera.at()
        with pytest.raises(ValueError, match="either when or ago"):
            camera.at(1.0, ago=1.0)
        with pytest.raises(ValueError, match="not before the start"):
            history.packets(2.0, 1.0)
        for nothing in (math.nan, math.inf, -math.inf):
            with pytest.raises(ValueError, match="expected Unix seconds"):
                camera.at(nothing)


def test_a_waiter_is_woken_when_what_it_waits_for_has_come(
    kept: Callable[..., HistoryWriter], history: History, start: Callable[..., Process], prefix: str
) -> None:
    writer = kept()
    put(writer, 0)
    assert not history.wait_until(moment(0), 0.01)  # of the same moment more may come
    waiting = start(wait_for_it, prefix, moment(3))
    assert waiting.answer() == "waits"
    for number in range(1, 4):
        put(writer, number)
    assert not waiting.pipe.poll(0.1)
    put(writer, 4)
    assert waiting.answer() is True


def wait_for_it(pipe: Any, prefix: str, until: float) -> None:
    with History("cam", prefix=prefix) as history:
        pipe.send("waits")
        pipe.send(history.wait_until(until, 20.0))


def test_pictures_out_of_order_are_waited_for(kept: Callable[..., HistoryWriter], history: History) -> None:
    writer = kept()
    for number in (0, 3, 1, 2, 6, 4, 5):
        put(writer, number)
    put(writer, 9)
    assert not history.wait_until(moment(7), 0)  # that of 9 has come, those of 7 and 8 are to follow
    put(writer, 7)
    assert not history.wait_until(moment(7), 0)
    put(writer, 8)
    assert history.wait_until(moment(8), 0)
