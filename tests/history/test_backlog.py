"""The backlog of a decoder on demand, of a camera that keeps a history: it lies there, and not twice."""

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import av

from framesrv.camera.sources.gop import GopCache
from framesrv.codec.arrival import Arrival
from framesrv.history.writer import HistoryWriter
from tests.history.programs import DESCRIPTION


def test_packets_are_taken_from_the_history_and_held_by_number_alone(kept: Callable[..., HistoryWriter]) -> None:
    writer = kept()
    cache = GopCache(writer)
    given = []
    for number in range(7):
        packet: Any = av.Packet(bytes([number]) * 1000)
        packet.pts, packet.time_base, packet.is_keyframe = number * 3600, Fraction(1, 90_000), number in (0, 2)
        arrival = Arrival(number, number)
        times = (packet.pts, None, number, number, number, False)
        kept_as = writer.add(memoryview(packet), times, DESCRIPTION if packet.is_keyframe else b"")
        cache.add(packet, arrival, kept_as)
        given.append((bytes(packet), packet.pts, packet.time_base, packet.is_keyframe, arrival))
    assert [one for one, _ in cache._packets] == [3, 4, 5, 6, 7]  # from the newest key frame on
    taken = [
        (bytes(packet), packet.pts, packet.time_base, packet.is_keyframe, arrival) for packet, arrival in cache.take()
    ]
    assert taken == given[2:]
    assert cache.take() == []
