"""Errors that nobody thought of, told by one traceback and then by lines."""

import logging

import pytest

from framesrv.process.unforeseen import Unforeseen

logger = logging.getLogger("test")


def fail(what: object) -> None:
    raise ValueError(what)


def test_traceback_comes_once_and_a_line_each_time(caplog: pytest.LogCaptureFixture) -> None:
    unforeseen = Unforeseen(logger)
    for number in range(5):
        try:
            fail(number)
        except ValueError as error:
            unforeseen.tell("Went on", error)
    try:
        raise ValueError("elsewhere")
    except ValueError as error:
        unforeseen.tell("Went on", error)
    assert [record.exc_info is not None for record in caplog.records] == [True, False, False, False, False, True]
    assert [f"ValueError: {number}" in caplog.messages[number] for number in range(5)] == [True] * 5
    assert all(f"{__file__}:" in line for line in caplog.messages)


def test_error_that_was_never_raised_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    Unforeseen(logger).tell("Went on", ValueError("x"))
    assert caplog.messages == ["Went on reason='ValueError: x' at=nowhere"]
