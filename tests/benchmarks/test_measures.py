"""Every benchmark measures what it says, in little; how fast things are is not asserted."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measures import (
    decode,
    fleet,
    flood,
    history,
    idle,
    inference,
    load,
    plot,
    processes,
    readers,
    scale,
    snapshot,
    video,
)
from benchmarks.measures.backend import open_backend
from benchmarks.measures.charts import Bars, Lines
from benchmarks.measures.cpu_meter import CpuMeter
from benchmarks.measures.host import Camera, Host
from benchmarks.measures.load import Trial
from benchmarks.measures.process import BenchmarkError, Memory
from benchmarks.measures.stages import STAGES, Samples
from benchmarks.measures.table import Report, render
from tests.support.footage import Codec, footage
from tests.support.processes import ROOT, wait_for
from tests.support.redis_server import RedisServer

BRIEFLY = 0.3  # s
STALLED = 0.5  # s without a frame


@pytest.fixture
def in_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few cameras of small pictures, few requests, short waits."""

    def small(codec: Codec = "h264") -> Path:
        return footage(codec, 640, 360, video.FPS, frames=100, gop=video.GOP)

    little: dict[Any, dict[str, Any]] = {
        video: {"path": small},
        decode: {"CODECS": ("h264",), "SETTLING": 0.1, "ASKED_EVERY": 1.0, "ASKED_AFTER": 0.0},
        snapshot: {
            "CAMERAS": ["camera1"],
            "IDLE": ["idle1"],
            "AT_LEAST": 2,
            "BLOCK": 2,
            "SAMPLE": 2,
            "BURST": 4,
            "BURSTS": 1,
            "STALE": 0.1,
            "UPLOAD_DELAY": 0.0,
            "CALLBACK_DELAY": 0.0,
        },
        flood: {"CAMERAS": ["small1"], "WARM": 4},
        processes: {"CAMERAS": ["small1"], "PROCESSES": (1, 2)},
        scale: {"MOST": 2, "FEW": 1, "WINDOW": 4.0, "POLICIES": (scale.PolicyCase("demand", 0, rate=4.0),)},
        idle: {
            "CAMERAS": (1, 2),
            "FIXED": 2,
            "RATES": (4.0,),
            "RATE": 4.0,
            "WANTED": ((2, 4.0),),
            "BESIDE": (2, 4.0),
        },
        load: {"SETTLING": 0.1},
        readers: {"READERS": (1,), "CAMERAS": (2,), "WAYS": {"frames": readers.WAYS["frames"]}},
        history: {"CODECS": ("h264",), "SETTLING": 0.1, "AGO": 1.0, "PACKETS": 2000},
    }
    for module, values in little.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


def check(report: Report) -> dict[str, Any]:
    """The report as JSON, every figure of which has a value and something beside it."""
    found: dict[str, Any] = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert found["figures"]
    for figure in found["figures"]:
        assert figure["value"] >= 0
        assert figure["beside"]
    assert report.name in render([report])
    return found


@pytest.mark.usefixtures("in_little")
def test_history_is_compared_with_none_and_frames_of_then_with_the_same_by_hand() -> None:
    found = check(history.run(BRIEFLY))
    names = [figure["name"] for figure in found["figures"]]
    assert any("on demand" in name for name in names)
    assert any("a frame of 1 s ago" in name for name in names)
    (torn,) = (figure for figure in found["figures"] if figure["name"] == "torn packets")
    assert torn["value"] == 0
    assert torn["beside_value"] > 0
    (taken,) = (figure for figure in found["figures"] if figure["name"].startswith("bytes"))
    assert taken["value"] <= taken["beside_value"]


@pytest.mark.usefixtures("in_little")
def test_decode_compares_every_policy_with_other_ways() -> None:
    found = check(decode.run(BRIEFLY))
    compared = {(figure["name"], figure["beside"]) for figure in found["figures"]}
    for one in (comparison for comparisons in decode.ROUNDS for comparison in comparisons):
        if "ffmpeg" not in one.beside:
            assert (f"H.264, {one.ours}", one.beside) in compared
    assert all(figure["value"] > 0 for figure in found["figures"])


@pytest.mark.usefixtures("in_little")
def test_readers_of_every_kind_are_compared() -> None:
    """In no time at all: on a busy machine less than two frames came in the time, of which there is no median."""
    found = check(readers.run(0.0))
    compared = {(figure["name"].partition(":")[0], figure["beside"]) for figure in found["figures"]}
    expected = {("1 reader, frames, Python", one) for one in ("bare futex", "multiprocessing.Queue", "a Unix socket")}
    expected |= {("2 cameras, FrameSet", "a thread a camera"), ("2 cameras, asyncio", "a thread a camera")}
    if readers.NO_COMPILER not in found["notes"]:
        expected.add(("1 reader, frames, C", "bare futex"))
    assert expected <= compared
    assert all(figure["value"] > 0 for figure in found["figures"])


@pytest.mark.usefixtures("in_little")
def test_example_of_the_documents_looks_at_three_cameras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "ROUNDS", 1)
    found = check(inference.run(1.0))
    assert all(figure["value"] > 0 and figure["beside_value"] > 0 for figure in found["figures"])


@pytest.mark.usefixtures("in_little")
def test_several_processes_stand_beside_one() -> None:
    found = check(processes.run(BRIEFLY))
    names = {figure["name"] for figure in found["figures"]}
    assert {"2 processes, requests answered", "2 processes, CPU time of each request"} <= names
    assert all(figure["value"] > 0 and figure["beside_value"] > 0 for figure in found["figures"])


@pytest.mark.usefixtures("in_little")
def test_snapshot_tells_every_stage_beside_every_way() -> None:
    found = check(snapshot.run(BRIEFLY))
    names = {figure["name"] for figure in found["figures"]}
    assert {f"{stage}, p99" for stage in STAGES[:-1]} <= names
    assert {"request to callback, p50", "idle camera on demand, p50", "served, 8 workers"} <= names
    assert {"flood of 640x360, CPU time each", "the same, served by one core"} <= names
    bars = found["charts"][0]
    assert list(bars["parts"]) == list(STAGES)
    assert all(len(values) == len(bars["bars"]) for values in bars["parts"].values())
    upload = bars["parts"]["upload"]
    assert all(value > 0 for value in upload)


@pytest.mark.usefixtures("in_little")
def test_scale_carries_what_is_little() -> None:
    found = check(scale.run(BRIEFLY))
    figures = {figure["name"]: figure for figure in found["figures"]}
    assert figures["demand: cameras carried"]["value"] == 2, found["notes"]
    assert figures["demand: their snapshots, p99"]["value"] > 0
    assert figures["demand: shared memory"]["value"] > 0
    assert [cameras for cameras, _ in found["charts"][0]["lines"]["demand"]] == [1, 2]


@pytest.mark.usefixtures("in_little")
def test_idle_cameras_are_asked_as_they_are_and_as_they_were() -> None:
    found = check(idle.run(BRIEFLY))
    figures = {figure["name"].partition(" of ")[0]: figure for figure in found["figures"]}
    for cameras in (1, 2):
        name = f"{cameras} idle cameras, 4 snapshots/s: "
        assert figures[f"{name}answered"]["value"] > 1
        assert 0 < figures[f"{name}p50"]["value"] <= figures[f"{name}p99"]["value"]
    assert figures["2 idle cameras, 4 snapshots/s: answered"]["target"], found["notes"]
    assert "as before" in figures["2 idle cameras, 4 snapshots/s: p99"]["beside"]
    assert sum("RTSP server" in note for note in found["notes"]) == 3, found["notes"]
    assert [x for x, _ in found["charts"][0]["lines"]["p99"]] == [1, 2]


@pytest.mark.usefixtures("in_little")
def test_cameras_whose_stream_stalls_are_not_carried(tmp_path: Path) -> None:
    with (
        open_backend(tmp_path) as backend,
        Host(tmp_path, [Camera("camera1"), Camera("camera2")]) as host,
        load.Load(host, backend, video.FPS, "all") as two,
    ):
        two.resize(2)
        host.stall()
        wait_for(lambda: all((host.status(code).age_s or 0) > STALLED for code in two.pids), "the streams stalled")
        failures = " ".join(two.trial(1.0, 0.0).failures)
    assert "2 cameras published too little" in failures
    assert "2 cameras did not get all of their stream" in failures


def test_fleet_counts_deliveries_with_a_router_and_without(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as server:
        there = fleet.Fleet(tmp_path, server)
        routed = there.trial(3, 30.0, 1.0, routed=True)
        grouped = there.trial(3, 30.0, 1.0, routed=False)
    assert (routed.deliveries, grouped.deliveries) == (2, 3)
    assert (routed.unanswered, grouped.unanswered) == (0, 0)
    assert routed.quantile(99) > 0
    assert min(routed.nbytes, grouped.nbytes) > 100


def test_what_lies_unread_in_a_connection_is_seen() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
        server.accept()[0] as connection,
    ):
        port, its = server.getsockname()[1], client.getsockname()[1]
        assert load.unread(port) == {its: 0}
        connection.sendall(b"x" * 1000)
        wait_for(lambda: load.unread(port) == {its: 1000}, "1000 bytes unread")
        client.recv(1000)
        wait_for(lambda: load.unread(port) == {its: 0}, "nothing unread")


class Carries(load.Load):
    """Stands for a machine that carries so many cameras, and on which more than `starts` do not even start."""

    def __init__(self, most: int, starts: int = 1000) -> None:
        self.most, self.starts, self.cameras = most, starts, 0

    def resize(self, cameras: int) -> None:
        self.cameras = cameras
        if cameras > self.starts:
            raise BenchmarkError("decoders live: not within 30 s")

    def trial(self, seconds: float, rate: float) -> Trial:
        failures = ["behind"] if self.cameras > self.most else []
        return Trial(self.cameras, failures, 1.0, 1.0, 1.0, Memory(1.0, 1.0), Samples())


@pytest.mark.parametrize("most", [8, 11, 13, 16, 25])
def test_what_a_machine_carries_is_found_from_a_guess_that_is_off(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MOST", 128)
    trials, reasons = scale._search(Carries(most), 13, 1.0, 1.0)
    carried = max(trial.cameras for trial in trials if not trial.failures)
    assert most * 0.8 <= carried <= most
    assert len(trials) <= scale.STEPS
    assert len(reasons) == sum(bool(trial.failures) for trial in trials)


def test_more_cameras_than_are_allowed_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MOST", 20)
    trials, reasons = scale._search(Carries(1000), 13, 1.0, 1.0)
    assert [trial.cameras for trial in trials] == [13, 16, 20]
    assert not reasons


def test_cameras_that_do_not_start_are_not_carried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "MOST", 128)
    trials, reasons = scale._search(Carries(1000, starts=14), 13, 1.0, 1.0)
    assert [trial.cameras for trial in trials] == [13, 14]
    assert reasons == [f"{count} not carried: decoders live: not within 30 s" for count in (16, 15)]


def test_charts_are_drawn_as_files_named_after_them(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason='needs pip install "framesrv[plot]"')
    bars = Bars("stages", "Where the time goes", "ms", ["p50", "p99"], {"queued": [1.0, 2.0], "upload": [3.0, 9.0]})
    lines = Lines("scale", "CPU", "cameras", "%", {"all": [(4, 48.0), (1, 12.0)], "demand": [(4, 3.0), (1, 1.0)]})
    paths = plot.draw([bars, lines], tmp_path / "plots")
    assert [path.name for path in paths] == ["stages.png", "scale.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_plotting_without_matplotlib_says_what_to_install(tmp_path: Path) -> None:
    broken = tmp_path / "matplotlib"
    broken.mkdir()
    (broken / "__init__.py").write_text('raise ImportError("No module named matplotlib")')
    done = subprocess.run(
        [sys.executable, "benchmarks/run.py", "all", "--plot", str(tmp_path / "plots")],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert 'pip install "framesrv[plot]"' in done.stderr
    assert not (tmp_path / "plots").exists()


def test_a_process_that_has_ended_does_not_pass_for_cheap() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        meter = CpuMeter({"it": [process.pid]})
        assert meter.shares().keys() == {"it"}
        process.communicate(b"\n")
        with pytest.raises(BenchmarkError, match="it: a process ended"):
            meter.shares()
