"""Removing framesrv from a host: what goes, what stays, and what only goes where it is asked for."""

import pytest

from tests.support.edge import GROUP, STREAM
from tests.support.site import CAMERAS, Load, Site
from tests.support.systemd import obstacle

OBSTACLE = obstacle()
pytestmark = [
    pytest.mark.skipif(bool(OBSTACLE), reason=f"no systemd can be booted here: {OBSTACLE}"),
    pytest.mark.timeout(180),
]

DROPIN = "/etc/systemd/system/framesrv@.service.d/override.conf"
ROUTE = "/etc/framesrv/route/framesrv.toml"
PICTURE = "/var/lib/framesrv/pictures/1.jpg"
OURS = ("/etc/systemd/system/**/framesrv*", "/etc/*.d/framesrv*", "/run/framesrv/*", "/dev/shm/framesrv*")


@pytest.fixture
def site_with_everything(site: Site) -> Site:
    """Services that run, a drop-in, a picture, and a consumer group."""
    site.host.must("framesrv", "units", "install")
    site.settle()
    for path, text in ((DROPIN, "[Service]\nNice=1\n"), (PICTURE, "a picture")):
        site.host.path(path).parent.mkdir(parents=True, exist_ok=True)
        site.host.path(path).write_text(text)
    site.host.must("chown", "-R", "framesrv:", "/var/lib/framesrv")
    with Load(site) as load:
        site.host.wait_for(lambda: len(load.asked) >= 3, "some requests")
    assert set(load.answers().values()) == {"ok"}
    return site


def there(site: Site) -> set[str]:
    """All files of ours but the configuration, the pictures and the program, and all users and groups."""
    root = site.host.path("/")
    found = {str(path.relative_to(root)) for pattern in OURS for path in root.glob(pattern.lstrip("/"))}
    groups = [line.split(":")[0] for line in site.host.path("/etc/group").read_text().splitlines()]
    found |= {f"user {name}" for name in site.host.users() if name.startswith("framesrv")}
    return found | {f"group {name}" for name in groups if name.startswith("framesrv")}


def groups_in_redis(site: Site) -> list[str]:
    found = site.redis.client().xinfo_groups(STREAM)
    return [group["name"] for group in found]


def remove(site: Site, *options: str) -> dict[str, str]:
    """What was said of each thing."""
    said = site.host.must("framesrv", "units", "remove", *options)
    pairs = [line.split(maxsplit=1) for line in said.splitlines()]
    return {pair[1]: pair[0] for pair in pairs}


def test_list_of_what_would_go_changes_nothing(site_with_everything: Site) -> None:
    site = site_with_everything
    before, pid = there(site), site.pid(CAMERAS[0])
    said = remove(site, "--dry-run")
    assert said["/etc/systemd/system/framesrv@.service"] == "remove"
    assert said["user framesrv-cam-1"] == "remove"
    for thing in ("/etc/systemd/system/framesrv@.service.d  (--purge)", "group framesrv-snapd  (--purge)"):
        assert said[thing] == "stays"
    said = remove(site, "--dry-run", "--purge", "--redis", "--pictures")
    assert said["/etc/systemd/system/framesrv@.service.d"] == "remove"
    assert said[f"group {GROUP} of {STREAM} in Redis, 0 requests pending"] == "remove"
    assert said["/var/lib/framesrv"] == "remove"
    assert said["/etc/framesrv  (--configuration)"] == "stays"
    assert said["/etc/framesrv/route"] == "remove"
    site.host.path(ROUTE).write_text("[redis]\n")
    assert "/etc/framesrv/route" not in remove(site, "--dry-run")
    site.host.path(ROUTE).write_text("")
    assert (there(site), site.pid(CAMERAS[0])) == (before, pid)
    assert groups_in_redis(site) == [GROUP]


def test_purge_leaves_what_is_somebodys_work(site_with_everything: Site) -> None:
    site = site_with_everything
    site.host.path(ROUTE).write_text("[redis]\n")  # somebody's work as well
    said = remove(site, "--purge")
    assert there(site) == {"user framesrv", "group framesrv"}  # the owner of the pictures
    assert said["user framesrv, the owner of the pictures  (--pictures)"] == "stays"
    assert site.host.path(PICTURE).exists()
    assert site.host.path("/etc/framesrv/framesrv.toml").exists()
    assert site.host.path(ROUTE).exists()
    site.host.path(ROUTE).write_text("")
    assert remove(site)["/etc/framesrv/route"] == "removed"  # as `install` has made it
    assert not site.host.path(ROUTE).parent.exists()
    assert groups_in_redis(site) == [GROUP]


def test_what_is_named_goes_too_and_nothing_is_left(site_with_everything: Site) -> None:
    site = site_with_everything
    keys = site.host.path("/etc/framesrv/framesrv.env").read_text()
    remove(site, "--purge", "--redis", "--pictures", "--configuration")
    assert there(site) == set()
    assert site.host.processes() == []
    for path in ("/var/lib/framesrv", "/etc/framesrv", "/run/framesrv"):
        assert not site.host.path(path).exists()
    assert groups_in_redis(site) == []
    site.host.must("framesrv", "units", "install")  # as on the first day
    site.host.path("/etc/framesrv/framesrv.env").write_text(keys)
    site.settle()


def test_what_is_named_without_purge_is_a_wrong_use(site: Site) -> None:
    done = site.host.run("framesrv", "units", "remove", "--pictures")
    assert done.returncode == 2
    assert "--pictures goes with --purge" in done.stderr
