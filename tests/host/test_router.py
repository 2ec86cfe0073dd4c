"""The router as a service: a user of its own, which reads its own configuration and nothing else."""

import json
import re

import pytest

from framesrv.host.units import ROUTER
from tests.support.site import CAMERAS, ROUTE, SNAPD, Site, upgrade
from tests.support.systemd import obstacle

OBSTACLE = obstacle()
pytestmark = [
    pytest.mark.skipif(bool(OBSTACLE), reason=f"no systemd can be booted here: {OBSTACLE}"),
    pytest.mark.timeout(180),
]


def test_router_runs_as_a_user_of_its_own_and_brings_requests_to_the_host(site: Site) -> None:
    host = site.host
    site.configure(stream={"routed": True, "host": "edge1"})
    host.must("framesrv", "units", "sync", "--force")  # no router runs yet, as it says
    config = host.path("/etc/framesrv/route/framesrv.toml")
    config.write_text(f'[redis]\nurl = "{site.redis.url}"\n[route]\nlisten = ""\n')
    done = host.run("systemctl", "enable", "--now", ROUTE)
    assert done.returncode == 0, host.journal(ROUTE)
    host.wait_for(lambda: "1 hosts with 3 cameras" in host.show(ROUTE, "StatusText"), "it knows the host")
    fields = {"request_id": "r1", "camera_code": CAMERAS[0], "cos_path": "a.jpg", "callback_url": site.wvp.url}
    with site.redis.client() as client:
        client.xadd("edge_snap_request", fields)
    assert site.wvp.wait(1, 20)[0].status == "ok"
    pid = host.show(ROUTE, "MainPID")
    status = host.path(f"/proc/{pid}/status").read_text()
    assert re.findall(r"^Uid:\s+(\d+)", status, re.MULTILINE) == [host.must("id", "-u", ROUTER).strip()]
    groups = re.findall(r"^Groups:(.*)$", status, re.MULTILINE)[0].split()
    assert set(groups) <= {host.must("id", "-g", ROUTER).strip()}
    for path in ("framesrv.toml", "framesrv.env", "applied/snapd.json"):
        assert host.run("cat", f"/etc/framesrv/{path}", user=ROUTER).returncode != 0
    assert host.run("cat", "/etc/framesrv/route/framesrv.toml", user="framesrv").returncode != 0
    host.must("systemctl", "reload", ROUTE)
    host.wait_for(lambda: "Reloaded" in host.journal(ROUTE), "it has read its configuration again")
    assert host.run("cat", f"/dev/shm/framesrv.{CAMERAS[0]}", user=ROUTER).returncode != 0
    listed = json.loads(host.must("framesrv", "units", "status", "--json"))
    assert [row["unit"] for row in listed][-2:] == [SNAPD, ROUTE]
    assert "router  active" in host.must("framesrv", "units", "status")
    assert "nothing to do" in site.sync()


def test_upgrade_restarts_a_router_that_runs_and_stop_by_hand_is_seen(site: Site) -> None:
    host = site.host
    assert host.show(ROUTE, "ActiveState") == "active"
    upgrade(site)
    before = host.show(ROUTE, "MainPID")
    assert f"restart  {ROUTE}" in site.sync()
    assert host.show(ROUTE, "MainPID") != before
    host.must("systemctl", "stop", ROUTE)
    assert "nothing to do" in site.sync()
    assert host.show(ROUTE, "ActiveState") == "inactive"
    assert f"router: stopped by hand: sudo systemctl enable --now {ROUTE}" in host.run("framesrv", "health").stdout


def test_removal_takes_the_router_and_its_user(site: Site) -> None:
    host = site.host
    host.must("systemctl", "start", ROUTE)
    host.must("framesrv", "units", "remove", "--purge")
    assert host.show(ROUTE, "ActiveState") == "inactive"
    assert not host.path(f"/etc/systemd/system/{ROUTE}").exists()
    assert ROUTER not in host.users()
