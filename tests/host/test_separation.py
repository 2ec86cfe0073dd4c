"""What a decoder that was taken over can reach: nothing but its own camera. And whose files in shared memory heal."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framesrv.host.units import ROUTER
from framesrv.host.units.systemd import unit_name
from framesrv.segment.owner import service_user
from tests.support import intruder
from tests.support.site import CAMERAS, SNAPD, SPARE, Load, Site
from tests.support.systemd import obstacle

OBSTACLE = obstacle()
pytestmark = [
    pytest.mark.skipif(bool(OBSTACLE), reason=f"no systemd can be booted here: {OBSTACLE}"),
    pytest.mark.timeout(180),
]

TAKEN, OTHER = CAMERAS[0], CAMERAS[2]
SEGMENT = f"/dev/shm/framesrv.{TAKEN}"
REFUSED = {"EACCES", "EPERM", "EROFS"}


def keep(site: Site, **sections: dict[str, Any]) -> None:
    """Has the cameras keep a history, with these sections of the configuration."""
    site.configure(CAMERAS, **sections, camera_defaults={"history": 1.0, "history_bytes": 300_000})
    site.sync()
    site.host.wait_for(lambda: site.host.path(f"/dev/shm/framesrv+history.{OTHER}").exists(), "it keeps one")
    site.host.wait_for(lambda: all(map(site.is_live, CAMERAS)), "all are live")


@pytest.fixture
def said(site: Site) -> Iterator[dict[str, dict[str, str]]]:
    """What the intruder says, run with everything that the unit of a decoder gives or takes."""
    keep(
        site,
        http={"listen": "", "token": "a-secret-of-the-page"},
        result={"signing_secret": "a-secret-of-answers"},
    )
    unit = unit_name(TAKEN)
    site.host.path("/opt/intruder.py").write_text(Path(intruder.__file__).read_text())
    pids = f"{site.host.show(SNAPD, 'MainPID')} {site.pid(OTHER)}"
    dropin = site.host.path(f"/etc/systemd/system/{unit}.d/intruder.conf")
    dropin.parent.mkdir()
    dropin.write_text(
        f"[Service]\nEnvironment=OWN={TAKEN}\nExecStartPre=/opt/framesrv/bin/python /opt/intruder.py {OTHER} {pids}\n"
    )
    site.host.must("systemctl", "daemon-reload")
    site.host.must("systemctl", "restart", unit)
    heard = site.host.wait_for(
        lambda: [line for line in site.host.journal(unit).splitlines() if line.startswith(intruder.MARK)], "it speaks"
    )
    yield json.loads(heard[-1].removeprefix(intruder.MARK))
    dropin.unlink()
    dropin.parent.rmdir()
    site.host.must("systemctl", "daemon-reload")


def assert_refused(said: dict[str, dict[str, str]]) -> None:
    """Everything that is not its own."""
    assert len(said["refused"]) > 41
    # other processes are hidden from a unit: they are numbers that do not exist
    wrong = {
        name: came
        for name, came in said["refused"].items()
        if came not in REFUSED and not (came == "ENOENT" and name[0].isdigit())
    }
    assert wrong == {}
    assert set(said["allowed"].values()) == {"done"}


def test_decoders_user_reaches_nothing_even_without_its_units_sandbox(site: Site) -> None:
    site.settle()
    keep(site)
    site.host.path("/opt/intruder.py").write_text(Path(intruder.__file__).read_text())
    pids = site.host.show(SNAPD, "MainPID"), str(site.pid(OTHER))
    command = ["env", f"OWN={TAKEN}", "python", "/opt/intruder.py", OTHER, *pids]
    said = json.loads(site.host.must(*command, user=service_user(TAKEN)).removeprefix(intruder.MARK))
    assert_refused(said)
    assert "ENOENT" not in said["refused"].values()
    assert (site.host.show(SNAPD, "ActiveState"), site.is_live(OTHER)) == ("active", True)


def test_decoder_that_was_taken_over_reaches_nothing(site: Site, said: dict[str, dict[str, str]]) -> None:
    assert_refused(said)
    group = int(site.host.must("id", "-g", service_user(TAKEN)))
    assert set(said["groups"]) <= {group}
    secrets = [
        site.cos.secret_key,
        site.cos.secret_id,
        site.redis.url,
        "a-secret-of-the-page",
        site.rtsp[OTHER].url(OTHER),
    ]
    assert [one for one in secrets if one in json.dumps(said["environment"])] == []
    copy = site.host.path(f"/etc/framesrv/applied/cameras/{TAKEN}.json").read_text()
    assert [one for one in secrets if one in copy] == []
    assert site.rtsp[TAKEN].url(TAKEN) in copy
    assert (site.host.show(SNAPD, "ActiveState"), site.is_live(OTHER)) == ("active", True)


def test_snapd_has_no_source_and_cannot_write_a_segment(site: Site) -> None:
    site.settle()
    copy = site.host.path("/etc/framesrv/applied/snapd.json").read_text()
    assert site.cos.secret_key in copy
    assert "rtsp://" not in copy
    write = "import os, sys; os.open(sys.argv[1], os.O_RDWR)"
    for code in CAMERAS:
        done = site.host.run("python", "-c", write, f"/dev/shm/framesrv.{code}", user="framesrv")
        assert "Permission denied" in done.stderr
        assert site.host.run("cat", f"/etc/framesrv/applied/cameras/{code}.json", user="framesrv").returncode != 0
    assert site.host.run("cat", "/etc/framesrv/framesrv.toml", user="framesrv").returncode != 0


def test_reader_of_frames_reads_no_copy_and_sees_the_cameras(site: Site) -> None:
    site.settle()
    site.host.path("/etc/sysusers.d/test.conf").write_text("u reader -\nm reader framesrv\n")
    site.host.must("systemd-sysusers", "/etc/sysusers.d/test.conf")
    for path in ("framesrv.toml", "framesrv.env", "applied/snapd.json", f"applied/cameras/{TAKEN}.json"):
        assert site.host.run("cat", f"/etc/framesrv/{path}", user="reader").returncode != 0
    done = site.host.run("framesrv", "ls", "--json", user="reader")
    assert done.returncode == 0
    assert {row["code"]: row["state"] for row in json.loads(done.stdout)} == dict.fromkeys(CAMERAS, "live")
    assert "cannot be read: Permission denied" in done.stderr
    assert "shown is what is in shared memory" in done.stderr


def test_user_of_a_camera_goes_with_it(site: Site) -> None:
    site.settle()
    site.configure([*CAMERAS, SPARE])
    site.sync()
    assert service_user(SPARE) in site.host.users()
    site.configure()
    site.sync()
    users = {name for name in site.host.users() if name.startswith("framesrv-")}
    assert users == {service_user(code) for code in CAMERAS} | {ROUTER}
    groups = site.host.path("/etc/group").read_text()
    assert f"{service_user(SPARE)}:" not in groups
    copies = site.host.path("/etc/framesrv/applied/cameras").iterdir()
    assert sorted(file.name for file in copies) == sorted(f"{code}.json" for code in CAMERAS)


def test_another_group_of_readers_is_snapds_too(site: Site) -> None:
    site.settle()
    site.host.path("/etc/sysusers.d/test.conf").write_text("g viewers -\n")
    site.host.must("systemd-sysusers", "/etc/sysusers.d/test.conf")
    site.configure(shm={"group": "viewers"})
    assert f"restart  {SNAPD}" in site.sync()
    site.host.must("framesrv", "ls")
    pid = site.host.show(SNAPD, "MainPID")
    viewers = site.host.must("getent", "group", "viewers").split(":")[2]
    status = site.host.path(f"/proc/{pid}/status").read_text()
    assert re.search(rf"^Groups:.*\b{viewers}\b", status, re.MULTILINE)
    site.configure(shm={"mode": "0600"})
    done = site.host.run("framesrv", "units", "sync")
    assert (done.returncode, "shm.mode" in done.stderr) == (1, True)
    site.configure(shm={"group": "nobody-knows-it"})
    assert "there is no group 'nobody-knows-it'" in site.host.run("framesrv", "units", "sync").stderr


# A mistake in the file that is edited


def typo(site: Site) -> None:
    file = site.host.path("/etc/framesrv/framesrv.toml")
    file.write_text(file.read_text().replace("[redis]", "[redis"))


def wrong_key(site: Site) -> None:
    site.write(
        [{"code": code, "source": site.rtsp[code].url(code), "timeout": 3.0} for code in CAMERAS[1:]]
        + [{"code": CAMERAS[0], "source": "test:320x240@5", "nonsense": 1}]
    )


def wrong_variable(site: Site) -> None:
    file = site.host.path("/etc/framesrv/framesrv.env")
    file.write_text(file.read_text() + "FRAMESRV_STOER__TOKEN=x\n")


WRONG = {
    typo: "not TOML",
    wrong_key: "camera[2].nonsense: no such key",
    wrong_variable: "FRAMESRV_STOER__TOKEN: no such key",
}


@pytest.mark.parametrize("mistake", WRONG, ids=lambda act: act.__name__)
def test_mistake_in_the_configuration_is_no_outage(site: Site, mistake) -> None:  # type: ignore[no-untyped-def]
    site.settle()
    environment = site.host.path("/etc/framesrv/framesrv.env")
    before = environment.read_text()
    mistake(site)
    try:
        site.host.must("systemctl", "restart", unit_name(TAKEN), SNAPD)
        site.host.kill(unit_name(CAMERAS[list(WRONG).index(mistake)]), "SIGKILL")
        site.host.must("systemctl", "restart", "framesrv.target")  # as a reboot does
        site.host.wait_for(lambda: all(site.is_live(code) for code in CAMERAS), "the cameras are live")
        site.host.wait_for(lambda: site.host.show(SNAPD, "ActiveState") == "active", "snapd is")
        said = WRONG[mistake]
        for command in (("ls",), ("units", "status"), ("ls", "--json"), ("units", "status", "--json")):
            done = site.host.run("framesrv", *command)
            assert done.returncode == 0
            assert all(code in done.stdout for code in CAMERAS)
            assert said in done.stderr
            assert "shown is what was applied last" in done.stderr
        done = site.host.run("timeout", "2", "framesrv", "top", "--interval", "0.5")
        assert (said in done.stderr, OTHER in done.stdout) == (True, True)
        done = site.host.run("framesrv", "units", "sync")
        assert (done.returncode, said in done.stderr) == (2, True)
    finally:
        environment.write_text(before)


def test_file_that_root_alone_may_read_is_no_outage(site: Site) -> None:
    """As management of configurations leaves it."""
    site.settle()
    file = site.host.path("/etc/framesrv/framesrv.toml")
    site.host.must("chown", "root:root", "/etc/framesrv/framesrv.toml")
    file.chmod(0o600)
    site.host.must("systemctl", "restart", unit_name(TAKEN), SNAPD)
    site.host.wait_for(lambda: site.is_live(TAKEN), "it is live")
    assert "left alone" in site.sync()


def test_what_is_edited_and_not_applied_is_said(site: Site) -> None:
    site.settle()
    assert site.host.run("framesrv", "ls").stderr == ""
    site.configure(CAMERAS[:2])
    for command in (("ls",), ("units", "status")):
        done = site.host.run("framesrv", *command)
        assert (done.returncode, "edited, not applied: framesrv units sync" in done.stderr) == (0, True)
    site.sync()
    assert site.host.run("framesrv", "ls").stderr == ""


# What lies in the place of a segment


LEAVE = """
import os, signal
from framesrv import FrameWriter
writer = FrameWriter("cam-1", 320, 240, "yuv420p")
os.kill(os.getpid(), signal.SIGKILL)
"""


def heals(site: Site) -> None:
    """Started again, the camera is live in a segment of its own user, and nothing keeps failing."""
    unit, user = unit_name(TAKEN), site.host.users()[service_user(TAKEN)]
    site.host.must("systemctl", "start", "--no-block", unit)
    site.host.wait_for(lambda: site.owner(TAKEN) == user and site.is_live(TAKEN), "it is live, its own")
    site.host.wait_for(lambda: site.host.show(unit, "ActiveState") == "active", "its unit is ready")
    assert int(site.host.show(unit, "NRestarts")) <= 2


def test_segment_that_root_left_keeps_no_camera_from_starting(site: Site) -> None:
    site.settle()
    site.host.must("systemctl", "stop", unit_name(TAKEN))
    site.host.run("python", "-c", LEAVE)
    assert site.owner(TAKEN) == 0
    done = site.host.run("framesrv", "check", "--config", "/etc/framesrv/framesrv.toml")
    assert f"WRONG  segment of {TAKEN}: {SEGMENT} is in its place and belongs to root" in done.stdout
    assert "sudo framesrv units sweep" in done.stdout
    heals(site)
    assert "segment of" not in site.host.run("framesrv", "check", "--config", "/etc/framesrv/framesrv.toml").stdout


HOLD = """
import os, signal, sys
from framesrv.segment import layout, locks
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
assert locks.lock_exclusive(fd, layout.WRITER_BYTE)
os.write(fd, b"x" * 8192)
signal.pause()
"""
AS_STRANGER = "systemd-run --quiet --collect --unit=stranger --uid=nobody"
STRANGE = {
    "file": f"touch {SEGMENT}",
    "directory": f"mkdir -m 700 {SEGMENT} && touch {SEGMENT}/x && mkdir {SEGMENT}/y",
    "pipe": f"mkfifo {SEGMENT}",
    "link": f"ln -s /etc/passwd {SEGMENT}",
    "segment": f"python -c '{LEAVE}'",
    "held": f"{AS_STRANGER} /opt/framesrv/bin/python -c '{HOLD}' {SEGMENT}",
}


@pytest.mark.parametrize("kind", STRANGE)
def test_what_a_stranger_puts_there_keeps_no_camera_from_starting(site: Site, kind: str) -> None:
    site.settle()
    site.host.must("systemctl", "stop", unit_name(TAKEN))
    site.host.run("sh", "-c", STRANGE[kind], user="" if kind == "held" else "nobody")
    site.host.wait_for(lambda: site.owner(TAKEN) is not None, "it is there")
    assert site.owner(TAKEN) == site.host.users()["nobody"]
    heals(site)
    assert site.host.path("/etc/passwd").exists()
    site.host.run("systemctl", "stop", "stranger")


def test_stopped_target_leaves_nothing_of_strangers_in_a_cameras_place(site: Site) -> None:
    site.settle()
    site.host.must("systemctl", "stop", unit_name(TAKEN))
    site.host.must("sh", "-c", STRANGE["directory"], user="nobody")
    site.host.must(*AS_STRANGER.split(), "/opt/framesrv/bin/python", "-c", HOLD, "/dev/shm/framesrv.nobodys-camera")
    site.host.must("touch", "/dev/shm/framesrv.left", "/dev/shm/framesrv.no code", user="nobody")
    site.host.must("touch", "/dev/shm/framesrv+history.left", user="nobody")
    site.host.wait_for(lambda: site.host.path("/dev/shm/framesrv.nobodys-camera").exists(), "it is there")
    site.host.must("systemctl", "stop", "framesrv.target")
    kept = ["framesrv.no code", "framesrv.nobodys-camera"]
    site.host.wait_for(lambda: site.segments() == kept, "what has a live writer, or no code, is left")
    assert site.host.show("framesrv-sweep.service", "Result") == "success"
    assert not site.host.path("/dev/shm/framesrv+history.left").exists()
    site.host.must("systemctl", "stop", "stranger")
    for name in kept:
        site.host.path(f"/dev/shm/{name}").unlink()


def test_decoder_started_by_root_goes_on_as_its_user_and_leaves_its_unit_what_it_can_use(site: Site) -> None:
    site.settle()
    unit = unit_name(TAKEN)
    site.host.must("systemctl", "stop", unit)
    started = ["systemd-run", "--quiet", "--collect", "--unit=byhand", "/opt/framesrv/bin/framesrv", "decode", TAKEN]
    site.host.must(*started)
    site.host.wait_for(lambda: site.is_live(TAKEN), "it is live")
    inode = site.host.path(SEGMENT).stat().st_ino
    user = site.host.users()[service_user(TAKEN)]
    pid = site.host.show("byhand.service", "MainPID")
    assert site.host.path(f"/proc/{pid}").stat().st_uid == user
    status = site.host.path(f"/proc/{pid}/status").read_text()
    assert re.search(rf"^Uid:\t{user}\t{user}\t{user}\t{user}$", status, re.MULTILINE)
    assert re.search(rf"^Groups:\t{site.host.must('id', '-g', service_user(TAKEN)).strip()} ?$", status, re.MULTILINE)
    assert re.search(r"^CapPrm:\t0+$", status, re.MULTILINE)
    assert f"goes on as user {service_user(TAKEN)}" in site.host.journal("byhand")
    site.host.kill("byhand.service", "SIGKILL")
    site.host.wait_for(lambda: not site.is_live(TAKEN), "it is dead")
    heals(site)
    assert site.host.path(SEGMENT).stat().st_ino == inode
    assert site.host.show(unit, "NRestarts") == "0"


def test_probe_of_a_camera_by_root_goes_on_as_its_user(site: Site) -> None:
    """What a camera sends is not parsed by root."""
    site.settle()
    done = site.host.run("framesrv", "probe", "--seconds", "1", TAKEN)
    assert done.returncode == 0, done.stderr
    assert f"goes on as user {service_user(TAKEN)}" in done.stderr
    assert "640x360" in done.stdout


def test_segment_that_is_cut_short_ends_neither_snapd_nor_its_decoder(site: Site) -> None:
    """What maps it must survive it within the units' limits, which forbid memory that is written and executed."""
    site.settle()
    snapd, decoder = site.host.show(SNAPD, "MainPID"), site.pid(TAKEN)
    with Load(site) as load:
        site.host.wait_for(lambda: len(load.asked) > 20, "snapd has all cameras' frames mapped")
        for size in ("4096", "0"):
            inode = site.host.path(SEGMENT).stat().st_ino
            site.host.must("truncate", "--size", size, SEGMENT)
            site.host.wait_for(
                lambda inode=inode: site.owner(TAKEN) and site.host.path(SEGMENT).stat().st_ino != inode,  # type: ignore[misc]
                "the decoder has made another",
            )
            site.host.wait_for(lambda: site.is_live(TAKEN), "it is live again")
    load.answers()
    assert (site.host.show(SNAPD, "MainPID"), site.pid(TAKEN)) == (snapd, decoder)
    for unit in (SNAPD, unit_name(TAKEN)):
        assert "will end this process" not in site.host.journal(unit)
    assert "was cut short and is made anew" in site.host.journal(unit_name(TAKEN))


def test_install_from_where_nobody_else_can_read_changes_nothing(site: Site) -> None:
    """As a virtual environment that was made with a umask of 077."""
    site.settle()
    unit = site.host.path("/etc/systemd/system/framesrv.slice")
    before = unit.read_text()
    unit.write_text("# of another version\n")
    place = site.host.path("/opt/framesrv")
    place.chmod(0o700)
    try:
        done = site.host.run("framesrv", "units", "install")
        assert done.returncode == 1
        assert "cannot be run as user nobody: Permission denied; everybody must be able to read it" in done.stderr
        assert unit.read_text() == "# of another version\n"
    finally:
        place.chmod(0o755)
        unit.write_text(before)
