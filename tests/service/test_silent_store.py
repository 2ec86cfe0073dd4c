"""The service while COS is silent: errors in time, nobody starved, and full speed soon after."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from snapd.stores.cos import PROBE_PATIENCE
from tests.support.cos import CosServer
from tests.support.edge import Edge, Running
from tests.support.held_up import HeldUp
from tests.support.http_server import Fault
from tests.support.redis_server import RedisServer
from tests.support.wvp import Callback, WvpServer

CAMERAS = ("cam01", "cam02", "cam03")


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[Edge]:
    with (
        RedisServer(tmp_path) as redis,
        CosServer() as cos,
        WvpServer() as wvp,
        Edge(redis, cos, wvp) as surroundings,
    ):
        for code in CAMERAS:
            surroundings.camera(code)
        yield surroundings


@pytest.mark.parametrize("workers", [8, 1])
def test_errors_come_in_time_and_full_speed_is_back_within_five_seconds(
    edge: Edge, workers: int, held_up: HeldUp
) -> None:
    sent: dict[str, float] = {}
    rate = 30 if workers > 1 else 5  # what so many workers manage on a busy host as well

    def ask_for(seconds: float) -> None:
        """Asks so many times a second for any camera."""
        began = time.monotonic()
        for number in range(int(seconds * rate)):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            fields = edge.fields(CAMERAS[len(sent) % len(CAMERAS)])
            sent[fields["request_id"]] = time.time()
            edge.send(fields)

    with Running(edge.settings(snapshot={"workers": workers})):
        edge.cos.fault = Fault("hang")
        ask_for(12)
        edge.cos.fault = None
        healed = time.time()
        ask_for(7)
        results = edge.wvp.wait(len(sent), 20)

    def took(result: Callback) -> float:
        return result.time - sent[result.request_id]

    assert len(results) == len(sent)
    during = [result for result in results if result.time < healed]
    after = [result for result in results if sent[result.request_id] > healed + 5]
    assert {result.message for result in during} == {"COS 上传失败"}
    assert {result.camera_code for result in during} == set(CAMERAS)
    assert max(took(result) for result in results) < 20
    assert len(after) > rate
    # Nobody is held by a store that might still be silent.
    longest = PROBE_PATIENCE[0] + held_up.seconds
    assert [(one.message, took(one)) for one in after if one.status != "ok" or took(one) >= longest] == []
    # Once COS counts as silent, nobody but one at a time is held by it.
    quick = [
        result for result in during if sent[result.request_id] > healed - 3 and took(result) < 0.5 + held_up.seconds
    ]
    assert len(quick) > 60 or workers == 1
