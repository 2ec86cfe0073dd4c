"""Pauses between attempts: longer with each failure, within their limits, and no two alike."""

from framesrv.process.retry import Backoff


def test_pause_doubles_up_to_the_longest_and_its_second_half_is_random() -> None:
    pauses: list[list[float]] = []
    for _ in range(50):
        backoff = Backoff(0.5, 3.0)
        pauses.append([backoff.pause() for _ in range(6)])
    for number, longest in enumerate([0.5, 1.0, 2.0, 3.0, 3.0, 3.0]):
        seen = [run[number] for run in pauses]
        assert longest / 2 <= min(seen) < max(seen) <= longest
        assert len(set(seen)) > 40


def test_pause_is_within_its_limit_after_years_of_failures() -> None:
    backoff = Backoff(0.5, 3.0)
    backoff.failures = 10**7
    assert 1.5 <= backoff.pause() <= 3.0


def test_success_makes_the_next_failure_a_first_one() -> None:
    backoff = Backoff(1.0, 60.0)
    for _ in range(5):
        backoff.pause()
    backoff.reset()
    assert backoff.pause() <= 1.0
    assert backoff.failures == 1
