"""Packets in the middle of a picture are taken in a shorter way, and what comes of them is the same."""

import random
import struct
from collections.abc import Callable, Sequence

import pytest

from framesrv.camera.sources.rtsp import middle
from framesrv.camera.sources.rtsp.middle import Middle
from framesrv.camera.sources.rtsp.stream import Stream
from tests.camera.rtsp.feed import Track, coded, fragments, packets

Given = tuple[bytes, bool, bool, bool, int | None]


def given(
    codec: str, sent: list[bytes], *, keeps_order: bool, together: int = 1
) -> tuple[list[Given], tuple[int, ...]]:
    """What the stream gives, and what it counts; so many packets come `together`."""
    stream = Stream(Track(codec), keeps_order=keeps_order)  # type: ignore[arg-type]
    found = [
        (bytes(packet), packet.is_keyframe, arrival.whole, arrival.lost, packet.pts)
        for number in range(0, len(sent), together)
        for packet, arrival in stream.take(
            [memoryview(data) for data in sent[number : number + together]], number * 1_000_000, is_rtcp=False
        )
    ]
    order = stream._order
    return found, (order.received, order.missing, order.highest)


DISTURBANCES: list[Callable[[bytes], list[bytes]]] = [
    lambda data: [],  # lost
    lambda data: [data, data],
    lambda data: [data, data[:8] + struct.pack(">I", 5) + data[12:]],  # and one of another stream
    lambda data: [data[:14]],  # cut short
    lambda data: [bytes([data[0] | 0x20]) + data[1:] + b"\0\0\0\4"],  # with padding
    lambda data: [data[:1] + bytes([data[1] | 0x80]) + data[2:]],  # a marker where none is
    lambda data: [data[:4] + struct.pack(">I", 1_000_000) + data[8:]],  # another picture's time
    lambda data: [data[:13] + bytes([data[13] | 0x40]) + data[14:]],  # the end of a fragment where none is
]


def disturbed(sent: list[bytes], seed: int) -> list[bytes]:
    """The same packets with much that can happen to them."""
    chance = random.Random(seed)
    found: list[bytes] = []
    for data in sent:
        found += chance.choice(DISTURBANCES)(data) if chance.random() < 0.2 else [data]
        if len(found) > 2 and chance.random() < 0.03:  # one that comes late
            found[-2:] = reversed(found[-2:])
    return found


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("keeps_order", [True, False])
@pytest.mark.parametrize("together", [1, 7])
def test_shorter_way_gives_the_same(
    codec: str, keeps_order: bool, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = [[one for nal in picture for one in fragments(nal, codec, 100)] for picture in coded(codec)]
    sent = list(packets(pieces))
    cases = [sent, *(disturbed(sent, seed) for seed in range(30))]
    taken: list[int] = []
    takes = Middle.takes

    def counting(one: Middle, packets: Sequence[memoryview], at: int) -> int:
        after = takes(one, packets, at)
        taken.append(after - at)
        return after

    monkeypatch.setattr(Middle, "takes", counting)
    short = [given(codec, case, keeps_order=keeps_order, together=together) for case in cases]
    assert sum(taken) > sum(map(len, cases)) / 8, "many packets go that way"
    monkeypatch.setattr(Middle, "takes", lambda self, packets, at: at)
    assert short == [given(codec, case, keeps_order=keeps_order, together=together) for case in cases]


def test_picture_without_an_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middle, "LIMIT", 20_000)
    monkeypatch.setattr("framesrv.camera.sources.rtsp.unit.LIMIT", 20_000)
    first = b"\x5c\x85" + bytes([0x88]) + bytes(1000)
    endless = [first, *(b"\x5c\x05" + bytes(1000) for _ in range(60)), b"\x5c\x45" + bytes(1000)]
    found, _ = given("h264", list(packets([endless, [b"\x41\x9a\0"]])), keeps_order=True)
    assert (len(found[0][0]) < 22_000, found[0][2]) == (True, False)
