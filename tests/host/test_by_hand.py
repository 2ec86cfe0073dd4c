"""What people do by systemctl, or by a camera's code, on a host with services: it is respected, and said."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from framesrv.host.units.systemd import unit_name
from tests.support.site import CAMERAS, SNAPD, SPARE, Site
from tests.support.systemd import obstacle

OBSTACLE = obstacle()
pytestmark = [
    pytest.mark.skipif(bool(OBSTACLE), reason=f"no systemd can be booted here: {OBSTACLE}"),
    pytest.mark.timeout(180),
]

FIRST = unit_name(CAMERAS[0])


@pytest.fixture(autouse=True)
def undone(site: Site) -> Iterator[None]:
    site.settle()
    yield
    touched = [code for code, row in site.host.status().items() if row["by_hand"]]
    if touched:
        site.host.must("framesrv", "start", *touched)


def changes(site: Site, *options: str) -> tuple[bool, dict[str, dict[str, Any]]]:
    """What `sync --json` says: whether anything changed, and what became of each unit."""
    said = json.loads(site.sync("--json", *options))
    assert said["faults"] == []
    return said["changed"], {unit["camera"] or "snapd": unit for unit in said["units"]}


@pytest.mark.parametrize(
    ("command", "how"), [(["stop"], "stopped"), (["disable", "--now"], "disabled"), (["mask", "--now"], "masked")]
)
def test_what_was_taken_out_of_service_by_hand_is_left_alone_and_said(
    site: Site, command: list[str], how: str
) -> None:
    host, code = site.host, CAMERAS[0]
    host.must("systemctl", *command, FIRST)
    assert site.sync().splitlines() == [
        f"leave    {FIRST}  ({how} by hand; sudo framesrv start {code})",
        "nothing to do: 3 cameras and snapd; 4 units left alone",
    ]
    changed, units = changes(site)
    assert not changed
    assert [(units[code]["action"], units[code]["by_hand"]) for code in CAMERAS] == [
        ("leave", how),
        ("keep", ""),
        ("keep", ""),
    ]
    assert host.status()[code]["by_hand"] == how
    assert f"{how} by hand: sudo framesrv start {code}" in host.must("framesrv", "units", "status")
    assert f"{how} by hand: sudo framesrv start {code}" in host.run("framesrv", "health").stdout
    assert (host.show(FIRST, "ActiveState"), site.owner(code)) == ("inactive", None)
    # another camera goes on being served; what changes is applied, for when it is started
    site.write(
        [
            {"code": code, "source": site.rtsp[code].url(code), "slots": 3},
            *({"code": other, "source": site.rtsp[other].url(other), "timeout": 3.0} for other in CAMERAS[1:]),
        ]
    )
    assert changes(site)[0], "its copy is another"
    assert host.show(FIRST, "ActiveState") == "inactive"
    assert "started" in host.must("framesrv", "start", code)
    host.wait_for(lambda: site.is_live(code), "it is live")
    assert host.show(FIRST, "UnitFileState") == "enabled"
    assert changes(site) == (False, {**changes(site)[1]})
    assert host.status()[code]["by_hand"] == ""


def test_disabled_camera_that_runs_goes_on_and_does_not_start_at_boot(site: Site) -> None:
    pid = site.pid(CAMERAS[0])
    site.host.must("systemctl", "disable", FIRST)
    assert f"leave    {FIRST}  (disabled by hand, does not start at boot; sudo framesrv start" in site.sync()
    assert (site.pid(CAMERAS[0]), site.host.show(FIRST, "UnitFileState")) == (pid, "disabled")


def test_stopped_snapd_and_one_that_had_to_be_killed_are_left_alone(site: Site) -> None:
    host = site.host
    host.must("systemctl", "stop", SNAPD)
    deaf = host.path(f"/run/systemd/system/{FIRST}.d/deaf.conf")
    deaf.parent.mkdir(parents=True)
    deaf.write_text("[Service]\nKillSignal=SIGCONT\nTimeoutStopSec=1\n")
    host.must("systemctl", "daemon-reload")
    try:
        host.must("systemctl", "stop", FIRST)
        assert host.show(FIRST, "ActiveState") == "failed"
        _, units = changes(site)
        assert (units["snapd"]["by_hand"], units[CAMERAS[0]]["by_hand"]) == ("stopped", "stopped")
        assert site.owner(CAMERAS[0]) is not None
        assert f"stopped  {FIRST}" in host.must("framesrv", "stop", CAMERAS[0])
        assert site.owner(CAMERAS[0]) is None
    finally:
        deaf.unlink()
        deaf.parent.rmdir()
        host.must("systemctl", "daemon-reload")


def test_stopped_target_keeps_everything_stopped(site: Site) -> None:
    host = site.host
    host.must("systemctl", "stop", "framesrv.target")
    site.write([{"code": SPARE, "source": site.rtsp[SPARE].url(SPARE)}])
    _, units = changes(site)
    assert units[SPARE]["action"] == "leave"
    assert units[SPARE]["reason"] == "framesrv.target is stopped by hand; sudo systemctl enable --now framesrv.target"
    assert host.processes() == []
    host.must("systemctl", "enable", "--now", "framesrv.target")
    host.wait_for(lambda: site.is_live(SPARE), "it is live")


def test_masked_camera_that_is_configured_no_more_is_stopped(site: Site) -> None:
    site.host.must("systemctl", "mask", FIRST)
    try:
        site.configure(CAMERAS[1:])
        assert f"stop     {FIRST}" in site.sync()
        assert (site.owner(CAMERAS[0]), site.host.show(FIRST, "ActiveState")) == (None, "inactive")
    finally:
        site.host.must("systemctl", "unmask", FIRST)
        site.settle()


def test_camera_that_failed_was_not_stopped_by_hand(site: Site) -> None:
    host = site.host
    host.path(f"/etc/framesrv/applied/cameras/{CAMERAS[0]}.json").write_text('{"camera": [{"nonsense": 1}]}')
    host.run("systemctl", "restart", FIRST)
    host.wait_for(lambda: host.show(FIRST, "ActiveState") == "failed", "it has failed")
    changed, units = changes(site)
    assert (changed, units[CAMERAS[0]]["action"], units[CAMERAS[0]]["reason"]) == (True, "start", "failed")


def test_json_says_what_became_of_each_unit_and_why(site: Site) -> None:
    kept, changed, removed = CAMERAS
    site.write(
        [
            {"code": kept, "source": site.rtsp[kept].url(kept), "timeout": 3.0},
            {"code": changed, "source": site.rtsp[changed].url(changed), "slots": 3},
            {"code": SPARE, "source": site.rtsp[SPARE].url(SPARE)},
        ]
    )
    wanted = {
        removed: ("stop", "no longer configured"),
        SPARE: ("start", "not running"),
        changed: ("restart", "its settings differ"),
        kept: ("keep", "as configured"),
        "snapd": ("reload", "cameras, limits or credentials differ"),
    }
    for options in (["--dry-run"], []):
        is_changed, units = changes(site, *options)
        assert is_changed
        assert {code: (unit["action"], unit["reason"]) for code, unit in units.items()} == wanted
        assert list(units) == list(wanted)
    assert changes(site)[0] is False
    site.configure()
    assert "changed: 3 cameras" in site.sync()


def test_units_are_stopped_and_started_by_their_cameras_codes(site: Site) -> None:
    host = site.host
    names = [unit_name(code) for code in CAMERAS[:2]]
    host.must("framesrv", "stop", *CAMERAS[:2], "snapd")
    assert site.segments() == [f"framesrv.{CAMERAS[2]}"]
    assert [host.show(name, "ActiveState") for name in (*names, SNAPD)] == ["inactive"] * 3
    assert host.must("framesrv", "start", *CAMERAS[:2], "snapd").splitlines() == [
        f"started  {name}" for name in (*names, SNAPD)
    ]
    host.wait_for(lambda: all(site.is_live(code) for code in CAMERAS), "all are live")
    pid = site.pid(CAMERAS[0])
    host.must("framesrv", "restart", CAMERAS[0])
    assert site.pid(CAMERAS[0]) not in (0, pid)


def test_logs_are_those_of_the_cameras_that_are_named(site: Site) -> None:
    said = site.host.must("framesrv", "logs", CAMERAS[0], "-n", "1000")
    assert f"camera={CAMERAS[0]} live 640x360" in said
    assert CAMERAS[2] not in said
    assert len(site.host.must("framesrv", "logs", CAMERAS[0], "-n", "2").splitlines()) == 2
    everything = site.host.must("framesrv", "logs", "-n", "100000")
    assert all(f"camera={code}" in everything for code in CAMERAS)
    assert "Started stream=" in everything
    following = site.host.run("timeout", "--signal=INT", "2", "framesrv", "logs", CAMERAS[0], "-f", "-n", "1")
    assert f"camera={CAMERAS[0]}" in following.stdout


@pytest.mark.parametrize("command", ["start", "stop", "restart", "logs"])
def test_unknown_code_is_refused_before_anything_is_touched(site: Site, command: str) -> None:
    pids = [site.pid(code) for code in CAMERAS]
    done = site.host.run("framesrv", command, CAMERAS[0], "cam_33", "nothing-like-it")
    assert (done.returncode, done.stdout) == (2, "")
    first, second = done.stderr.splitlines()
    assert first.startswith("framesrv: there is no camera cam_33 here; did you mean cam_3? known: ")
    assert re.match(r"framesrv: there is no camera nothing-like-it here; known: .*cam-1.*, snapd$", second)
    assert [site.pid(code) for code in CAMERAS] == pids


def test_camera_that_is_not_applied_yet_or_out_of_service_is_said(site: Site) -> None:
    cameras = [{"code": code, "source": site.rtsp[code].url(code), "timeout": 3.0} for code in CAMERAS]
    off = {"code": "off", "source": "test:64x48@1", "enabled": False}
    site.write([*cameras, {"code": SPARE, "source": "test:64x48@1"}, off])
    said = site.host.run("framesrv", "start", SPARE, "off").stderr
    assert f"camera {SPARE} is configured and not applied yet: sudo framesrv units sync" in said
    assert "camera off is out of service: enabled = false in /etc/framesrv/framesrv.toml" in said
