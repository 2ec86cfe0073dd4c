"""The Debian package in a minimal Debian under a real systemd, without a network: what Debian users expect of it.

Run on demand, for it takes minutes: ``DEBIAN=bookworm pytest -n 0 tests/packaging``, or ``trixie``. Needs root,
debootstrap, and the package index. The Debian is made once, in $ROOTS (/var/tmp/framesrv-debian).
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from framesrv.host.units.systemd import unit_name
from tests.support.processes import ROOT, write_config
from tests.support.systemd import Host, obstacle

RELEASE = os.environ.get("DEBIAN", "")
OBSTACLE = obstacle() if RELEASE else "it takes minutes; DEBIAN=bookworm or DEBIAN=trixie runs it"
pytestmark = [pytest.mark.skipif(bool(OBSTACLE), reason=OBSTACLE), pytest.mark.timeout(900)]

CAMERAS = ("cam-1", "cam-2")
UNITS = [*(unit_name(code) for code in CAMERAS), "framesrv-snapd.service"]
CONFIG = "/etc/framesrv/framesrv.toml"
HOME = Path("/opt/framesrv")
NEEDED = "systemd,systemd-sysv,dbus,python3,python3-venv,redis-server"


@pytest.fixture(scope="module")
def system() -> Path:
    """A minimal Debian with what the package depends on, and Redis."""
    root = Path(os.environ.get("ROOTS", "/var/tmp/framesrv-debian")) / f"{RELEASE}-systemd"
    if not (root / "ready").exists():
        make = ["debootstrap", "--variant=minbase", f"--include={NEEDED}", RELEASE, str(root)]
        subprocess.run(make + [os.environ["MIRROR"]] * ("MIRROR" in os.environ), check=True, timeout=900)
        (root / "ready").touch()
    return root


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of this checkout, and two later ones: as good, and one whose decoders cannot start."""
    directory = tmp_path_factory.mktemp("packages")
    made = subprocess.run(
        [str(ROOT / "packaging/deb"), str(directory)], check=True, timeout=600, stdout=subprocess.PIPE, text=True
    )
    first = Path(made.stdout.strip()).rename(directory / "first.deb")
    subprocess.run(["dpkg-deb", "-x", str(first), str(directory / "tree")], check=True, timeout=120)
    (directory / "tree/usr/lib/framesrv/wheels").rename(directory / "wheels")  # what packaging/wheelhouse has made
    later(first, directory / "second.deb", "9.0.0", "")
    later(first, directory / "broken.deb", "9.0.1", "raise ImportError('of a library that is not there')\n")
    return directory


def later(package: Path, target: Path, version: str, broken: str) -> None:
    """Another version of a package, made of it; its decoders begin with `broken`."""
    tree = target.with_suffix("")
    subprocess.run(["dpkg-deb", "-R", str(package), str(tree)], check=True, timeout=120)
    former = re.findall(r"^Version: (.*)$", (tree / "DEBIAN/control").read_text(), re.MULTILINE)[0]
    for file in (tree / "DEBIAN").iterdir():
        file.write_text(file.read_text().replace(former, version))
    wheel = next((tree / "usr/lib/framesrv/wheels").glob("framesrv-*.whl"))
    shutil.unpack_archive(wheel, tree / "wheel", "zip")
    decoder = tree / "wheel/framesrv/camera/decoder.py"
    decoder.write_text(broken + decoder.read_text())
    wheel.unlink()
    subprocess.run(
        ["python3", "-m", "zipfile", "-c", str(wheel), *os.listdir(tree / "wheel")], cwd=tree / "wheel", check=True
    )
    shutil.rmtree(tree / "wheel")
    build = ["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(target)]
    subprocess.run(build, check=True, timeout=120, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)


@pytest.fixture(scope="module")
def host(system: Path, packages: Path) -> Iterator[Host]:
    with Host(packages, system) as host:
        host.must("systemctl", "start", "redis-server")
        yield host


def apt(host: Host, *words: str) -> str:
    command = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qy", *words]
    done = host.run(*command, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def running(host: Host) -> dict[str, str]:
    """The version that each unit's process runs."""
    pids = {unit: int(host.show(unit, "MainPID")) for unit in UNITS}
    return {unit: Path(host.command(pid).split()[0]).parts[3] for unit, pid in pids.items() if pid}


def is_live(host: Host, code: str) -> bool:
    return any(row["code"] == code and row["state"] == "live" for row in host.status().values())


def test_package_is_installed_upgraded_taken_back_removed_and_purged(host: Host) -> None:
    said = apt(host, "install", "/packages/first.deb")
    first = str(host.path(str(HOME / "current")).readlink())
    assert "next: edit" in said
    assert "framesrv" in host.must("framesrv", "--version")
    assert {"framesrv"} <= host.users().keys()
    assert "[[camera]]" in host.path(CONFIG).read_text()
    assert oct(host.path(CONFIG).stat().st_mode & 0o777) == "0o600"
    assert "Unpacking" in said

    cameras = [{"code": code, "source": "test:320x240@5"} for code in CAMERAS]
    write_config(host.path(CONFIG), {"store": {"kind": "dir", "path": "/var/lib/framesrv/pictures"}}, cameras)
    host.must("framesrv", "units", "sync")
    assert set(running(host).values()) == {first}
    assert all(is_live(host, code) for code in CAMERAS)
    assert host.must("snapd", "request", CAMERAS[0]).strip()
    before = host.path(CONFIG).read_bytes()

    # an upgrade goes from camera to camera; the former version stays beside it
    said = apt(host, "install", "/packages/second.deb")
    assert [line.split()[1] for line in said.splitlines() if line.startswith("restart")] == UNITS, said
    assert set(running(host).values()) == {"9.0.0"}
    assert all(is_live(host, code) for code in CAMERAS)

    # one that cannot start stops at the first camera, and is no failure of apt's
    kept = {unit: host.show(unit, "MainPID") for unit in UNITS[1:]}
    said = apt(host, "install", "/packages/broken.deb")
    assert f"the upgrade stops at {UNITS[0]}: 1 camera and snapd still run 9.0.0" in said
    assert {unit: host.show(unit, "MainPID") for unit in UNITS[1:]} == kept
    assert host.must("dpkg-query", "-W", "-f=${Status}", "framesrv") == "install ok installed"
    host.must("framesrv", "units", "use", "9.0.0")
    assert set(running(host).values()) == {"9.0.0"}
    assert all(is_live(host, code) for code in CAMERAS)
    apt(host, "install", "--allow-downgrades", "/packages/first.deb")
    assert set(running(host).values()) == {first}
    assert host.path(CONFIG).read_bytes() == before

    # the same again changes nothing
    pids = {unit: host.show(unit, "MainPID") for unit in UNITS}
    apt(host, "install", "--reinstall", "/packages/first.deb")
    assert {unit: host.show(unit, "MainPID") for unit in UNITS} == pids

    # Debian brings another Python: the environment is made anew beside the old one, and put in force
    host.must("sh", "-c", "cd /usr/bin && cp $(readlink -f python3) python3.99 && ln -sf python3.99 python3")
    host.must("dpkg-trigger", "--by-package=python3-minimal", "/usr/bin/python3")
    host.must("dpkg", "--configure", "--pending", timeout=300)
    assert set(running(host).values()) == {f"{first}-python3.99"}
    assert all(is_live(host, code) for code in CAMERAS)

    apt(host, "remove", "framesrv")
    assert not host.path("/opt/framesrv").exists()
    assert host.processes() == []
    assert not list(host.path("/etc/systemd/system").glob("**/framesrv*"))
    assert not list(host.path("/dev/shm").iterdir())
    assert host.path(CONFIG).read_bytes() == before
    apt(host, "install", "/packages/first.deb")
    host.must("framesrv", "units", "sync")
    assert all(is_live(host, code) for code in CAMERAS)

    said = apt(host, "purge", "framesrv")
    assert not host.path("/etc/framesrv").exists()
    assert list(host.path("/var/lib/framesrv/pictures").iterdir())
    assert not host.path("/opt/framesrv").exists()
    assert host.processes() == []
    left = host.must(
        "sh", "-c", "grep -rl framesrv /etc /usr /opt /var/lib/systemd 2>/dev/null | grep -v ^/var/lib/dpkg || true"
    )
    assert [
        line for line in left.split() if "passwd" not in line and "group" not in line and "shadow" not in line
    ] == []


def test_wheelhouse_is_enough_without_a_network(host: Host) -> None:
    there = HOME / "0.1.0"
    host.must("python3", "-m", "venv", str(there))
    install = ["install", "--quiet", "--no-index", "--find-links", "/packages/wheels"]
    pins = ["-c", "/packages/wheels/constraints.txt", "framesrv[snapd]"]
    host.must(str(there / "bin/pip"), *install, *pins, timeout=300)
    assert "next: edit" in host.must(str(there / "bin/framesrv"), "units", "use", "0.1.0")
    for command in ("framesrv", "snapd"):
        assert "version" in host.must(command, "--version")
        assert host.path(f"/usr/local/bin/{command}").is_symlink()
    host.must("framesrv", "units", "remove", "--purge", "--configuration", "--pictures")
    assert not [name for name in host.users() if name.startswith("framesrv")]
