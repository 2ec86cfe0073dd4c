"""The frame shown at a moment: a counter in the picture says which it is."""

import os
import random
from collections.abc import Callable
from typing import Any

import pytest

from framesrv import FrameReader, History, HistoryUnavailableError
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
