"""A word for programs in an error result, where the configuration wants it."""

import json
import time
from typing import get_args

from framesrv import FrameWriter
from framesrv.errors import Cause, Reason
from tests.support.edge import Edge, Running, wait_until
from tests.support.http_server import Fault


def test_error_has_a_reason_only_where_it_is_wanted(edge: Edge) -> None:
    for wanted in (False, True):
        with Running(edge.settings(result={"reason": wanted})):
            fields = edge.fields(code="nosuch", callback_url=None)
            edge.send(fields)
            edge.result_by_key(fields)
        raw = json.loads(edge.redis.get(f"snap:result:{fields['request_id']}"))  # type: ignore[arg-type]
        assert raw.get("reason") == ("not_configured" if wanted else None)
        assert set(raw) - {"reason"} == {"request_id", "camera_code", "status", "message"}


def test_reason_says_what_keeps_the_camera_or_the_store(edge: Edge) -> None:
    edge.camera("cam01")

    def reason(code: str, path: str = "a.jpg") -> str:
        fields = edge.fields(code=code, callback_url=None, cos_path=path)
        edge.send(fields)
        return edge.result_by_key(fields).reason

    with (
        FrameWriter("cam02", 0, 0, "yuv420p", prefix=edge.prefix) as waiting,
        Running(edge.settings(result={"reason": True}, snapshot={"max_age": 1.0, "wait": 0.2})),
    ):
        assert reason("down") == "absent"
        assert reason("cam02") == "connecting"
        waiting.describe(error="cannot be opened: 401", cause="unauthorized")
        assert reason("cam02") == "unauthorized"
        assert reason("cam01", "../x") == "bad_path"
        time.sleep(1.1)
        assert reason("cam01") == "stale"
    with Running(edge.settings(result={"reason": True})):
        edge.cos.fault = Fault(403)
        assert reason("cam01") == "store_forbidden"
        edge.cos.fault = Fault(500)
        assert reason("cam01") == "store_failed"
        wait_until(lambda: edge.pending == 0)


def test_request_that_is_sent_again_has_the_reason_of_the_first(edge: Edge) -> None:
    with Running(edge.settings(result={"reason": True})):
        fields = edge.fields(code="down", callback_url=None)
        for _ in range(2):
            edge.send(fields)
            assert edge.result_by_key(fields).reason == "absent"
            wait_until(lambda: edge.pending == 0)
            edge.redis.delete(f"snap:result:{fields['request_id']}")


def test_words_are_short_enough_for_a_segments_header() -> None:
    assert all(len(word) <= 16 for word in (*get_args(Cause), *get_args(Reason)))
