"""Who reads from a group: cloned hosts and second processes are noticed, and restarted ones keep their name."""

import dataclasses
import os
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from snapd.check import findings
from snapd.requests import fleet
from snapd.requests.presence import LEASE, Host
from tests.support.edge import CONSUMER, GROUP, STREAM, Edge, Running, wait_until, write_config
from tests.support.processes import Program

KEY = f"snap:host:{GROUP}:{CONSUMER}"


def elsewhere(edge: Edge, codes: list[str], consumer: str = CONSUMER, **changes: Any) -> Host:
    """A snapd of another host that reads from the group."""
    host = dataclasses.replace(Host.this(codes), name="edge2", place="another boot", **changes)
    edge.redis.set(f"snap:host:{GROUP}:{consumer}", host.to_json(), ex=LEASE)
    edge.redis.xgroup_createconsumer(STREAM, GROUP, consumer)
    return host


def consumers(edge: Edge) -> set[str]:
    found: Any = edge.redis.xinfo_consumers(STREAM, GROUP)
    return {one["name"] if isinstance(one["name"], str) else one["name"].decode() for one in found}


def test_snapd_says_that_it_is_there_and_frees_its_name(edge: Edge) -> None:
    with Running(edge.settings()) as running:
        wait_until(lambda: running.service.joined)
        wait_until(lambda: edge.redis.exists(KEY))
        said: Any = edge.redis.get(KEY)
        assert orjson.loads(said)["pid"] == os.getpid()
        assert 0 < int(edge.redis.ttl(KEY)) <= LEASE
        assert orjson.loads(said)["cameras"] == 4
    wait_until(lambda: not edge.redis.exists(KEY))


def test_substream_can_be_asked_for_and_is_no_camera_more(edge: Edge) -> None:
    settings = edge.settings()
    first = msgspec.structs.replace(settings.cameras[0], substream="test:64x48@5")
    settings = msgspec.structs.replace(settings, cameras=(first, *settings.cameras[1:]))
    edge.camera(f"{first.code}.sub", 64, 48)
    with Running(settings) as running:
        wait_until(lambda: running.service.joined)
        wait_until(lambda: edge.redis.exists(KEY))
        said: Any = edge.redis.get(KEY)
        assert orjson.loads(said)["cameras"] == 4
        assert [finding.message for finding in findings(settings) if finding.name == "group" and not finding.ok] == []
        assert edge.ask(camera_code=f"{first.code}.sub").status == "ok"


def test_second_of_a_name_takes_one_of_its_own(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    other = elsewhere(edge, ["cam01", "cam02", "cam03", "down"])
    with Running(edge.settings()):
        assert edge.ask().status == "ok"
        names = consumers(edge) - {CONSUMER}
        assert len(names) == 1
        assert names.pop().startswith(f"{CONSUMER}-")
        said: Any = edge.redis.get(KEY)
        assert Host.parse(said) == other
    (line,) = [record.getMessage() for record in caplog.records if "Another snapd reads" in record.getMessage()]
    assert "host=edge2" in line
    assert "give each its own [stream] consumer" in line
    assert edge.pending == 0


def test_group_shared_with_other_cameras_is_said_everywhere(edge: Edge, caplog: pytest.LogCaptureFixture) -> None:
    elsewhere(edge, ["cam77"], "edge2")
    elsewhere(edge, ["cam01", "cam02", "cam03", "down"], "same cameras")
    with Running(edge.settings()) as running:
        assert edge.ask().status == "ok"
        wait_until(lambda: running.service.report.strangers)
        for words in (running.service.report.strangers, running.service.status):
            assert "edge2 (1 cameras) reads them as well; give each host a group of its own" in words
    (wrong,) = [finding for finding in findings(edge.settings()) if not finding.ok]
    assert (wrong.name, "edge2 (1 cameras)" in wrong.message) == ("group", True)
    assert sum("for other cameras too" in record.getMessage() for record in caplog.records) == 1
    edge.redis.delete(f"snap:host:{GROUP}:edge2")
    assert all(finding.ok for finding in findings(edge.settings()))


def test_snapd_that_was_killed_and_starts_again_keeps_its_name_and_its_entries(edge: Edge, tmp_path: Path) -> None:
    edge.wvp.delay = 30.0
    config = write_config(edge, tmp_path / "framesrv.toml")
    with Program("snapd", "run", "--config", config, log=tmp_path / "first.log") as first:
        fields = edge.fields()
        edge.send(fields)
        wait_until(lambda: edge.wvp.requests["POST"])
        first.stop(signal.SIGKILL)
    edge.wvp.delay = 0.0
    began = time.monotonic()
    with Program("snapd", "run", "--config", config, log=tmp_path / "second.log") as second:
        wait_until(lambda: any(one.request_id == fields["request_id"] for one in edge.wvp.results), 25)
        assert time.monotonic() - began < LEASE, "it did not wait until the lease was over"
        wait_until(lambda: edge.pending == 0)
        assert "Another snapd" not in second.output
        assert second.stop() == 0
    assert consumers(edge) == {CONSUMER}


@pytest.mark.parametrize("rubbish", [b"", b"[]", b"{}", b'{"instance": 1}', b"\xff"])
def test_rubbish_under_its_key_hurts_nobody(edge: Edge, rubbish: bytes) -> None:
    edge.redis.set(KEY, rubbish)
    with Running(edge.settings()):
        assert edge.ask().status == "ok"
        assert consumers(edge) == {CONSUMER}


def test_process_is_known_to_have_ended_by_its_number_and_beginning() -> None:
    this = Host.this(["cam01"])
    assert not this.has_ended
    assert dataclasses.replace(this, started=this.started - 1).has_ended
    assert dataclasses.replace(this, pid=2**22 + 1).has_ended
    assert not dataclasses.replace(this, place="another boot", pid=1, started=1).has_ended


def test_name_of_a_snapd_that_lives_here_is_not_taken_though_its_signs_of_life_are_old(edge: Edge) -> None:
    """Redis was away for longer than they last: a second one took its name, and answered what it had in hand."""
    settings = edge.settings(stream={"routed": True, "host": "edge1"})
    with Running(settings) as first:
        wait_until(lambda: fleet.beats(edge.redis, settings.stream, "hosts"))
        edge.redis.delete(fleet.key_of(settings.stream, "hosts"))
        first.service._heartbeat.stop()
        with Running(settings) as second:
            wait_until(lambda: second.service.joined)
            assert second.service.report.consumer != first.service.report.consumer
