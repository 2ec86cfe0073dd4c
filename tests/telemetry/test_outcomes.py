"""What became of uploads and callbacks, counted since the last success and of late."""

import time

import pytest

from snapd.telemetry.outcomes import Attempts


def test_failures_are_counted_since_the_last_success_and_told_once() -> None:
    told: list[str] = []
    uploads = Attempts(lambda: told.append(uploads.outcomes.in_words("uploads fail")))
    assert uploads.outcomes.in_words("uploads fail") == ""
    uploads.succeeded()
    assert told == []
    for _ in range(3):
        uploads.failed("wrong secret", "refused")
    now = uploads.outcomes
    since = time.strftime("%H:%M", time.localtime(now.failing_since))
    assert now.in_words("uploads fail") == f"uploads fail: wrong secret, 3 failed since {since}"
    assert (now.trouble, now.ok_lately, now.failed_lately) == ("refused", 1, 3)
    uploads.succeeded()
    assert told == [f"uploads fail: wrong secret, 1 failed since {since}", ""]
    assert (uploads.outcomes.failed, uploads.outcomes.failing_since, uploads.outcomes.failed_lately) == (0, None, 3)


def test_reason_stays_where_the_next_failure_has_none_and_a_new_one_is_news() -> None:
    told: list[str] = []
    uploads = Attempts(lambda: told.append(uploads.outcomes.reason))
    uploads.failed("no answer", "silent")
    uploads.failed("", "silent")
    uploads.failed("another", "failed")
    assert told == ["no answer", "another"]
    assert uploads.outcomes.failed == 3


def test_secrets_in_reasons_are_masked() -> None:
    callbacks = Attempts()
    callbacks.failed("http://user:sekret@wvp.example: status 401", "status_4xx")
    assert "sekret" not in callbacks.outcomes.reason


def test_what_is_long_ago_does_not_count_as_of_late(monkeypatch: pytest.MonkeyPatch) -> None:
    uploads = Attempts()
    uploads.failed("x", "failed")
    began = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: began + 301.0)
    assert (uploads.outcomes.failed, uploads.outcomes.failed_lately) == (1, 0)
    uploads.forget()
    assert uploads.outcomes.failed == 0
