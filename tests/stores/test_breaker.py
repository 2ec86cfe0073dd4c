"""A silent service holds one caller at a time, and a service that is back holds none up."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from snapd.errors import StoreError
from snapd.stores import breaker
from snapd.stores.breaker import FAILURES, Breaker


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Breaker:
    """A breaker that has just opened and may be probed at once."""
    monkeypatch.setattr(breaker, "PAUSE", 0.0)
    one = Breaker("it", lambda error: isinstance(error, TimeoutError))
    for _ in range(FAILURES):
        with pytest.raises(TimeoutError), one.attempt():
            raise TimeoutError
    assert one.is_open
    return one


def test_those_who_come_while_the_service_proves_to_be_back_are_not_refused(opened: Breaker) -> None:
    begin = threading.Barrier(8)

    def ask(_: int) -> None:
        begin.wait(5)
        with opened.attempt():
            time.sleep(0.05)  # how long the service takes

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(8)))
    assert not opened.is_open


def test_those_who_come_during_a_probe_that_hangs_are_refused(opened: Breaker) -> None:
    probing, end = threading.Event(), threading.Event()

    def hang() -> None:
        with opened.attempt():
            probing.set()
            end.wait(5)
            raise TimeoutError

    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(hang)
        assert probing.wait(5)
        for _ in range(3):
            with pytest.raises(StoreError, match="it is silent"), opened.attempt():
                pytest.fail("it was asked")
        end.set()
        with pytest.raises(TimeoutError):
            hanging.result()
    assert opened.is_open


def test_failure_of_a_try_from_before_it_opened_says_nothing_of_the_service_now(opened: Breaker) -> None:
    with opened.attempt():
        pass
    assert not opened.is_open
    late = opened.attempt()
    late.__enter__()
    for _ in range(FAILURES):
        with pytest.raises(TimeoutError), opened.attempt():
            raise TimeoutError
    with opened.attempt():
        pass
    late.__exit__(TimeoutError, TimeoutError(), None)
    assert opened._failures == 0
