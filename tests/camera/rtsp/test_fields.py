"""H.264 whose pictures are fields (PAFF), in one access unit or each in its own: frames of both, and no halves."""

import random
from collections.abc import Iterator

import numpy as np
import pytest

from framesrv.segment.layout import Pixels
from tests.camera.rtsp.feed import Play, packets, payloads
from tests.support.field_pictures import coded, parameter_sets

WIDTH, HEIGHT, COUNT = 320, 256, 30
SETS = parameter_sets(WIDTH, HEIGHT)
KINDS = pytest.mark.parametrize("together", [True, False])


def scene(index: int) -> Pixels:
    """What moves from field to field."""
    luma = np.full((HEIGHT, WIDTH), 60, np.uint8)
    for field in (0, 1):
        at = (2 * index + field) * 6 % (WIDTH - 100)
        luma[64 + field : 160 : 2, at : at + 80] = 200
    return luma


FRAMES = [coded(scene(index), index) for index in range(COUNT)]
SELDOM = [coded(scene(index), index, 10) for index in range(COUNT)]  # an IDR field


def units(*, together: bool) -> list[list[bytes]]:
    """The payloads of each access unit."""
    if together:
        return [payloads([*SETS, *fields], "h264") for fields in FRAMES]
    return [one for first, second in FRAMES for one in (payloads([*SETS, first], "h264"), payloads([second], "h264"))]


def frames(play: Play, *, together: bool) -> dict[int, bool]:
    """The frames that were shown, each with whether it is right."""
    found = {index if together else index // 2: luma for index, luma in play.shown.items()}
    return {index: np.array_equal(luma[:HEIGHT], scene(index)) for index, luma in found.items()}


@KINDS
@pytest.mark.parametrize(("policy", "least"), [("all", COUNT), ("demand", COUNT), ("keyframes", COUNT - 1)])
def test_fields_come_as_frames_of_both(policy: str, least: int, together: bool) -> None:
    """Key frames alone were shown with the lines of one field."""
    play = Play("h264", policy)
    play.counts.demanded = True
    shown = frames(play.feed(packets(units(together=together))), together=together)
    assert len(shown) >= least
    assert all(shown.values())


def lossy(sent: Iterator[bytes], seed: int) -> Iterator[bytes]:
    """Without two packets in a hundred."""
    chance = random.Random(seed)
    return (packet for packet in sent if chance.random() > 0.02)


@KINDS
@pytest.mark.parametrize("policy", ["all", "demand", "keyframes"])
def test_no_frame_of_fields_is_shown_that_lacks_something(policy: str, together: bool) -> None:
    given = 0
    for seed in range(10):
        play = Play("h264", policy)
        play.counts.demanded = True
        shown = frames(play.feed(lossy(packets(units(together=together)), seed)), together=together)
        assert all(shown.values())
        given += len(shown)
    assert given > 10


@KINDS
@pytest.mark.parametrize("missing", [0, 1])
@pytest.mark.parametrize("source", [FRAMES, SELDOM], ids=["always", "seldom"])
def test_field_that_was_left_out_before_the_packets_were_numbered_costs_its_frame(
    source: list[list[bytes]], missing: int, together: bool
) -> None:
    fields = [list(pair) for pair in source]
    del fields[5][missing]
    if together:
        sent = [payloads([*SETS, *pair], "h264") for pair in fields]
    else:
        sent = [payloads([*SETS, field], "h264") for pair in fields for field in pair]
    play = Play("h264").feed(packets(sent))
    right = {scene(index).tobytes() for index in range(COUNT)}
    found = [luma[:HEIGHT].tobytes() in right for luma in play.shown.values()]
    assert len(found) >= COUNT - 6
    assert all(found)
