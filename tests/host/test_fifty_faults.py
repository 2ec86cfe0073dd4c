"""Fifty configurations with one fault each: health names it, nothing else is touched, mending and a sync heal."""

import json
from collections.abc import Iterator

import pytest

from tests.support.fault_trial import attempt, booted, surroundings
from tests.support.faults import Case, World, cases
from tests.support.site import SNAPD, Site
from tests.support.systemd import obstacle

OBSTACLE = obstacle()
pytestmark = [
    pytest.mark.skipif(bool(OBSTACLE), reason=f"no systemd can be booted here: {OBSTACLE}"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with booted(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with surroundings() as found:
        yield found


def test_anybody_may_ask_and_is_told_what_was_not_to_be_seen(host: Site) -> None:
    host.host.path("/etc/sysusers.d/test.conf").write_text("u reader -\nm reader framesrv\nu outsider -\n")
    host.host.must("systemd-sysusers", "/etc/sysusers.d/test.conf")
    for user in ("reader", "outsider"):
        done = host.host.run("framesrv", "health", "--json", user=user)
        told = json.loads(done.stdout)
        assert (done.returncode, done.stderr, told["state"]) == (0, "", "well"), told
        unseen = {one["name"] for one in told["unseen"]}
        assert {"configuration", "versions"} <= unseen
        assert ("cameras" in unseen) == (user == "outsider")
        found = {one["name"]: one["message"] for one in told["findings"]}
        assert found["requests"].startswith("snapd takes requests")
        assert user == "outsider" or found["cameras"] == "3 of 3 live"
    host.host.must("systemctl", "stop", SNAPD)
    try:
        assert host.host.run("framesrv", "health").stdout.startswith(
            "down: snapd: stopped by hand: sudo framesrv start"
        )
        report = host.host.path("/run/framesrv-snapd")
        assert not report.exists(), "nobody believes what a snapd that is gone has said"
    finally:
        host.host.must("systemctl", "start", SNAPD)


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
def test_fault_is_named_first_touches_nothing_else_and_heals(host: Site, world: World, case: Case) -> None:
    attempt(host, world, case)


def test_there_are_fifty_and_each_kind_is_among_them() -> None:
    assert len(cases()) == 50
    assert [case.id for case in cases()] == [case.id for case in cases()], "the seed is fixed"
    assert len({case.kind.name for case in cases()}) > 40
