"""What fails for long holds one caller at a time, and what works again holds none up."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from framesrv.process.breaker import Breaker

FAILURES = 4


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.end(breaker.begin(), failed=True)


def is_open(breaker: Breaker) -> bool:
    return breaker.is_open


@pytest.fixture
def opened() -> Breaker:
    """A breaker that has just opened and may be probed at once."""
    breaker = Breaker(failures=FAILURES, pause=0.0, headstart=0.3)
    fail(breaker, FAILURES - 1)
    assert not is_open(breaker)
    fail(breaker, 1)
    assert is_open(breaker)
    return breaker


def test_those_who_come_while_a_probe_succeeds_are_not_refused(opened: Breaker) -> None:
    begin = threading.Barrier(8)

    def ask(_: int) -> bool:
        begin.wait(5)
        call = opened.begin()
        time.sleep(0.05)  # how long an answer takes
        opened.end(call, failed=False)
        return call.refused

    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(ask, range(8)))
    assert not is_open(opened)


def test_those_who_come_during_a_probe_that_hangs_are_refused(opened: Breaker) -> None:
    probe = opened.begin()
    assert (probe.refused, probe.probe) == (False, 1)
    for count in range(1, 4):
        assert opened.begin().refused
        assert opened.refusals == count
    assert opened.end(probe, failed=True) == "none"
    assert is_open(opened)
    assert opened.begin().probe == 2


def test_failure_of_a_call_from_before_it_opened_says_nothing_of_now(opened: Breaker) -> None:
    assert opened.end(opened.begin(), failed=False) == "closed"
    late = opened.begin()
    fail(opened, FAILURES)
    assert opened.end(opened.begin(), failed=False) == "closed"
    assert opened.end(late, failed=True) == "none"
    assert opened.failures == 0


def test_call_that_was_refused_and_made_all_the_same_closes_it_if_it_succeeds(opened: Breaker) -> None:
    probe, refused = opened.begin(), opened.begin()
    assert refused.refused
    assert opened.end(refused, failed=False) == "closed"
    assert opened.end(probe, failed=True) == "none"
    assert not is_open(opened)


def test_call_that_was_refused_and_made_all_the_same_ends_no_probe(opened: Breaker) -> None:
    opened.begin()
    refused = opened.begin()
    assert opened.end(refused, failed=True) == "none"
    assert opened.begin().refused  # the probe is still under way


def test_two_failures_over_a_long_time_open_it() -> None:
    breaker = Breaker(failures=FAILURES, within=0.0, pause=60.0)
    fail(breaker, 1)
    assert not is_open(breaker)
    fail(breaker, 1)
    assert is_open(breaker)
    assert breaker.begin().refused  # until the pause is over
