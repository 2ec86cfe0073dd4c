"""Everything breaks and nothing is lost; and the count of it notices when something is."""

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chaos.faults import RECOVERY, REPLICATED, ROUTERS, SNAPDS, schedule
from benchmarks.chaos.ledger import Answer, Ledger
from snapd.requests.fleet import BEAT_EVERY, LEASE
from tests.conftest import SHM
from tests.support.processes import ROOT, alive, descendants, wait_for

CHAOS = [sys.executable, "-m", "benchmarks.chaos"]


def answer(name: str, at: float, status: str = "ok", message: str = "") -> Answer:
    return Answer(name, status, message, at)


def asked(*names: str) -> Ledger:
    """A ledger in which these, and a thousand others, were asked; the others are answered."""
    ledger = Ledger()
    for number in range(1000):
        ledger.asked(f"other-{number}", 0.0)
        ledger.called_back(answer(f"other-{number}", 1.0))
    for name in names:
        ledger.asked(name, 10.0)
    return ledger


@pytest.mark.timeout(240)
def test_nothing_is_lost_whatever_breaks() -> None:
    done = subprocess.run(
        [*CHAOS, "--seconds", "60", "--seed", "417", "--rate", "40", "--json", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=230,
        check=False,
    )
    assert done.stdout, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    assert outcome["problems"] == []
    assert done.returncode == 0, done.stderr
    assert outcome["totals"]["lost"] == []
    assert outcome["totals"]["asked"] > 2000
    assert outcome["faults"]["redis: kill"] > 1
    assert outcome["faults"]["snapd: kill"] > 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("redis", ["sentinel", "cluster"])
def test_nothing_is_lost_when_a_replica_takes_over(redis: str) -> None:
    done = subprocess.run(
        [*CHAOS, "--redis", redis, "--seconds", "40", "--seed", "37", "--json", "--quiet"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=290,
        check=False,
    )
    assert done.stdout, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    assert outcome["problems"] == []
    assert done.returncode == 0, done.stderr
    assert outcome["redis"] == redis
    assert outcome["totals"]["lost"] == []
    assert outcome["totals"]["asked"] > 100
    assert outcome["faults"].get("redis: failover", 0) + outcome["faults"].get("redis: undo", 0) > 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_behind_however_it_ends(number: int, tmp_path: Path) -> None:
    chaos = subprocess.Popen(
        [*CHAOS, "--seconds", "30", "--seed", "1"],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    wait_for(lambda: list(SHM.glob(f"chaos-{chaos.pid}.*")), "cameras are there")
    wait_for(lambda: len(descendants(chaos.pid)) >= 10, "everybody is there")
    children = descendants(chaos.pid)
    chaos.send_signal(number)
    assert chaos.wait(30) != 0
    wait_for(lambda: not any(alive(child) for child in children), "children end")
    wait_for(lambda: not list(tmp_path.iterdir()), "the directory is gone")
    assert not list(SHM.glob(f"chaos-{chaos.pid}.*"))


def test_same_seed_gives_the_same_faults() -> None:
    assert schedule(3, 300) == schedule(3, 300) != schedule(4, 300)
    for redis in ("sentinel", "cluster"):
        assert schedule(3, 300, redis) == schedule(3, 300, redis) != schedule(3, 300)


def test_routers_are_hit_where_there_are_some_and_hosts_for_longer_than_they_count_as_alive() -> None:
    faults = schedule(5, 600, routed=True)
    assert {fault.kind for fault in faults if fault.target in ROUTERS} == {"kill", "stop"}
    assert max(fault.seconds for fault in faults if fault.target in SNAPDS) > LEASE + BEAT_EVERY
    assert not any(fault.target in ROUTERS for fault in schedule(5, 600))


@pytest.mark.parametrize("redis", ["sentinel", "cluster"])
def test_redis_with_replicas_has_all_its_faults_and_time_to_be_mended(redis: str) -> None:
    faults = [fault for fault in schedule(5, 600, redis) if fault.target == "redis"]
    assert {fault.kind for fault in faults} == set(REPLICATED[redis])
    assert all(after.at >= before.end + RECOVERY for before, after in pairwise(faults) if before.kind != "cut")
    assert not any("to Redis" in fault.target for fault in schedule(5, 600, redis))


def test_faults_follow_each_other_closely_and_never_hit_a_target_that_has_one() -> None:
    faults = schedule(5, 600)
    assert 600 / 2.2 < len(faults) < 600
    assert len({fault.name for fault in faults}) > 25
    free_at: dict[str, float] = {}
    for fault in faults:
        assert fault.at >= free_at.get(fault.target, 0.0)
        assert fault.end <= 600
        free_at[fault.target] = fault.end


def test_request_without_an_answer_is_lost() -> None:
    ledger = asked("a", "b")
    ledger.called_back(answer("b", 11.0))
    totals = ledger.totals()
    assert totals.lost == ("a",)
    assert any("1 lost: a" in problem for problem in totals.problems)


def test_request_answered_by_callback_or_by_key_is_not_lost() -> None:
    ledger = asked("a", "b", "c", "d")
    ledger.called_back(answer("a", 11.0))
    ledger.kept(answer("b", 12.0, "error", "COS 上传失败"))
    ledger.called_back(answer("c", 13.0))
    ledger.kept(answer("c", 14.0))
    ledger.dead("d")
    totals = ledger.totals()
    assert (totals.problems, totals.lost, totals.dead, totals.repeated) == ([], (), ("d",), ())
    assert (totals.ok, totals.errors) == (1002, {"COS 上传失败": 1})
    assert (totals.by_callback, totals.by_key, totals.by_both) == (1001, 1, 1)
    assert totals.latency["max"] == 3.0


def test_second_callback_is_noticed_and_excused_only_by_what_happened_between_them() -> None:
    ledger = asked("a", "b")
    for name, at in (("a", 20.0), ("a", 22.0), ("b", 50.0), ("b", 52.0)):
        ledger.called_back(answer(name, at))
    ledger.disturbed(21.0, 21.0)
    totals = ledger.totals()
    assert (totals.repeated, totals.unexplained) == (("a", "b"), ("b",))
    assert any("without a reason: b" in problem for problem in totals.problems)


def test_key_that_contradicts_the_callback_is_a_second_answer() -> None:
    ledger = asked("a")
    ledger.called_back(answer("a", 20.0))
    ledger.kept(answer("a", 21.0, "error", "COS 上传失败"))
    assert ledger.totals().unexplained == ("a",)


def test_too_many_repeats_are_wrong_even_with_a_reason() -> None:
    names = [f"twice-{number}" for number in range(15)]
    ledger = asked(*names)
    for name in names:
        ledger.called_back(answer(name, 20.0))
        ledger.called_back(answer(name, 21.0))
    ledger.disturbed(20.5, 20.5)
    totals = ledger.totals()
    assert totals.unexplained == ()
    assert any("answered twice" in problem for problem in totals.problems)


def test_answer_that_nobody_asked_for_is_wrong() -> None:
    ledger = asked()
    ledger.called_back(answer("stranger", 1.0))
    ledger.called_back(answer("", 1.0, "bad", "not an object of strings"))
    totals = ledger.totals()
    assert len(totals.strange) == 2
    assert totals.problems
