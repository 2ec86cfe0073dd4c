"""How much waits on the stream, as commands tell it."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.requests.pending import take_for
from tests.support.edge import CONSUMER, GROUP, STREAM, Edge, write_config
from tests.test_snapd_cli import snapd


def test_queue_tells_what_waits(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "framesrv.toml")
    edge.send(*(edge.fields() for _ in range(10)))
    taken = take_for(edge, CONSUMER, 4)
    found = orjson.loads(snapd("queue", "--json", "--config", config).stdout)
    assert (found["length"], found["lag"], found["pending"], found["dead"]) == (10, 6, 4, 0)
    assert 0 <= found["oldest_pending_s"] < 60
    assert [(consumer["name"], consumer["pending"]) for consumer in found["consumers"]] == [(CONSUMER, 4)]
    edge.redis.xdel(STREAM, str(int(taken[-1].split("-")[0])) + "-" + str(int(taken[-1].split("-")[1]) + 1))
    edge.redis.execute_command("XGROUP", "SETID", STREAM, GROUP, taken[-1])  # type: ignore[no-untyped-call]
    groups: Any = edge.redis.xinfo_groups(STREAM)
    assert groups[0]["lag"] is None  # as before Redis 7
    shown = snapd("queue", "--config", config).stdout.decode()
    assert "pending       4, the oldest" in shown
    edge.redis.flushall()
    assert orjson.loads(snapd("queue", "--json", "--config", config).stdout)["lag"] == 0


@pytest.mark.parametrize("command", ["queue", "dead"])
def test_command_without_redis_says_so(edge: Edge, tmp_path: Path, command: str) -> None:
    config = write_config(edge, tmp_path / "c.toml", redis={"url": "redis://u:hidden@127.0.0.1:1/0"})
    done = snapd(command, "--config", config)
    assert done.returncode == 1
    assert b"nothing listens at 127.0.0.1:1" in done.stderr
    assert b"hidden" not in done.stderr
