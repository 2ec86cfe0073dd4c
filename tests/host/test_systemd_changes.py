"""What changes on a host with services: its configuration, and framesrv itself."""

import json
import os
import time
from collections.abc import Sequence

import pytest
import requests
import simplejpeg

from framesrv.host.units.systemd import unit_name
from framesrv.segment import layout
from framesrv.segment.owner import service_user
from tests.support.ports import free_port
from tests.support.site import (
    CAMERAS,
    READ,
    SNAPD,
    SPARE,
    Load,
    Site,
    assert_without_a_gap,
    upgrade,
    upgrade_dependency,
)
from tests.support.systemd import obstacle

OBSTACLE = obstacle()
pytestmark = [
    pytest.mark.skipif(bool(OBSTACLE), reason=f"no systemd can be booted here: {OBSTACLE}"),
    pytest.mark.timeout(180),
]


def test_sync_touches_only_what_has_changed(site: Site) -> None:
    site.settle()
    kept, changed, removed = CAMERAS
    before = site.seen(kept)
    pids = {code: site.pid(code) for code in CAMERAS}
    snapd = site.host.show(SNAPD, "MainPID")
    site.write(
        [
            {"code": kept, "source": site.rtsp[kept].url(kept), "timeout": 3.0},
            {"code": changed, "source": site.rtsp[changed].url(changed), "timeout": 3.0, "slots": 3},
            {"code": SPARE, "source": site.rtsp[SPARE].url(SPARE).replace("127.0.0.1", "localhost")},
        ]
    )
    said = [line.split()[:2] for line in site.sync().splitlines()]
    assert said[:-1] == [
        ["stop", unit_name(removed)],
        ["start", unit_name(SPARE)],
        ["restart", unit_name(changed)],
        ["reload", SNAPD],
    ]
    assert_without_a_gap(before, site.seen(kept))
    assert site.is_live(SPARE)
    assert site.pid(changed) != pids[changed]
    assert site.host.show(SNAPD, "MainPID") == snapd
    assert site.segments() == sorted(f"framesrv.{code}" for code in (kept, changed, SPARE))
    links = site.host.path("/etc/systemd/system/framesrv.target.wants")
    assert sorted(link.name for link in links.iterdir()) == sorted(
        [SNAPD, *(unit_name(code) for code in (kept, changed, SPARE))]
    )
    assert site.sync().splitlines() == ["nothing to do: 3 cameras and snapd; 4 units left alone"]


def test_sync_knows_what_a_unit_runs_with_whoever_started_it(site: Site) -> None:
    """A unit that was restarted by hand with another copy, then put back, runs with what is not configured."""
    site.settle()
    tried, killed = CAMERAS[:2]
    copy = site.host.path(f"/etc/framesrv/applied/cameras/{tried}.json")
    applied = copy.read_text()
    copy.write_text(json.dumps(json.loads(applied) | {"shm": {"group": "framesrv", "mode": "0644"}}))
    site.host.must("systemctl", "restart", unit_name(tried))
    copy.write_text(applied)
    pid = site.pid(killed)
    site.host.kill(unit_name(killed), "SIGKILL")
    site.host.wait_for(lambda: site.pid(killed) not in (0, pid), "the other has been started again")
    assert [line.split()[:2] for line in site.sync().splitlines()[:-1]] == [["restart", unit_name(tried)]]


def test_snapd_is_restarted_only_for_what_it_cannot_load_again(site: Site) -> None:
    site.settle()
    pid = site.host.show(SNAPD, "MainPID")
    site.configure(snapshot={"quality": 70})
    assert f"reload   {SNAPD}" in site.sync()
    assert site.host.show(SNAPD, "MainPID") == pid
    site.configure(snapshot={"quality": 70, "workers": 4})
    assert f"restart  {SNAPD}" in site.sync()
    assert site.host.show(SNAPD, "MainPID") != pid


def test_snapd_of_several_processes_is_one_service(site: Site) -> None:
    site.settle()
    both = "2 answer requests"

    def pids() -> set[int]:
        found = {pid for pid in site.host.processes() if "snapd.processes" in site.host.command(pid)}
        return found if len(found) == 2 else set()

    with Load(site) as load:
        site.configure(snapshot={"processes": 2})
        assert f"restart  {SNAPD}" in site.sync()
        site.host.wait_for(lambda: both in site.host.run("framesrv", "health").stdout, "both run")
        main, before = site.host.show(SNAPD, "MainPID"), pids()
        site.configure(snapshot={"processes": 2, "quality": 61})
        assert f"reload   {SNAPD}" in site.sync()
        assert (site.host.show(SNAPD, "MainPID"), pids()) == (main, before)
        site.host.must("systemctl", "restart", SNAPD)  # which tells all of its processes to end
        count = len(load.asked)
        site.host.wait_for(lambda: len(load.asked) >= count + 10, "some requests")
    assert set(load.answers().values()) == {"ok"}
    before = site.host.wait_for(pids, "both run")
    assert site.host.status()["snapd"]["status"].endswith("; 2 processes")
    site.host.must("kill", "-KILL", str(min(before)))
    site.host.wait_for(lambda: pids() and pids() != before, "there are two again")
    again = f"{both}; started again: 1"
    site.host.wait_for(lambda: again in site.host.run("framesrv", "health").stdout, "it is said")


def test_pages_are_shown_and_give_way_to_snapshots(site: Site) -> None:
    site.settle()
    address = f"127.0.0.1:{free_port()}"
    site.configure(http={"listen": address})
    assert f"restart  {SNAPD}" in site.sync()

    def get(path: str) -> requests.Response | None:
        try:
            return requests.get(f"http://{address}{path}", timeout=5)
        except requests.ConnectionError:
            return None

    ready = site.host.wait_for(lambda: (found := get("/readyz")) is not None and found.ok and found, "they are there")
    assert ready.status_code == 200
    picture = get(f"/cameras/{CAMERAS[0]}.jpg")
    assert picture is not None
    assert simplejpeg.decode_jpeg_header(picture.content)[:2] == (360, 640)
    metrics = get("/metrics")
    assert metrics is not None
    assert f'framesrv_camera_state{{camera="{CAMERAS[0]}",state="live"}} 1.0' in metrics.text
    pages = [pid for pid in site.host.processes() if "snapd.pages" in site.host.command(pid)]
    assert len(pages) == 1
    nice = int(site.host.path(f"/proc/{pages[0]}/stat").read_text().rpartition(")")[2].split()[16])
    assert nice > 0


def test_reload_under_load_loses_no_request(site: Site) -> None:
    site.settle()
    pid = site.host.show(SNAPD, "MainPID")
    with Load(site) as load:
        for number in range(5):
            site.configure(snapshot={"quality": 60 + number})
            count = len(load.asked)
            site.host.must("systemctl", "reload", SNAPD)
            site.host.wait_for(lambda count=count: len(load.asked) >= count + 10, "some requests")  # type: ignore[misc]
    assert set(load.answers().values()) == {"ok"}
    assert site.host.show(SNAPD, "MainPID") == pid
    assert site.host.journal(SNAPD).count("Reloaded") >= 5


def test_wrong_configuration_is_refused_before_anything_is_touched(site: Site) -> None:
    site.settle()
    pids = {code: site.pid(code) for code in CAMERAS}
    site.configure(CAMERAS[:1], snapshot={"quality": 101})
    done = site.host.run("framesrv", "units", "sync")
    assert done.returncode == 2
    assert "snapshot.quality: expected a whole number from 1 to 100" in done.stderr
    site.configure(CAMERAS[:1], redis={"url": f"redis://127.0.0.1:{free_port()}/0"})
    done = site.host.run("framesrv", "units", "sync")
    assert done.returncode == 1
    assert "redis: " in done.stderr
    assert "nothing was changed" in done.stderr
    site.configure(CAMERAS[:1], store={"kind": "dir", "path": "/srv/pictures"})
    assert "/srv/pictures" in site.host.run("framesrv", "units", "sync").stderr
    assert {code: site.pid(code) for code in CAMERAS} == pids


def test_wrong_configuration_is_not_tried_again_and_again(site: Site) -> None:
    site.settle()
    unit = unit_name(CAMERAS[0])
    site.host.path(f"/etc/framesrv/applied/cameras/{CAMERAS[0]}.json").write_text('{"camera": [{"nonsense": 1}]}')
    site.host.run("systemctl", "restart", unit)
    site.host.wait_for(lambda: site.host.show(unit, "ActiveState") == "failed", "it has failed")
    assert site.host.show(unit, "ExecMainStatus") == "2"
    assert site.host.show(unit, "NRestarts") == "0"
    assert f"start    {unit}" in site.sync()
    assert site.is_live(CAMERAS[0])


def test_unit_of_no_configured_camera_is_not_even_begun(site: Site) -> None:
    site.settle()
    unit = unit_name("nowhere")
    assert "Assertion failed" in site.host.run("systemctl", "start", unit).stderr
    assert site.host.show(unit, "ActiveState") == "inactive"
    assert site.host.show(unit, "NRestarts") == "0"
    assert "nowhere" not in site.host.status()


# s at most between a decoder's first frame, which sync waits for, and its line about it. From being ready to that
# frame takes longer, so a sync that waits for no frame is noticed.
SAID_LATER = 0.15


def sync_after_upgrade(site: Site, codes: Sequence[str]) -> None:
    """Every unit is restarted, and each of the usual cameras is live before the next is stopped."""
    pids = {code: site.pid(code) for code in codes}
    since = site.host.must("date", "+%s.%N").strip()
    said = site.sync().splitlines()
    assert [line.split()[:2] for line in said[:-1]] == [
        ["restart", unit] for unit in [*(unit_name(code) for code in codes), SNAPD]
    ]
    for code in codes:
        assert site.pid(code) not in (0, pids[code])
    entries = site.host.must("journalctl", "--output=json", f"--since=@{since}")
    events: list[tuple[float, str, bool]] = []  # when, which unit, whether it is live
    for entry in map(json.loads, entries.splitlines()):
        unit, at = entry.get("UNIT") or entry.get("_SYSTEMD_UNIT"), int(entry["__MONOTONIC_TIMESTAMP"]) / 1e6
        if unit in {unit_name(code) for code in CAMERAS}:
            if str(entry["MESSAGE"]).startswith("Stopping "):
                events.append((at, unit, False))
            elif "live 640x360" in str(entry["MESSAGE"]):
                events.append((at - SAID_LATER, unit, True))
    stopped: list[str] = []
    live: list[str] = []
    for _, unit, is_live in sorted(events):
        if not is_live:
            assert live == stopped, f"{unit} is stopped before the one before it is live again"
        (live if is_live else stopped).append(unit)
    assert live == stopped == [unit_name(code) for code in CAMERAS]
    assert site.sync().splitlines() == [
        f"nothing to do: {len(codes)} cameras and snapd; {len(codes) + 1} units left alone"
    ]


def test_upgrade_restarts_decoders_one_at_a_time(site: Site) -> None:
    """One camera is absent and does not hold the others up."""
    site.settle()
    absent = {"code": "absent", "source": f"rtsp://127.0.0.1:{free_port()}/absent"}
    present = [{"code": code, "source": site.rtsp[code].url(code), "timeout": 3.0} for code in CAMERAS]
    site.write([absent, *present])
    done = site.host.run("framesrv", "units", "sync")
    assert done.returncode == 1
    assert "camera absent: its decoder has no picture yet" in done.stderr
    upgrade(site)
    sync_after_upgrade(site, ["absent", *CAMERAS])


def test_upgrade_of_pyav_alone_restarts_what_runs_with_the_old_one(site: Site) -> None:
    site.settle()
    upgrade_dependency(site, "av", "99.0")
    try:
        started = CAMERAS[0]
        pid = site.pid(started)
        site.host.kill(unit_name(started), "SIGKILL")
        site.host.wait_for(lambda: site.pid(started) not in (0, pid) and site.is_live(started), "it is live again")
        others = [*CAMERAS[1:], "snapd"]
        rows = site.host.status()
        assert {code: row["changed"] for code, row in rows.items()} == {
            started: [],
            **{code: ["av"] for code in others},
        }
        assert "av changed: `framesrv units sync` restarts it" in site.host.must("framesrv", "units", "status")
        said = site.sync("--dry-run").splitlines()
        assert [line.split(maxsplit=2)[0] for line in said].count("restart") == len(others)
        assert sum("(changed since it was started: av)" in line for line in said) == len(others)
        units = [*(unit_name(code) for code in CAMERAS[1:]), SNAPD]
        assert [line.split()[:2] for line in site.sync().splitlines()[:-1]] == [["restart", unit] for unit in units]
        assert site.sync().splitlines() == ["nothing to do: 3 cameras and snapd; 4 units left alone"]
        assert all(row["changed"] == [] for row in site.host.status().values())
    finally:
        upgrade_dependency(site, "av", None)
    sync_after_upgrade(site, CAMERAS)


# What the units of 0.1.0 said, in which all was the user `framesrv` and read the file that people edit.
FORMER = (
    ("User=framesrv-%I", "User=framesrv\nGroup=framesrv\nEnvironmentFile=-/etc/framesrv/framesrv.env"),
    ("/etc/framesrv/applied/cameras/%I.json", "/etc/framesrv/framesrv.toml"),
    ("/etc/framesrv/applied/snapd.json", "/etc/framesrv/framesrv.toml"),
    ("/etc/framesrv/applied/snapd.env", "/etc/framesrv/framesrv.env"),
)


def test_host_whose_decoders_were_one_user_is_brought_over(site: Site) -> None:
    """By `install` and `sync` alone; also a decoder that dies between the two, or left its segment."""
    site.settle()
    host = site.host
    units = [host.path(f"/etc/systemd/system/{name}") for name in ("framesrv@.service", SNAPD)]
    host.must("framesrv", "units", "remove")
    host.must("framesrv", "units", "install")
    for file in units:
        text = file.read_text()
        for new, old in FORMER:
            text = text.replace(new, old)
        file.write_text(text)
    host.must("rm", "-r", "/etc/framesrv/applied")
    # the second for this version's decoders, which read both
    host.must("chown", "framesrv", "/etc/framesrv/framesrv.toml", "/etc/framesrv/framesrv.env")
    host.must("systemctl", "daemon-reload")
    names = [unit_name(code) for code in CAMERAS]
    host.must("systemctl", "enable", "--now", *names, SNAPD, "framesrv.target")
    former = host.users()["framesrv"]
    host.wait_for(
        lambda: [site.owner(code) for code in CAMERAS] == [former] * len(CAMERAS), "they are what they were"
    )
    host.kill(names[1], "SIGKILL")
    host.must("systemctl", "stop", names[1])

    site.configure((*CAMERAS, SPARE))  # with one that has no unit yet
    host.must("chown", "framesrv", "/etc/framesrv/framesrv.toml")
    host.must("framesrv", "units", "install")
    host.kill(names[0], "SIGKILL")
    host.must("framesrv", "start", CAMERAS[1])  # which sync would respect as stopped by hand
    users = host.wait_for(lambda: site.is_live(CAMERAS[0]) and host.users(), "the one that died is live again")
    assert site.owner(CAMERAS[0]) == users[service_user(CAMERAS[0])]
    assert f"start    {unit_name(SPARE)}" in site.sync()
    users = host.users()
    for code in (*CAMERAS, SPARE):
        host.wait_for(lambda code=code: site.is_live(code), f"{code} is live")  # type: ignore[misc]
        assert site.owner(code) == users[service_user(code)]
    for name in ("framesrv.toml", "framesrv.env"):
        status = host.path(f"/etc/framesrv/{name}").stat()
        assert (status.st_uid, status.st_mode & 0o777) == (0, 0o600)
    with Load(site) as load:
        host.wait_for(lambda: len(load.asked) >= 6, "some requests")
    assert set(load.answers().values()) == {"ok"}
    assert "5 units left alone" in site.sync()


def test_new_layout_beside_an_old_one_is_refused_and_healed_by_sync(site: Site) -> None:
    site.settle()
    upgrade(site, layout_version=layout.VERSION + 1)
    try:
        done = site.host.run("python", "-c", READ)
        assert done.returncode == 1
        old, new = layout.VERSION, layout.VERSION + 1
        assert f"its layout is version {old}, this framesrv reads version {new}: run the same version" in done.stderr
        beside = site.host.run("framesrv", "decode", "--config", "/etc/framesrv/framesrv.toml", "--", "cam-1")
        assert beside.returncode == 1
        assert "framesrv.cam-1 already has a live writer" in beside.stderr
        sync_after_upgrade(site, CAMERAS)
        assert site.host.must("python", "-c", READ) == "640 360\n"
        with Load(site) as load:
            site.host.wait_for(lambda: len(load.asked) >= 6, "some requests")
        assert set(load.answers().values()) == {"ok"}
    finally:
        upgrade(site)
    sync_after_upgrade(site, CAMERAS)


def test_starting_waits_for_no_redis_and_sync_says_what_it_did_not_wait_for(site: Site) -> None:
    site.settle()
    site.redis.stop()
    try:
        site.host.must("systemctl", "restart", "framesrv.target", timeout=30)
        site.host.must("systemctl", "start", SNAPD, timeout=30)  # returns, as the boot would go on
        status = site.host.wait_for(
            lambda: (text := site.host.show(SNAPD, "StatusText")).startswith("waiting for Redis: ") and text,
            "it says what it waits for",
        )
        assert "refused" in status
        refused = site.host.run("framesrv", "units", "sync", timeout=60)
        assert refused.returncode == 1
        assert "nothing was changed" in refused.stderr
        site.configure(stream={"consumer": "another"})
        forced = site.host.run("framesrv", "units", "sync", "--force", timeout=60)
        assert forced.returncode == 1
        assert f"{SNAPD} runs and does not serve yet, which was not waited for: waiting for Redis" in forced.stderr
    finally:
        site.redis.start()
    site.host.wait_for(lambda: site.host.show(SNAPD, "StatusText").startswith("serving"), "it serves")


def test_pictures_in_a_directory_go_after_their_days_within_the_units_limits(site: Site) -> None:
    site.settle()
    store: dict[str, object] = {"kind": "dir", "path": "/var/lib/framesrv/pictures"}
    site.configure(store=store)
    site.sync()
    with Load(site) as load:
        site.host.wait_for(lambda: len(load.asked) >= 6, "some requests")
    assert set(load.answers().values()) == {"ok"}
    pictures = sorted(site.host.path("/var/lib/framesrv/pictures/snap").iterdir())
    old, young = pictures[:3], pictures[3:]
    for one in old:
        os.utime(one, (time.time() - 8 * 86400,) * 2)
    site.configure(store=store | {"keep": 7})
    assert f"reload   {SNAPD}" in site.sync()
    site.host.wait_for(lambda: not any(one.exists() for one in old), "the old ones are gone")
    assert all(one.exists() for one in young)
    words = "Removed the oldest pictures count=3"
    site.host.wait_for(lambda: words in site.host.journal(SNAPD), "it is said, once they are gone")
