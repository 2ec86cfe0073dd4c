"""framesrv as services of a real systemd: installed, killed, hung, stopped, removed.

One host is booted for each module; each test brings it to the cameras it needs.
"""

import io
import re
import time
import uuid
from collections.abc import Callable

import av
import pytest

from framesrv.host.units import ROUTER, environment
from framesrv.host.units.systemd import unit_name
from framesrv.process.retry import FREE
from framesrv.segment.owner import service_user
from tests.support.cos import StoredObject
from tests.support.edge import STREAM, Fields
from tests.support.footage import footage
from tests.support.held_up import HeldUp
from tests.support.site import ALL, CAMERAS, READ, ROUTE, SNAPD, SPARE, Load, Site, assert_without_a_gap
from tests.support.systemd import obstacle

OBSTACLE = obstacle()
UNITS = ("framesrv@.service", SNAPD, ROUTE, "framesrv-sweep.service", "framesrv.target", "framesrv.slice")
BACK = 5.0  # s that a killed decoder, or one whose camera returns, gets to be live: what operators are promised
GONE = 10.0  # s that everything gets to end
BEGUN, WAITS = "Started stream=", "starts before this one ended soon: waits"
AWAY = 60.0  # s without its camera, six times what the watchdog allows a decoder that hangs
pytestmark = [
    pytest.mark.skipif(bool(OBSTACLE), reason=f"no systemd can be booted here: {OBSTACLE}"),
    pytest.mark.timeout(180),
]


def test_unit_files_are_valid_and_hardened(site: Site) -> None:
    done = site.host.run("systemd-analyze", "verify", *(f"/etc/systemd/system/{name}" for name in UNITS))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    for unit in (unit_name(CAMERAS[0]), SNAPD, ROUTE, "framesrv-sweep.service"):
        told = site.host.must("systemd-analyze", "security", "--no-pager", unit)
        exposure = re.search(r"Overall exposure level for .*: ([0-9.]+) (?:OK|SAFE)", told)
        assert exposure is not None, told
        assert float(exposure[1]) <= 1.3, told


def test_install_again_changes_nothing(site: Site) -> None:
    files = [site.host.path(f"/etc/systemd/system/{name}") for name in UNITS]
    before = [file.stat().st_ctime_ns for file in files]
    assert "nothing to change" in site.host.must("framesrv", "units", "install")
    assert [file.stat().st_ctime_ns for file in files] == before
    assert "/opt/framesrv/bin/framesrv decode" in files[0].read_text()


def test_only_root_changes_units(site: Site) -> None:
    for command in ("install", "sync", "remove"):
        done = site.host.run("framesrv", "units", command, user="framesrv")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "framesrv: only root may do this: try it with sudo\n"


ENVIRONMENT = """
# a comment
; another

A=plain # not a comment
B="with a 'quote'"
  C = 'x=y'
D=
E=two words
F=p%40ss$word
"""


def test_environment_file_is_read_as_systemd_does(site: Site) -> None:
    """`framesrv units sync` must check what the services will get."""
    file = site.host.path("/etc/test.env")
    file.write_text(ENVIRONMENT)
    unit = "[Service]\nType=oneshot\nEnvironmentFile=/etc/test.env\nExecStart=/usr/bin/env\n"
    site.host.path("/etc/systemd/system/test.service").write_text(unit)
    site.host.must("systemctl", "start", "test.service")
    wanted = [f"{name}={value}" for name, value in environment.read(file).items()]
    assert len(wanted) == 6
    site.host.wait_for(lambda: "F=" in site.host.journal("test.service"), "it has said what it got")
    assert set(wanted) <= set(site.host.journal("test.service").splitlines())


def test_dry_run_says_what_sync_would_do_and_does_nothing(site: Site) -> None:
    site.configure()
    site.host.run("systemctl", "stop", SNAPD, *(unit_name(code) for code in ALL))
    said = site.sync("--dry-run")
    assert [line.split()[:2] for line in said.splitlines()] == [
        ["start", unit] for unit in [*(unit_name(code) for code in CAMERAS), SNAPD]
    ]
    assert site.segments() == []
    assert site.host.status()["cam-1"]["active"] == "inactive"


def test_cameras_are_live_and_requests_are_answered(site: Site) -> None:
    site.settle()
    with Load(site) as load:
        site.host.wait_for(lambda: len(load.asked) >= 30, "some requests")
    assert set(load.answers().values()) == {"ok"}
    rows = site.host.status()
    assert list(rows) == [*CAMERAS, "snapd"]
    for code in CAMERAS:
        row = rows[code]
        assert (row["unit"], row["active"], row["state"]) == (unit_name(code), "active", "live")
        site.host.wait_for(  # two snapshots at once may have had both slots when it was told
            lambda code=code: site.host.status()[code]["status"].startswith("live 640x360"),  # type: ignore[misc]
            f"{code} says so",
        )
    assert rows["snapd"]["status"].startswith("serving")


def test_clip_of_a_moment_is_made_within_the_limits_of_the_units(site: Site) -> None:
    """A history is read across users, and an MP4 made where the file system is read-only."""
    code = CAMERAS[0]
    site.write([{"code": code, "source": site.rtsp[code].url(code), "decode": "demand", "history": 5.0}])
    site.sync()
    client = site.redis.client()

    def stored(**wanted: str) -> StoredObject | None:
        """What comes of a request; None while the history is too short for it."""
        request, count = uuid.uuid4().hex, len(site.wvp.results)
        path = f"moment/{request}"
        fields: Fields = {"request_id": request, "camera_code": code, "cos_path": path, "callback_url": site.wvp.url}
        client.xadd(STREAM, fields | wanted)
        site.wvp.wait(count + 1, 30)
        return site.cos.objects.get(path)

    clip = site.host.wait_for(lambda: stored(clip="1,0.5"), "a clip")
    assert clip.content_type == "video/mp4"
    with av.open(io.BytesIO(clip.body), "r") as container:
        assert sum(1 for _ in container.decode(video=0)) > 25
    picture = site.host.wait_for(lambda: stored(at="-1"), "a picture of then")
    assert picture.content_type == "image/jpeg"
    done = site.host.run("snapd", "clip", code, "-o", "/tmp/a.mp4", "--before", "1", user="framesrv")
    assert done.returncode == 0, done.stderr


def test_decoder_and_snapd_run_as_users_who_can_do_nothing_else(site: Site) -> None:
    site.settle()
    users = {unit_name(code): service_user(code) for code in CAMERAS} | {SNAPD: "framesrv"}
    for unit, name in users.items():
        user = site.host.must("id", "-u", name).strip()
        pid = site.host.show(unit, "MainPID")
        status = dict(
            line.split(":\t", 1)
            for line in site.host.path(f"/proc/{pid}/status").read_text().splitlines()
            if ":\t" in line
        )
        assert set(status["Uid"].split()) == {user}
        assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")} == {"0" * 16}
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    command = site.host.path(f"/proc/{site.pid('cam-1')}/cmdline").read_bytes()
    environment = site.host.path(f"/proc/{site.pid('cam-1')}/environ").read_bytes()
    assert site.cos.secret_key.encode() not in command + environment, "a decoder is not given snapd's secrets"
    assert "is not bounded here" not in site.host.journal(unit_name("cam-1")), "it may bound what its stream costs"


def test_killed_decoder_is_live_again_and_nobody_else_notices(site: Site, held_up: HeldUp) -> None:
    site.settle()
    killed, *others = CAMERAS
    with Load(site) as load:
        site.host.wait_for(lambda: len(load.asked) >= 10, "some requests")
        before = {code: site.seen(code) for code in CAMERAS}
        site.host.kill(unit_name(killed), "SIGKILL")
        began = time.monotonic()
        site.host.wait_for(
            lambda: site.is_live(killed) and site.seen(killed).pid != before[killed].pid, "it is live again"
        )
        took = time.monotonic() - began
        site.host.wait_for(lambda: len(load.asked) >= 120, "some more")
        after = {code: site.seen(code) for code in CAMERAS}
    assert took < BACK + held_up.since(began)
    assert after[killed].inode == before[killed].inode, "its readers keep their segment"
    assert after[killed].seq > before[killed].seq
    for code in others:
        assert_without_a_gap(before[code], after[code])
    answers = load.answers()
    assert {answers[request] for request, code in load.asked.items() if code in others} == {"ok"}
    assert int(site.host.show(unit_name(killed), "NRestarts")) == 1


def test_hung_decoder_is_replaced_by_the_watchdog(site: Site) -> None:
    site.settle()
    hung, other = CAMERAS[1], CAMERAS[2]
    pid, before = site.pid(hung), site.seen(other)
    site.host.kill(unit_name(hung), "SIGSTOP")
    try:
        site.host.wait_for(lambda: site.pid(hung) not in (0, pid) and site.is_live(hung), "it has been replaced", 60)
    finally:
        site.host.kill(unit_name(hung), "SIGCONT")
    assert "watchdog" in site.host.journal(unit_name(hung)).lower()
    assert_without_a_gap(before, site.seen(other))


def test_snapd_that_is_killed_again_and_again_waits_and_says_so(site: Site) -> None:
    site.settle()

    def told(words: str) -> int:
        return site.host.journal(SNAPD).count(words)

    def begins_after(end: Callable[[], object]) -> None:
        before = told(BEGUN)
        end()
        site.host.wait_for(lambda: told(BEGUN) > before, "it begins again")

    begins_after(lambda: site.host.must("systemctl", "restart", SNAPD))  # so that the first one ends soon as well
    for _ in range(FREE + 1):
        begins_after(lambda: site.host.kill(SNAPD, "SIGKILL"))
    assert told(WAITS) == 1
    begins_after(lambda: site.host.must("systemctl", "restart", SNAPD))
    assert told(WAITS) == 1, "it was ended as it should be"


def test_decoder_of_an_absent_camera_is_healthy_and_says_so(site: Site) -> None:
    site.settle()
    code = CAMERAS[2]
    unit, pid = unit_name(code), site.pid(code)
    restarts = site.host.show(unit, "NRestarts")
    site.rtsp[code].stop()
    away = time.monotonic()
    try:
        wanted = re.compile(r"reconnecting, attempt [0-9]+: .*refused", re.IGNORECASE)
        site.host.wait_for(
            lambda: wanted.match(site.host.show(unit, "StatusText")) and time.monotonic() - away > AWAY,
            "it says so, and has been away for long",
            AWAY + 30,
        )
        assert (site.host.show(unit, "ActiveState"), site.pid(code)) == ("active", pid)
    finally:
        site.rtsp[code].start()
    site.host.wait_for(lambda: site.is_live(code), "it is live again", BACK)
    assert (site.pid(code), site.host.show(unit, "NRestarts")) == (pid, restarts)


WRITE = """
import mmap, os
path = "/dev/shm/framesrv.cam-1"
try:
    os.open(path, os.O_RDWR)
except PermissionError as error:
    print(error.strerror)
with open(path, "rb") as file:
    try:
        mmap.mmap(file.fileno(), 4096, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    except PermissionError as error:
        print(error.strerror)
for act in (os.unlink, lambda path: os.chmod(path, 0o666), lambda path: os.truncate(path, 0)):
    try:
        act(path)
    except PermissionError as error:
        print(error.strerror)
"""


def test_members_of_the_group_read_frames_and_nobody_else_does(site: Site) -> None:
    site.settle()
    for user, group in (("reader", "framesrv"), ("outsider", "nogroup")):
        site.host.path("/etc/sysusers.d/test.conf").write_text(f"u {user} -\nm {user} {group}\n")
        site.host.must("systemd-sysusers", "/etc/sysusers.d/test.conf")
    assert site.host.must("python", "-c", READ, user="reader") == "640 360\n"
    refused = ["Permission denied"] * 2 + ["Operation not permitted"] * 2 + ["Permission denied"]
    assert site.host.must("python", "-c", WRITE, user="reader").splitlines() == refused
    done = site.host.run("python", "-c", READ, user="outsider")
    assert done.returncode == 1
    assert "cannot be read: Permission denied; readers must be in the segment's group" in done.stderr
    done = site.host.run("cat", "/etc/framesrv/framesrv.toml", user="reader")
    assert done.returncode != 0, "who may read frames may not read the cameras' passwords"


def test_reader_in_a_container_needs_its_shared_memory_only_read_only(site: Site) -> None:
    site.settle()
    mounted = "mount -o remount,bind,ro /dev/shm && ! touch /dev/shm/x 2>/dev/null && exec python -c"
    assert site.host.must("unshare", "--mount", "sh", "-c", f'{mounted} "$1"', "sh", READ) == "640 360\n"


def test_check_says_that_a_containers_shared_memory_is_too_small(site: Site) -> None:
    site.write([{"code": f"test{number}", "source": "test:1920x1080@5"} for number in range(11)])
    mounted = "mount -t tmpfs -o size=64m tmpfs /dev/shm && exec framesrv check --config /etc/framesrv/framesrv.toml"
    done = site.host.run("unshare", "--mount", "sh", "-c", mounted)
    assert done.returncode == 1
    assert re.search(r"WRONG +shared memory: [0-9]+ bytes needed for 11 cameras, 67108864 free", done.stdout)
    assert "--shm-size for a container" in done.stdout


def test_every_kind_of_source_works_within_the_units_limits(site: Site) -> None:
    site.host.path("/srv").mkdir(exist_ok=True)
    for codec in ("h264", "hevc", "mjpeg"):
        site.host.path(f"/srv/{codec}").write_bytes(footage(codec=codec, width=640, height=360).read_bytes())
    kinds = {
        "file": {"source": "/srv/h264"},
        "hevc": {"source": "/srv/hevc"},
        "mjpeg-bgr": {"source": "/srv/mjpeg", "pixel_format": "bgr24"},
        "opencv": {"source": "opencv:/srv/h264"},
        "keyframes": {"source": site.rtsp[SPARE].url(SPARE), "decode": "keyframes"},
        "udp": {"source": site.rtsp[SPARE].url(SPARE), "transport": "udp"},
        "demand": {"source": site.rtsp[SPARE].url(SPARE), "decode": "demand"},  # sync itself asks for a frame
        "device": {"source": site.rtsp[SPARE].url(SPARE), "hwaccel": "cuda"},  # there is none
    }
    site.write([{"code": code, **keys} for code, keys in kinds.items()])
    site.sync()
    for code in kinds:
        site.host.wait_for(lambda code=code: site.is_live(code), f"{code} is live")  # type: ignore[misc]
    assert {row["restarts"] for row in site.host.status().values()} == {0}


def test_segments_survive_the_end_of_any_one_unit(site: Site) -> None:
    site.settle()
    before = site.seen(CAMERAS[1])
    site.host.must("systemctl", "stop", unit_name(CAMERAS[0]), SNAPD)
    assert site.segments() == sorted(f"framesrv.{code}" for code in CAMERAS[1:])
    assert_without_a_gap(before, site.seen(CAMERAS[1]))


def test_stopped_target_leaves_nothing(site: Site, held_up: HeldUp) -> None:
    """Not of a decoder that hangs, nor of one that has just been killed."""
    site.settle()
    site.host.kill(unit_name(CAMERAS[0]), "SIGSTOP")
    site.host.kill(unit_name(CAMERAS[1]), "SIGKILL")
    began = time.monotonic()
    site.host.must("systemctl", "stop", "framesrv.target")
    site.host.wait_for(
        lambda: not site.segments() and not site.host.processes(),
        "nothing is left",
    )
    assert time.monotonic() - began < GONE + held_up.since(began)
    site.host.must("systemctl", "start", "framesrv.target")
    site.host.wait_for(lambda: all(site.is_live(code) for code in CAMERAS), "all is back")


def test_forty_cameras_are_live_in_a_minute(
    site: Site, record_testsuite_property: Callable[[str, object], None], held_up: HeldUp
) -> None:
    codes = [f"test{number:02}" for number in range(40)]
    site.write([{"code": code, "source": "test:320x240@5"} for code in codes])
    began = time.monotonic()
    site.sync()
    site.host.wait_for(lambda: all(site.is_live(code) for code in codes), "all are live", 100)
    took, late = time.monotonic() - began, held_up.since(began)
    private = []
    for code in codes:
        rollup = site.host.path(f"/proc/{site.pid(code)}/smaps_rollup").read_text()
        private.append(int(re.search(r"^Pss: +([0-9]+) kB", rollup, re.MULTILINE)[1]))  # type: ignore[index]
    record_testsuite_property("live_after_s", took)
    record_testsuite_property("mean_pss_kb", sum(private) / len(private))
    assert took < 60 + late


def test_remove_leaves_the_configuration_alone(site: Site) -> None:
    site.settle()
    site.host.must("framesrv", "units", "remove")
    assert site.segments() == []
    assert site.host.processes() == []
    assert list(site.host.path("/etc").glob("*.d/framesrv*")) == []
    assert list(site.host.path("/etc/systemd/system").rglob("framesrv*")) == []
    assert site.host.must("systemctl", "list-units", "--all", "--no-legend", "framesrv*") == ""
    assert {name for name in site.host.users() if name.startswith("framesrv")} == {"framesrv", ROUTER}
    left = sorted(file.name for file in site.host.path("/etc/framesrv").iterdir())
    assert left == ["framesrv.env", "framesrv.toml"]
    assert site.host.path("/etc/framesrv/framesrv.toml").stat().st_size
