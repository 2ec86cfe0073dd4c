"""Is this host well? What `framesrv health` says of hosts in trouble, and its exit status."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from framesrv import FrameWriter, __version__
from framesrv.process import report
from framesrv.process.report import Outcomes, ProcessReport, Report
from tests.support.processes import run, write_config

NOW = time.time()
FAILING = Outcomes(3, NOW, "403 AccessDenied: no", "refused", failed_lately=3)
GONE = "/nowhere/pictures"


class Looked:
    """A host with two cameras, a report of snapd, and what `framesrv health` says of it."""

    def __init__(self, place: Path, prefix: str) -> None:
        self.place, self.prefix = place, prefix
        self.config = write_config(
            place / "framesrv.toml",
            {"shm": {"prefix": prefix}},
            [{"code": code, "source": f"rtsp://user:sekret@192.0.2.1/{code}"} for code in ("cam-1", "cam-2")],
        )
        self.writers = [FrameWriter(code, 64, 48, "yuv420p", prefix=prefix) for code in ("cam-1", "cam-2")]
        for writer in self.writers:
            writer.active()
            writer.idle(64, 48, "yuv420p")

    def tell(self, **changes: object) -> None:
        well = Report(os.getpid(), __version__, NOW, joined=True, consumer="c", wanted_consumer="c", lag=0, pending=0)
        report.write(self.place / report.NAME, msgspec.structs.replace(well, **changes))

    def health(self, *options: str, timeout: float = 20.0) -> subprocess.CompletedProcess[str]:
        for writer in self.writers:
            writer.active()
        environment = {**os.environ, report.VARIABLE: str(self.place)}
        return run("framesrv", "health", "--config", self.config, *options, timeout=timeout, env=environment)


@pytest.fixture
def looked(tmp_path: Path, prefix: str) -> Iterator[Looked]:
    host = Looked(tmp_path, prefix)
    host.tell()
    yield host
    for writer in host.writers:
        writer.close()


def test_well_host_says_so_in_one_line_and_ends_with_0(looked: Looked) -> None:
    done = looked.health()
    assert (done.returncode, done.stderr) == (0, "")
    first, *others = done.stdout.splitlines()
    assert first == "well: snapd takes requests, 0 waiting, 0 in hand; 2 of 2 live"
    assert {line.split()[0] for line in others} == {"well"}
    assert len(others) <= 20


@pytest.mark.parametrize(
    ("told", "status", "first"),
    [
        ({"away": "refused", "status": "Redis away: refused"}, 2, "down: requests: Redis away: refused"),
        ({"joined": False, "status": "waiting for Redis"}, 2, "down: requests: waiting for Redis"),
        ({"hang": "a worker"}, 2, "down: requests: a worker of snapd hangs"),
        ({"pid": 2**22 + 1}, 2, "down: snapd: it has ended (pid 4194305), and nobody has started it again"),
        ({"uploads": FAILING}, 2, "down: store: it takes no pictures: 403 AccessDenied: no, 3 failed since "),
        (
            {"uploads": Outcomes(1, NOW, "time-out", "silent", ok_lately=9, failed_lately=1)},
            1,
            "impaired: store: it takes no pictures: time-out, 1 failed since ",
        ),
        (
            {"uploads": Outcomes(ok_lately=6, failed_lately=4, succeeded_at=NOW)},
            1,
            "impaired: store: 6 of 10 uploads of the last 5 minutes succeeded",
        ),
        ({"callbacks": FAILING}, 1, "impaired: callbacks: they fail, results go to their keys: 403 AccessDenied: no"),
        ({"strangers": "edge2 (4 cameras)"}, 1, "impaired: group: it is not this host's alone: edge2 (4 cameras)"),
        ({"unrouted": "no router reads it"}, 2, "down: router: no router reads it"),
        ({"consumer": "d"}, 1, "impaired: consumer: another snapd reads as c, this one as d: give each its own"),
        (
            {"lag": 101},
            1,
            "impaired: requests: snapd takes requests, 101 waiting, 0 in hand: more [snapshot] workers or processes",
        ),
        (
            {"processes": (ProcessReport(7), ProcessReport(0, "it has died, and is started again", 3))},
            1,
            "impaired: processes: 2 of 2: it has died, and is started again",
        ),
        ({"refused": True}, 1, "impaired: configuration: snapd was told to load one that is wrong"),
        ({"pages": "pages cannot listen on x"}, 1, "impaired: pages: pages cannot listen on x"),
        ({"ahead_of_store": -400.0, "uploads": FAILING}, 2, "down: clock: 400 s behind that of the store: set it"),
        ({"ahead_of_store": -400.0}, 1, "impaired: clock: 400 s behind that of the store: set it (NTP)"),
        ({"ahead_of_redis": 90.0}, 1, "impaired: clock: 90 s ahead of that of Redis: set it (NTP)"),
        ({"place": GONE, "free_bytes": 0, "size_bytes": 10**9}, 2, f"down: disk: 0 MB of 1000 MB free in {GONE}"),
        ({"place": GONE, "free_bytes": 10**7, "size_bytes": 10**9}, 1, "impaired: disk: 10 MB of 1000 MB free in"),
        ({"version": "0.0.1"}, 1, f"impaired: versions: snapd runs 0.0.1, {__version__} is installed"),
    ],
)
def test_first_line_names_the_cause_that_matters_most(
    looked: Looked, told: dict[str, object], status: int, first: str
) -> None:
    looked.tell(**told)
    done = looked.health()
    assert done.stdout.startswith(first), done.stdout
    assert done.returncode == status


def test_camera_that_is_away_impairs_a_host_and_all_of_them_bring_it_down(looked: Looked) -> None:
    one, other = looked.writers
    one.connecting()
    one.describe(error="the camera refuses the user or the password", cause="unauthorized", attempts=3)
    done = looked.health()
    wanted = "camera cam-1: connecting, attempt 3: the camera refuses the user or the password"
    assert (done.returncode, done.stdout.splitlines()[0]) == (1, f"impaired: {wanted}")
    other.close()
    done = looked.health()
    assert (done.returncode, done.stdout.splitlines()[0]) == (2, f"down: {wanted} (and 1 more)")
    assert "camera cam-2   down: no decoder runs" in done.stdout
    assert "sekret" not in done.stdout
    told = json.loads(looked.health("--json").stdout)
    assert (told["status"], told["state"], told["cause"]) == (2, "down", f"{wanted} (and 1 more)")
    assert {one["name"] for one in told["findings"] if one["status"] == 2} == {"camera cam-1", "camera cam-2"}


def test_camera_that_is_frozen_impairs_a_host_and_counts_as_live(looked: Looked) -> None:
    """Its pictures are served, and show what was there minutes ago."""
    now = time.monotonic_ns()
    for writer in looked.writers:
        with writer.next():
            pass
        writer.frozen(now - 300 * 10**9)
    done = looked.health()
    assert done.returncode == 1
    first, *others = done.stdout.splitlines()
    assert first == "impaired: camera cam-1: live: frozen: the same picture for 5 min (and 1 more)"
    assert "2 of 2 live" in "\n".join(others)


def test_many_cameras_that_are_away_still_fit_on_a_screen(looked: Looked) -> None:
    codes = [f"gone{number}" for number in range(60)]
    cameras = [{"code": code, "source": "rtsp://192.0.2.1/x"} for code in codes]
    write_config(looked.config, {"shm": {"prefix": looked.prefix}}, cameras)
    lines = looked.health().stdout.splitlines()
    assert len(lines) <= 24
    assert "50 more are not well: framesrv ls" in "\n".join(lines)


def test_configuration_that_is_wrong_is_told_by_key_and_line(looked: Looked) -> None:
    text = looked.config.read_text().replace("source", "sorce", 1)
    looked.config.write_text(text)
    done = looked.health()
    assert done.returncode == 2
    assert done.stdout.startswith(f"down: configuration: {looked.config}: ")
    assert "did you mean source?" in done.stdout.splitlines()[0]


def test_look_that_hangs_is_given_up_and_said(looked: Looked) -> None:
    looked.config.unlink()
    os.mkfifo(looked.config)
    done = looked.health(timeout=15.0)
    assert "unseen    configuration  no answer within 4 s" in done.stdout


def test_without_snapds_report_the_rest_is_told(looked: Looked) -> None:
    (looked.place / report.NAME).unlink()
    done = looked.health()
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "well: 2 of 2 live")
    assert "unseen    snapd" in done.stdout


def test_report_of_another_version_is_none(looked: Looked) -> None:
    (looked.place / report.NAME).write_text('{"pid": "x"}')
    assert "unseen    snapd" in looked.health().stdout


def test_health_needs_nothing_of_snapd() -> None:
    program = (
        "import sys\n"
        "import framesrv.host.health.examination\n"
        "assert not {name for name in sys.modules if name.split('.')[0] in ('snapd', 'redis', 'av', 'cv2')}\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
