"""When pictures of H.265 are tried: while damage is thought of, and there is time."""

from fractions import Fraction
from typing import cast

import av
import pytest

from framesrv.codec import questions
from framesrv.codec.arrival import Packet
from framesrv.codec.damage import Damage
from framesrv.codec.h265 import START
from framesrv.codec.questions import BEGINNING, Questions
from framesrv.codec.trial import CodedPicture, Trial
from tests.camera.rtsp.feed import coded


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
        assert all(asking.asked(packet, damage)[2] for packet in packets[: BEGINNING + 10])
        assert (trial.tried, trial.rested, trial._codecs) == (BEGINNING - 1, 1, {})
        asking.damaged()
        for packet in packets[BEGINNING + 10 :]:
            asking.asked(packet, damage)
    assert (trial.tried, trial.rested, trial._codecs) == (BEGINNING - 1 + 4, 2, {})


def test_picture_that_comes_late_is_not_tried() -> None:
    trial, packets = Counting({}), pictures(5)
    asking = Questions(trial)
    with Damage() as damage:
        assert all(asking.asked(packet, damage, hurried=True)[2] for packet in packets)
    assert trial.tried == 0
