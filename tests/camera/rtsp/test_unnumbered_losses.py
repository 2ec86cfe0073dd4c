"""Data that a camera drops before it numbers its packets, measured against the pictures that it has coded.

One fragment in a hundred is left out, so that no number is missing. What is given is compared with the source: below
30 dB the damage shows.
"""

import random
from collections.abc import Iterator
from typing import Any

import pytest

from tests.camera.rtsp.feed import Play, packets
from tests.camera.test_damage import FLOOR, luma, psnr
from tests.support.footage import Codec, footage
from tests.support.rtsp_track import Track

LOSS = 0.01
FPS = 25
FRAMES = 100


def thinned(track: Track, pictures: int) -> Iterator[list[bytes]]:
    """So many pictures of the track, which is played again and again, without one payload in a hundred."""
    generator = random.Random(1)
    for index in range(pictures):
        payloads = track.units[index % len(track.units)].payloads
        yield [payload for payload, _ in payloads if generator.random() > LOSS]


def damaged(codec: Codec, seconds: int, **options: Any) -> tuple[int, int]:
    """How many of the pictures that are given show damage, and how many are given."""
    video = footage(codec=codec, frames=FRAMES, gop=FPS, **options)
    sources = luma(video)
    play = Play(codec)
    bad = 0
    given = 0

    def judge(index: int, picture: Any) -> None:
        nonlocal bad, given
        given += 1
        bad += psnr(picture, sources[index % FRAMES]) < FLOOR

    play.shown = Judged(judge)  # type: ignore[assignment]
    play.feed(packets(thinned(Track(video), seconds * FPS)))
    assert play.counts.counters["corrupt"] > seconds  # there was something to guard against
    return bad, given


class Judged:
    """Takes pictures by their index, and keeps none."""

    def __init__(self, judge: Any) -> None:
        self._judge = judge

    def __setitem__(self, index: int, picture: Any) -> None:
        self._judge(index, picture)


SIZES = [(640, 360, 60), (1920, 1080, 12)]


@pytest.mark.parametrize(("width", "height", "seconds"), SIZES)
@pytest.mark.parametrize("slices", [1, 4])
def test_no_damage_is_given_of_h264(width: int, height: int, seconds: int, slices: int) -> None:
    bad, given = damaged("h264", seconds, width=width, height=height, slices=slices)
    assert bad == 0
    assert given > seconds


@pytest.mark.parametrize(("width", "height", "seconds"), SIZES)
@pytest.mark.parametrize(("slices", "block"), [(1, 32), (4, 32), (1, 64)])
def test_no_damage_is_given_of_h265(width: int, height: int, seconds: int, slices: int, block: int) -> None:
    """Its decoder may come to the end of a picture although it has lost its way, mostly where blocks are large."""
    bad, given = damaged("hevc", seconds, width=width, height=height, slices=slices, block=block)
    assert bad == 0
    assert given > seconds


def test_a_hole_in_a_picture_whose_rows_are_coded_apart_is_noticed() -> None:
    """At the next row its decoder finds its way again, and may come to the end of the picture as it should."""
    track = Track(footage(codec="hevc", frames=FRAMES, gop=FPS))
    first, key, after = (
        [payload for payload, _ in track.units[index].payloads] for index in (0, 3 * FPS, 3 * FPS + 1)
    )
    for left_out in range(len(key) - 16, len(key) - 4):
        play = Play("hevc").feed(packets([first, key[:left_out] + key[left_out + 1 :], after]))
        assert list(play.shown) == [0], left_out
    assert list(Play("hevc").feed(packets([first, key, after])).shown) == [0, 1, 2]
