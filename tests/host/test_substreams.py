"""A camera with two streams on a host with services: one unit, one user, two segments."""

from collections.abc import Iterator

import pytest

from framesrv.host.units.systemd import unit_name
from framesrv.segment.owner import service_user
from tests.support.site import CAMERAS, SNAPD, Site
from tests.support.systemd import obstacle

OBSTACLE = obstacle()
pytestmark = [
    pytest.mark.skipif(bool(OBSTACLE), reason=f"no systemd can be booted here: {OBSTACLE}"),
    pytest.mark.timeout(180),
]

CODE, OTHER = CAMERAS[0], CAMERAS[1]
SUB = f"{CODE}.sub"
UNIT = unit_name(CODE)


@pytest.fixture(autouse=True)
def two_streams(site: Site) -> Iterator[None]:
    site.settle()
    urls = [site.rtsp[code].url(code) for code in (CODE, OTHER)]
    site.write([{"code": CODE, "source": urls[0], "substream": urls[1], "timeout": 3.0}])
    site.sync()
    wait_live(site)
    yield
    site.settle()


def wait_live(site: Site) -> None:
    site.host.wait_for(lambda: site.is_live(CODE) and site.is_live(SUB), "both are live")


def test_both_are_one_unit_of_one_user_and_are_served_by_snapd(site: Site) -> None:
    host = site.host
    user = host.users()[service_user(CODE)]
    assert [site.owner(code) for code in (CODE, SUB)] == [user, user]
    running = host.must("systemctl", "list-units", "--plain", "--no-legend", "framesrv@*.service")
    assert [line.split()[0] for line in running.splitlines()] == [UNIT]
    host.wait_for(lambda: "; substream live" in host.show(UNIT, "StatusText"), "its status tells of both")
    for code in (CODE, SUB):
        host.must("snapd", "grab", code, "-o", "/tmp/now.jpg")
    done = host.run("framesrv", "health")
    assert f"camera {CODE}" not in done.stdout
    assert "2 of 2 live" in done.stdout
    assert "rtsp://" not in host.path("/etc/framesrv/applied/snapd.json").read_text()
    assert host.show(SNAPD, "ActiveState") == "active"


def test_killed_stopped_and_swept_none_is_left_behind(site: Site) -> None:
    host = site.host
    restarts = int(host.show(UNIT, "NRestarts"))
    site.kill(CODE)  # with all its processes
    host.wait_for(lambda: int(host.show(UNIT, "NRestarts")) > restarts, "the unit is started again")
    wait_live(site)
    host.must("framesrv", "stop", CODE)
    assert site.segments() == []
    host.must("framesrv", "start", CODE)
    wait_live(site)


def test_file_of_another_user_in_the_place_of_its_segment_is_swept_away(site: Site) -> None:
    host = site.host
    host.must("systemctl", "stop", UNIT)
    place = f"/dev/shm/framesrv.{SUB}"
    host.must("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", f"echo x > {place}")
    host.run("systemctl", "start", UNIT)  # which fails; root then clears the place, and it is tried again
    wait_live(site)
    assert site.owner(SUB) == host.users()[service_user(CODE)]
