"""When pictures of H.265 are tried: while damage is thought of, and there is time."""

import time
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import cast

import av
import pytest

from framesrv.camera.policy import Policy
from framesrv.camera.sources import open_source
from framesrv.codec import questions
from framesrv.codec.arrival import Packet
from framesrv.codec.damage import Damage
from framesrv.codec.h265 import START
from framesrv.codec.questions import BEGINNING, KEYS, Questions
from framesrv.codec.trial import CodedPicture, Trial
from framesrv.settings import Camera
from tests.camera.rtsp.feed import coded
from tests.support.footage import footage
from tests.support.rtsp import RtspServer
from tests.support.sink import Counts


class Counting(Trial):
    """Counts what is tried, and when it rests."""

    tried = rested = 0

    def passes(self, picture: CodedPicture, damage: Damage) -> bool:
        self.tried += 1
        return super().passes(picture, damage)

    def rest(self) -> None:
        super().rest()
        self.rested += 1


def pictures(count: int) -> list[Packet]:
    found = []
    for nals in coded("hevc", count):
        packet = cast(Packet, av.Packet(b"".join(START + nal for nal in nals)))
        packet.time_base = Fraction(1, 90_000)
        found.append(packet)
    return found


def test_pictures_are_tried_at_first_and_again_after_damage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "DOUBTED", 5)
    trial, packets = Counting({}), pictures(BEGINNING + 20)
    asking = Questions(trial)
    with Damage() as damage:
        assert all(asking.asked(packet, damage, time.monotonic_ns())[2] for packet in packets[: BEGINNING + 10])
        assert (trial.tried, trial.rested, trial._codecs) == (BEGINNING, 1, {})
        asking.damaged()
        for packet in packets[BEGINNING + 10 :]:
            asking.asked(packet, damage, time.monotonic_ns())
    assert (trial.tried, trial.rested, trial._codecs) == (BEGINNING + 5, 2, {})


def test_picture_that_comes_late_is_not_tried() -> None:
    trial, packets = Counting({}), pictures(5)
    asking = Questions(trial)
    with Damage() as damage:
        assert all(asking.asked(packet, damage, 0)[2] for packet in packets)
    assert trial.tried == 0


@pytest.mark.parametrize(("policy", "tried"), [("keyframes", KEYS), ("all", 5)])
def test_of_key_pictures_alone_few_are_tried_at_first(
    policy: str, tried: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0
    passes = Trial.passes

    def noted(trial: Trial, picture: CodedPicture, damage: Damage) -> bool:
        nonlocal tries
        tries += 1
        return passes(trial, picture, damage)

    monkeypatch.setattr("framesrv.codec.questions.HURRIED", 10**12)
    monkeypatch.setattr(Trial, "passes", noted)
    video = footage("hevc", 640, 360, frames=100, gop=5)
    with RtspServer({"cam": video}, tmp_path) as server:
        camera = Camera(code="cam", source=server.url("cam"), decode=policy)
        frames = (one for one in open_source(camera, Policy(policy)).frames(Counts()) if one is not None)
        assert len(list(islice(frames, 6))) == 6
    assert tries >= tried
    assert policy == "all" or tries == tried
