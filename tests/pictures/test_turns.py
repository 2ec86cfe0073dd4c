"""Idle cameras catch up a few at a time, in the order of the requests; what hangs holds no other up for long."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from framesrv import FrameUnavailableError, FrameWriter
from framesrv.settings import ShmSettings
from snapd.pictures import capture
from snapd.pictures.capture import Captures
from snapd.pictures.encoder import Encoder, Jpeg
from snapd.pictures.turns import Turns
from tests.support.edge import wait_until

LONG = 40.0  # s: longer than any test takes
PLANES = [np.zeros(shape, np.uint8) for shape in ((48, 64), (24, 32), (24, 32))]
CODES = ("cam1", "cam2", "cam3", "cam4")


class Asked:
    """Threads that each ask for a turn, one after the other, and hold it until they are told to end."""

    def __init__(self, turns: Turns, count: int, patience: float = LONG) -> None:
        self.had: list[int] = []
        self.now: set[int] = set()
        self.most = 0
        self._turns, self._patience = turns, patience
        self._mutex = threading.Lock()
        self.ends = [threading.Event() for _ in range(count)]
        self.threads = []
        for number in range(count):
            before = len(turns._waiting) + len(self.had)
            self.threads.append(threading.Thread(target=self._ask, args=(number,), daemon=True))
            self.threads[-1].start()
            wait_until(lambda before=before: len(turns._waiting) + len(self.had) > before)  # type: ignore[misc]

    def _ask(self, number: int) -> None:
        with self._turns.turn(self._patience):
            with self._mutex:
                self.had.append(number)
                self.now.add(number)
                self.most = max(self.most, len(self.now))
            self.ends[number].wait(LONG)
            with self._mutex:
                self.now.remove(number)

    def end(self) -> None:
        for event in self.ends:
            event.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()


def test_turns_are_had_a_few_at_a_time_and_in_order() -> None:
    asked = Asked(Turns(2, longest=LONG), 6)
    for number in range(6):
        wait_until(lambda number=number: len(asked.had) == min(6, number + 2))  # type: ignore[misc]
        asked.ends[number].set()
    asked.end()
    assert asked.had == sorted(asked.had)
    assert asked.most <= 2


def test_who_takes_long_loses_his_turn_to_the_next() -> None:
    asked = Asked(Turns(1, longest=0.1), 3)
    wait_until(lambda: asked.now == {0, 1, 2})
    assert asked.had == [0, 1, 2]
    asked.end()


def test_who_has_waited_for_long_goes_on_without_being_called() -> None:
    asked = Asked(Turns(1, longest=LONG), 2, patience=0.1)
    wait_until(lambda: asked.now == {0, 1})
    asked.end()


def test_turn_ends_with_an_error() -> None:
    turns = Turns(1, longest=LONG)
    for _ in range(3):
        with pytest.raises(RuntimeError), turns.turn(LONG):
            raise RuntimeError
    began = time.monotonic()
    with turns.turn(LONG):
        assert time.monotonic() - began < LONG


class Idle:
    """Cameras on demand that give a frame when the test says so, and requests for them."""

    def __init__(self, prefix: str, captures: Captures) -> None:
        self.writers = {code: FrameWriter(code, 0, 0, "yuv420p", prefix=prefix) for code in CODES}
        for writer in self.writers.values():
            writer.describe(decode="demand")
            writer.idle(64, 48, "yuv420p")
        self._captures = captures
        self._pool = ThreadPoolExecutor(len(CODES))

    def ask(self, code: str) -> "Future[Jpeg]":
        before = len(self._captures._turns._waiting), self.asked
        future = self._pool.submit(lambda: self._captures.join(code).picture())
        wait_until(lambda: (len(self._captures._turns._waiting), self.asked) != before)
        return future

    @property
    def asked(self) -> set[str]:
        """The cameras that are to decode at this moment."""
        return {code for code, writer in self.writers.items() if writer.demanded}

    def give(self, code: str) -> None:
        """A frame of that camera."""
        assert self.writers[code].write(PLANES)

    def close(self) -> None:
        for writer in self.writers.values():
            writer.close()
        self._pool.shutdown()


@pytest.fixture
def idle(prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Idle]]:
    made: list[tuple[Captures, Idle]] = []

    def make(places: int, longest: float = LONG, wait: float = LONG) -> Idle:
        monkeypatch.setattr(capture, "PLACES", places)
        monkeypatch.setattr(capture, "LONGEST", longest)
        shm = ShmSettings(prefix=prefix)
        captures = Captures(Encoder("simplejpeg", 85), shm=shm, max_age=1, wait=wait, on_demand=CODES)
        made.append((captures, Idle(prefix, captures)))
        return made[-1][1]

    yield make
    for captures, cameras in made:
        cameras.close()
        captures.close()


def test_idle_cameras_catch_up_one_after_the_other(idle: Callable[..., Idle]) -> None:
    cameras = idle(1)
    pictures = [cameras.ask(code) for code in CODES]
    for code, picture in zip(CODES, pictures, strict=True):
        wait_until(lambda code=code: cameras.asked == {code})  # type: ignore[misc]
        cameras.give(code)
        assert picture.result(30).width == 64


def test_camera_that_is_decoded_already_waits_for_no_other(
    idle: Callable[..., Idle], monkeypatch: pytest.MonkeyPatch
) -> None:
    cameras = idle(1)
    monkeypatch.setattr(capture, "FLOWS", LONG)
    cameras.give("cam2")
    first, second = cameras.ask("cam1"), cameras.ask("cam2")
    assert cameras.asked == {"cam1", "cam2"}
    for code, picture in (("cam2", second), ("cam1", first)):
        cameras.give(code)
        assert picture.result(30).width == 64


def test_camera_that_hangs_keeps_no_other_from_its_turn_for_long(idle: Callable[..., Idle]) -> None:
    cameras = idle(1, longest=0.2)
    hung, other = cameras.ask("cam1"), cameras.ask("cam2")
    wait_until(lambda: cameras.asked == {"cam1", "cam2"})
    cameras.give("cam2")
    assert other.result(30).width == 64
    cameras.give("cam1")
    assert hung.result(30).width == 64


def test_camera_whose_decoder_is_gone_gives_its_turn_back(idle: Callable[..., Idle]) -> None:
    cameras = idle(1, wait=0.3)
    cameras.writers["cam1"].close()
    gone = cameras._pool.submit(lambda: cameras._captures.join("cam1").picture())
    with pytest.raises(FrameUnavailableError):
        gone.result(30)
    assert not cameras._captures._turns._ends


def test_processes_of_a_host_share_its_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "PLACES", 8)
    assert [capture.places(processes) for processes in (1, 2, 4, 64)] == [8, 4, 2, 1]
