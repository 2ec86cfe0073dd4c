"""Versions side by side on a host with services: from one to another, and back from one that cannot start."""

import re
from pathlib import Path

import pytest

from framesrv.host.units.systemd import unit_name
from framesrv.segment import layout
from tests.support.site import CAMERAS, SNAPD, Load, Site
from tests.support.systemd import obstacle

OBSTACLE = obstacle()
pytestmark = [
    pytest.mark.skipif(bool(OBSTACLE), reason=f"no systemd can be booted here: {OBSTACLE}"),
    pytest.mark.timeout(180),
]

HOME = "/opt/framesrv"
FIRST, SECOND = "1.0.0", "1.1.0"
UNITS = [*(unit_name(code) for code in CAMERAS), SNAPD]


def install(site: Site, version: str, *edits: tuple[str, str, str]) -> None:
    """A version beside the first, as pip would make it, with edits: a module, what it says, and what instead."""
    there = f"{HOME}/{version}"
    site.host.must("cp", "-a", f"{HOME}/{FIRST}", there)
    place(site, version, former=FIRST)
    site.host.must("touch", f"{there}/pyvenv.cfg")
    package = next(site.host.path(f"{there}/lib").glob("python*/site-packages/framesrv"))
    for module, said, instead in [("__init__.py", '^__version__ = ".*"', f'__version__ = "{version}"'), *edits]:
        text, count = re.subn(said, instead, (package / module).read_text(), count=1, flags=re.MULTILINE)
        assert count == 1, f"{module} does not say {said}"
        (package / module).write_text(text)


def place(site: Site, version: str, former: str) -> None:
    """Has the programs of an environment start the interpreter where it now is."""
    for name in ("framesrv", "snapd"):
        script = site.host.path(f"{HOME}/{version}/bin/{name}")
        script.write_text(
            script.read_text().replace(f"{HOME}/{former}/bin".replace("//", "/"), f"{HOME}/{version}/bin")
        )


@pytest.fixture(scope="module")
def versions(site: Site) -> Site:
    """A host whose only version was /opt/framesrv itself, brought over to versions side by side."""
    host = site.host
    host.must(
        "sh", "-c", "cp -a /usr/local/bin /run/commands && mount --bind /run/commands /usr/local/bin"
    )  # to write
    site.settle()
    host.must("sh", "-c", f"cd {HOME} && mkdir {FIRST} && cp -a bin include lib* pyvenv.cfg {FIRST}")
    place(site, FIRST, former="")
    said = host.must(f"{HOME}/{FIRST}/bin/framesrv", "units", "use", FIRST)
    assert "linked   /usr/local/bin/framesrv" in said
    assert restarted(said) == UNITS
    host.must("sh", "-c", f"cd {HOME} && rm -r bin include lib* pyvenv.cfg")
    return site


@pytest.fixture(autouse=True)
def the_first_in_force(versions: Site) -> None:
    versions.settle()
    versions.host.must("framesrv", "units", "use", FIRST)
    versions.host.must("sh", "-c", f"cd {HOME} && ls -d [0-9]* | grep -vx {FIRST} | xargs -r rm -r")
    assert set(running(versions).values()) == {FIRST}


def running(site: Site) -> dict[str, str]:
    """The version that each unit's process runs."""
    pids = {unit: int(site.host.show(unit, "MainPID")) for unit in UNITS}
    return {unit: Path(site.host.command(pid).split()[0]).parts[3] for unit, pid in pids.items() if pid}


def in_force(site: Site) -> str:
    return str(site.host.path(f"{HOME}/current").readlink())


def restarted(said: str) -> list[str]:
    return [line.split()[1] for line in said.splitlines() if line.startswith("restart")]


def test_units_and_commands_go_through_the_link(versions: Site) -> None:
    host = versions.host
    assert f"ExecStart={HOME}/current/bin/framesrv decode" in host.must("systemctl", "cat", "framesrv@x.service")
    for command in ("framesrv", "snapd"):
        assert str(host.path(f"/usr/local/bin/{command}").readlink()) == f"{HOME}/current/bin/{command}"
    assert versions.host.must("framesrv", "units", "use").split() == [
        FIRST,
        "in",
        "force",
        "3",
        "cameras",
        "and",
        "snapd",
    ]


def test_one_command_is_an_upgrade_and_another_the_way_back(versions: Site) -> None:
    install(versions, SECOND)
    with Load(versions) as load:
        said = versions.host.must(f"{HOME}/{SECOND}/bin/framesrv", "units", "use", SECOND)
        assert restarted(said) == UNITS
        assert set(running(versions).values()) == {SECOND}
        assert restarted(versions.host.must("framesrv", "units", "use", FIRST)) == UNITS
    assert set(running(versions).values()) == {FIRST}
    assert set(load.answers().values()) == {"ok"}
    assert versions.sync().splitlines() == ["nothing to do: 3 cameras and snapd; 4 units left alone"]


BROKEN = {
    "raises at import": ("camera/decoder.py", r"\A", "raise ImportError('of a library that is not there')\n"),
    "never becomes live": (
        "camera/decoder.py",
        r"^    def _play\(self, signals: Signals\) -> None:\n",
        "    def _play(self, signals: Signals) -> None:\n        raise SourceError('no video in it', 'no_video')\n",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_upgrade_stops_at_the_first_camera_that_does_not_come_back(versions: Site, kind: str) -> None:
    install(versions, SECOND, BROKEN[kind])
    host, (broken, *others) = versions.host, UNITS
    pids = {unit: host.show(unit, "MainPID") for unit in others}
    done = host.run("framesrv", "units", "use", SECOND)
    assert done.returncode == 1
    assert restarted(done.stdout) == [broken]
    sentence = (
        f"framesrv: the upgrade stops at {broken}: 2 cameras and snapd still run {FIRST}, until they are started "
        f"again. To go back: framesrv units use {FIRST}. To go on all the same: framesrv units sync --force\n"
    )
    assert sentence in done.stderr

    again = host.run("framesrv", "units", "sync")  # as configuration management does, again and again
    assert again.returncode == 1
    assert sentence in again.stderr
    assert {unit: host.show(unit, "MainPID") for unit in others} == pids
    status = host.run("framesrv", "units", "status")
    assert f"2 cameras and snapd run {FIRST}; {SECOND} is installed: framesrv units sync\n" in status.stderr

    back = host.must("framesrv", "units", "use", FIRST)
    assert broken in back
    assert {unit: host.show(unit, "MainPID") for unit in others} == pids
    assert versions.is_live(CAMERAS[0])
    assert set(running(versions).values()) == {FIRST}
    assert versions.sync().splitlines() == ["nothing to do: 3 cameras and snapd; 4 units left alone"]


def test_whoever_goes_on_all_the_same_is_let(versions: Site) -> None:
    install(versions, SECOND, BROKEN["raises at import"])
    done = versions.host.run("framesrv", "units", "use", SECOND, "--force")
    assert done.returncode == 1
    assert restarted(done.stdout) == UNITS
    assert "the upgrade stops" not in done.stderr
    assert f"{SECOND} is in force; to go back: framesrv units use {FIRST}" in done.stderr
    versions.host.must("framesrv", "units", "use", FIRST)
    assert all(versions.is_live(code) for code in CAMERAS)


def test_version_that_does_not_run_at_all_is_not_put_in_force(versions: Site) -> None:
    install(versions, SECOND, ("__init__.py", r"\A", "raise RuntimeError('half of it is missing')\n"))
    for version, why in ((SECOND, "half of it is missing"), ("9.9.9", f"installed there: {SECOND}, {FIRST}")):
        done = versions.host.run("framesrv", "units", "use", version)
        assert done.returncode == 1
        assert why in done.stderr
        assert in_force(versions) == FIRST
    assert versions.sync().splitlines() == ["nothing to do: 3 cameras and snapd; 4 units left alone"]


def test_command_of_a_version_that_is_not_in_force_changes_nothing(versions: Site) -> None:
    install(versions, SECOND)
    for command in ("install", "sync"):
        done = versions.host.run(f"{HOME}/{SECOND}/bin/framesrv", "units", command)
        assert done.returncode == 1
        assert f"{FIRST} is in force: run `framesrv units use {SECOND}`" in done.stderr
    assert versions.sync().splitlines() == ["nothing to do: 3 cameras and snapd; 4 units left alone"]


def test_snapd_comes_before_segments_of_a_new_layout_and_after_those_of_an_old_one(versions: Site) -> None:
    """Where the newer of the two understands both. Then no request goes without its picture."""
    install(versions, SECOND, ("segment/layout.py", r"^VERSION = .*$", f"VERSION = {layout.VERSION + 1}"))
    with Load(versions) as load:
        assert restarted(versions.host.must("framesrv", "units", "use", SECOND)) == [SNAPD, *UNITS[:-1]]
        assert restarted(versions.host.must("framesrv", "units", "use", FIRST)) == UNITS
    assert set(load.answers().values()) == {"ok"}


def test_three_versions_stay(versions: Site) -> None:
    names = ["2.0.0", "2.0.1", "2.0.2", "2.0.3"]
    for name in names:
        install(versions, name)
    versions.host.must("mkdir", f"{HOME}/0.0.1")  # no environment, so nobody's to remove
    said = versions.host.must("framesrv", "units", "use", names[-1])
    gone = [line.split()[1] for line in said.splitlines() if line.startswith("removed")]
    assert sorted(gone) == [f"{HOME}/{name}" for name in names[:2]]
    there = sorted(path.name for path in versions.host.path(HOME).iterdir())
    assert there == ["0.0.1", FIRST, *names[2:], "current"]
