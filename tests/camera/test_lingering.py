"""How long decoding goes on after a question, by the pauses between those before."""

import pytest

from framesrv.camera.policy import LINGER, Demand

STEP = 0.04  # s between packets


class Questions:
    """Readers that ask at these moments, by a clock that a test moves."""

    def __init__(self, *moments: float) -> None:
        self.now = 0.0
        self._moments = moments
        self._demand = Demand(self, lambda: self.now)

    @property
    def demanded(self) -> bool:
        return any(-STEP / 2 < self.now - moment < STEP / 2 for moment in self._moments)

    def decoded(self, seconds: float) -> list[float]:
        """The moments of packets that are decoded, in seconds."""
        found = []
        for number in range(int(seconds / STEP)):
            self.now = number * STEP
            if self._demand.stands():
                found.append(round(number * STEP, 2))
        return found


def test_who_asks_once_has_one_frame_decoded() -> None:
    assert Questions(1.0).decoded(10) == [1.0]


def test_who_asks_now_and_then_has_no_others_decoded() -> None:
    assert len(Questions(1.0, 4.0, 7.0).decoded(10)) == 3


def test_who_asks_again_soon_finds_the_next_frame_decoded() -> None:
    questions = Questions(*(1 + 0.4 * number for number in range(10)))
    decoded = questions.decoded(20)
    every = [round(1.4 + STEP * number, 2) for number in range(int(3.2 / STEP))]
    assert [moment for moment in decoded if 1.4 <= moment < 4.6] == pytest.approx(every), "from the second one on"
    assert 4.6 + 0.4 < decoded[-1] < 4.6 + 1.0, "and soon none any more"


def test_decoding_never_goes_on_for_longer_than_it_may() -> None:
    assert 5.0 < Questions(1.0, 2.92, 4.84).decoded(20)[-1] <= 4.84 + LINGER + STEP
