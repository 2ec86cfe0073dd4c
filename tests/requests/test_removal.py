"""`snapd forget`: what snapd keeps in Redis for good is listed, and goes with a host that is taken out of service."""

import dataclasses
from pathlib import Path
from typing import Any

from framesrv.settings import StreamSettings
from snapd.requests.presence import LEASE, Host
from tests.requests.pending import take_for
from tests.support.edge import CONSUMER, GROUP, STREAM, Edge, write_config
from tests.test_snapd_cli import snapd

DEAD = StreamSettings().dead


def kept(edge: Edge) -> tuple[list[bytes], bool]:
    """The groups of the stream, and whether there are dead letters."""
    groups: Any = edge.redis.xinfo_groups(STREAM)
    return [group["name"] for group in groups], bool(edge.redis.exists(DEAD))


def fill(edge: Edge) -> None:
    edge.send(*(edge.fields() for _ in range(3)))
    take_for(edge, CONSUMER, 2)
    edge.redis.xadd(DEAD, {"reason": "tried"})


def test_group_and_dead_letters_go_and_the_stream_stays(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "framesrv.toml")
    fill(edge)
    lines = f"group {GROUP} of {STREAM} in Redis, 2 requests pending", f"1 dead letters, {DEAD} in Redis"
    listed = snapd("forget", "--dry-run", "--config", config)
    assert listed.stdout.decode().splitlines() == [f"remove   {line}" for line in lines]
    assert kept(edge) == ([GROUP.encode()], True)
    assert snapd("forget", "--config", config).stdout.decode().splitlines() == [f"removed  {line}" for line in lines]
    assert kept(edge) == ([], False)
    assert edge.redis.xlen(STREAM) == 3
    again = snapd("forget", "--config", config)
    assert (again.returncode, again.stdout) == (0, b"")


def test_group_that_a_snapd_reads_from_stays(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "framesrv.toml")
    fill(edge)
    host = dataclasses.replace(Host.this(["cam01"]), name="edge2", place="another boot")
    edge.redis.set(f"snap:host:{GROUP}:{CONSUMER}", host.to_json(), ex=LEASE)
    done = snapd("forget", "--config", config)
    assert done.returncode == 1
    assert f"nothing was removed: snapd of edge2 reads from group {GROUP}".encode() in done.stderr
    assert kept(edge) == ([GROUP.encode()], True)


def test_dead_letters_stay_while_another_host_has_a_group_of_its_own(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "framesrv.toml")
    fill(edge)
    edge.redis.xgroup_create(STREAM, "another", id="0")
    assert snapd("forget", "--config", config).returncode == 0
    assert kept(edge) == ([b"another"], True)
