"""The frame shown at a moment: a counter in the picture says which it is."""

import os
import random
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from framesrv import FrameReader, History, HistoryUnavailableError
from framesrv.history.packet import packed
from framesrv.history.writer import HistoryWriter
from tests.history.feed import feed
from tests.support.footage import footage, read_code

MOMENTS = int(os.environ.get("HISTORY_MOMENTS", "6"))  # a case; 200 in a long run


@pytest.mark.parametrize("clock", [True, False], ids=["camera-clock", "arrival"])
@pytest.mark.parametrize(
    ("codec", "bframes", "fps", "gop"),
    [
        ("h264", 0, 25, 50),
        ("h264", 2, 25, 200),
        ("h264", 2, 5, 10),
        ("hevc", 0, 5, 40),
        ("hevc", 3, 25, 50),
        ("hevc", 2, 25, 200),
    ],
)
@pytest.mark.parametrize("loss", [0.0, 0.01])
def test_frame_is_the_one_shown_then_or_the_error_says_damaged(
    codec: Any,
    bframes: int,
    fps: int,
    gop: int,
    clock: bool,
    loss: float,
    kept: Callable[..., HistoryWriter],
    history: History,
    camera: FrameReader,
) -> None:
    video = footage(codec=codec, width=320, height=240, fps=fps, frames=fps * 12, gop=gop, number=7, bframes=bframes)
    fed = feed(kept(), video, loss=loss, clock=clock)
    assert bool(fed.lost) == bool(loss)
    oldest, newest = history.span()
    assert newest - oldest > 10.0
    packets = history.packets(oldest)
    numbers = {packet.number: fed.index(packet.pts or 0) for packet in packets}
    chance = random.Random(gop * fps)
    reasons = []
    for _ in range(MOMENTS):
        moment = newest - chance.random() * 10
        shown = max((packet for packet in packets if packet.captured_at <= moment), key=lambda one: one.captured_at)
        try:
            frame = camera.at(moment)
        except HistoryUnavailableError as error:
            reasons.append(error.reason)
            continue
        with frame:
            assert read_code(frame.planes[0]) == (7, numbers[shown.number])
            assert frame.stamp.captured_ns == shown.captured_ns
            assert 0 <= moment - frame.captured_at <= 1 / fps + 1e-3
    assert set(reasons) <= ({"damaged"} if loss else set())
    assert len(reasons) < MOMENTS or gop == 200  # of eight seconds, in which something is always lost


@pytest.mark.parametrize("mark", [{"whole": False}, {"lost": True}], ids=["damaged", "lost"])
def test_what_is_marked_is_not_given_nor_what_refers_to_it(
    mark: dict[str, bool], kept: Callable[..., HistoryWriter], history: History, prefix: str
) -> None:
    """The decoder itself finds nothing wrong with these pictures."""
    feed(kept(), footage(width=320, height=240, frames=75, gop=25, number=7), clock=True)
    packets = history.packets(history.span()[0])
    with closing(HistoryWriter("marked", 10.0, 8_000_000, prefix=prefix)) as writer:
        for index, one in enumerate(packets):
            times = (one.pts, one.dts, one.captured_ns, one.arrived_ns, one.monotonic_ns, True)
            description = packed(one.parameters) if one.key else b""
            writer.add(one.data, times, description, **(mark if index == 30 else {}))
        with FrameReader("marked", prefix=prefix) as camera:
            for index in (29, 50, 60):
                with camera.at(packets[index].captured_at) as frame:
                    assert read_code(frame.planes[0]) == (7, index)
            for index in (30, 31, 49):
                with pytest.raises(HistoryUnavailableError) as raised:
                    camera.at(packets[index].captured_at)
                assert raised.value.reason == "damaged"
