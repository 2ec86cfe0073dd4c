"""Entries that are left pending, for tests of what becomes of them."""

from pathlib import Path
from typing import Any

import orjson

from tests.support.edge import CONSUMER, GROUP, STREAM, Edge, Running, wait_until, write_config
from tests.test_snapd_cli import snapd

DEAD = "edge_snap_dead"


def take_for(edge: Edge, consumer: str, count: int) -> list[str]:
    """Entries that a consumer takes and never answers."""
    reply: Any = edge.redis.xreadgroup(GROUP, consumer, {STREAM: ">"}, count=count)
    return [entry_id.decode() for entry_id, _ in reply[0][1]]


def wear_out(edge: Edge, entry_id: str, deliveries: int, consumer: str = CONSUMER) -> None:
    """Makes an entry one that was delivered so often."""
    edge.redis.xclaim(STREAM, GROUP, consumer, 0, [entry_id], retrycount=deliveries)


def assert_letter_is_made_once_and_put_back(edge: Edge, tmp_path: Path) -> None:
    """Of a request that was delivered too often: its sender is told, and answered anew when it is put back."""
    config = write_config(edge, tmp_path / "framesrv.toml")
    edge.send(edge.fields())
    wear_out(edge, take_for(edge, CONSUMER, 1)[0], 5)
    with Running(edge.settings()):
        assert edge.wvp.wait(1, 30)[0].message == "内部错误"
        wait_until(lambda: edge.pending == 0)
        (letter,) = orjson.loads(snapd("dead", "--json", "--config", config).stdout)
        assert snapd("dead", "--replay", letter["id"], "--config", config).returncode == 0
        assert edge.wvp.wait(2, 30)[1].status == "ok"
        wait_until(lambda: edge.pending == 0)
    assert edge.redis.xlen(DEAD) == 0
