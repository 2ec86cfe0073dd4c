"""The consumer group, made anew: what is asked now is answered, history is not."""

import logging
from typing import Any

import pytest

from tests.support.edge import GROUP, STREAM, Edge, Running, wait_until


@pytest.mark.parametrize("how", ["destroyed", "never there"])
def test_group_made_anew_answers_what_is_asked_now_and_no_history(
    edge: Edge, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    """After XGROUP DESTROY, or where Redis was lost, entries hours old were answered with an error each."""
    caplog.set_level(logging.INFO)
    if how == "destroyed":
        with Running(edge.settings()):
            assert edge.ask().status == "ok"
    edge.redis.delete(STREAM) if how == "never there" else edge.redis.xgroup_destroy(STREAM, GROUP)
    if how == "never there":
        for number in range(20):
            edge.redis.xadd(STREAM, edge.fields(), id=f"1-{number + 1}")
    seconds: Any = edge.redis.time()
    if how == "destroyed":  # the one answered before is younger than the deadline: it stays silent by its mark
        edge.redis.xtrim(STREAM, maxlen=0)
    fresh = edge.fields()
    edge.redis.xadd(STREAM, fresh, id=f"{seconds[0] * 1000}-1" if how == "never there" else "*")
    before = len(edge.wvp.results)
    with Running(edge.settings()):
        edge.wvp.wait(before + 1, 30)
        wait_until(lambda: edge.pending == 0)
        assert edge.ask().status == "ok"
    assert edge.wvp.results[before].request_id == fresh["request_id"]
    assert len(edge.wvp.results) == before + 2
    assert edge.redis.keys("snap:result:*") == []
    said = [record.getMessage() for record in caplog.records if "Passed over" in record.getMessage()]
    assert [line.rpartition("count=")[2] for line in said] == (["20"] if how == "never there" else [])


def test_group_that_is_there_keeps_its_place(edge: Edge) -> None:
    for number in range(3):
        edge.redis.xadd(STREAM, edge.fields(), id=f"1-{number + 1}")
    with Running(edge.settings()):
        edge.wvp.wait(3, 30)
    assert {result.message for result in edge.wvp.results} == {"请求已超时"}
