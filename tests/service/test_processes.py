"""snapd in several processes: killed, told to end, given another configuration, and seen as one from outside."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from framesrv.process import report
from framesrv.process.report import Outcomes, ProcessReport, Report
from snapd.processes import process, together
from snapd.processes.processes import Processes
from tests.support.cos import CosServer
from tests.support.edge import CONSUMER, GROUP, STREAM, Edge, Fields
from tests.support.http_server import HttpRequest, HttpResponse
from tests.support.pages import Shown, shown
from tests.support.processes import alive, descendants, run, wait_for
from tests.support.redis_server import RedisServer
from tests.support.service_manager import Manager
from tests.support.wvp import WvpServer

WORKERS = 4  # of each of the two


class GatedCos(CosServer):
    """A store that takes nothing while its gate is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def answer(self, request: HttpRequest) -> HttpResponse:
        """See `CosServer.answer`."""
        self.gate.wait(60)
        return super().answer(request)


@dataclass(frozen=True)
class Snapd:
    """A snapd of two processes, what it tells its manager, its pages and its report, and its surroundings."""

    edge: Edge
    store: GatedCos
    manager: Manager
    shown: Shown
    place: Path

    @property
    def report(self) -> Report:
        return report.read(self.place / report.NAME)

    @property
    def pids(self) -> list[int]:
        return [one.pid for one in self.report.processes]

    @property
    def pending(self) -> dict[str, int]:
        """Of each process, by its consumer's name."""
        return {one["name"].decode(): one["pending"] for one in self.edge.redis.xinfo_consumers(STREAM, GROUP)}

    def send(self, count: int, code: str = "cam01") -> list[str]:
        requests: list[Fields] = [self.edge.fields(code) for _ in range(count)]
        self.edge.send(*requests)
        return [fields["request_id"] for fields in requests]

    def hold(self, count: int, code: str = "cam01") -> list[str]:
        """Sends requests; each process has as many in hand as it can, and none is answered, when it returns."""
        self.store.gate.clear()
        sent = self.send(count, code)
        wait_for(lambda: set(self.pending.values()) == {WORKERS}, "both have their hands full")
        return sent

    def let_go(self) -> None:
        self.store.gate.set()

    def answers(self, sent: list[str], count: int | None = None) -> None:
        """Each of these, or so many of them, is answered once, and with a picture."""
        wait_for(lambda: len(self._statuses(sent)) >= (count or len(sent)), "they are answered")
        wait_for(lambda: not any(self.pending.values()), "they are acknowledged")
        statuses = self._statuses(sent)
        assert set(statuses) == {"ok"}
        assert len(statuses) == (count or len(sent))
        assert set(Counter(one.request_id for one in self.edge.wvp.results).values()) == {1}

    def _statuses(self, sent: list[str]) -> list[str]:
        return [one.status for one in list(self.edge.wvp.results) if one.request_id in sent]


@pytest.fixture
def snapd(redis_server: RedisServer, tmp_path: Path) -> Iterator[Snapd]:
    place = tmp_path / "run"
    place.mkdir()
    with (
        GatedCos() as cos,
        WvpServer() as wvp,
        Edge(redis_server, cos, wvp) as edge,
        Manager(tmp_path / "notify", 1.0) as manager,
    ):
        edge.redis.flushall()
        edge.camera("cam01")
        environment = {**manager.environment, report.VARIABLE: str(place)}
        of_both = {"processes": 2, "workers": WORKERS}
        with shown(edge, tmp_path, environment=environment, snapshot=of_both) as pages:
            manager.wait_status(lambda text: text == "serving, 0 in hand; 2 processes", "it serves")
            wait_for(lambda: len(edge.redis.xinfo_consumers(STREAM, GROUP)) == 2, "both read")
            yield Snapd(edge, cos, manager, pages, place)


def test_requests_are_answered_once_though_one_of_two_processes_is_killed_and_it_comes_back(snapd: Snapd) -> None:
    assert set(snapd.pending) == {CONSUMER, f"{CONSUMER}-2"}
    sent = snapd.hold(100)
    first, second = snapd.pids
    os.kill(first, signal.SIGKILL)
    snapd.manager.wait_status(lambda text: "1 of 2 processes" in text, "it is missed")
    snapd.let_go()
    snapd.answers(sent)
    assert f"process=1 Took up pending entries count={WORKERS}" in snapd.shown.program.output
    snapd.manager.wait_status(lambda text: text == "serving, 0 in hand; 2 processes", "it is back")
    wait_for(lambda: first not in snapd.pids and 0 not in snapd.pids, "the report says so")
    assert snapd.pids[1] == second
    assert [one.deaths for one in snapd.report.processes] == [1, 0]
    assert all(alive(pid) for pid in snapd.pids)


def test_both_are_one_to_the_report_and_the_metrics(snapd: Snapd) -> None:
    pages = snapd.shown
    sent = snapd.hold(2 * WORKERS)
    snapd.let_go()
    snapd.answers(sent)
    wait_for(lambda: pages.metric("snapd_requests_total", result="ok", reason="") == len(sent), "all are counted")
    assert pages.metric("snapd_request_seconds_count") == len(sent)
    assert pages.metric("snapd_processes", state="running") == 2
    for name in ("main", "1", "2"):
        assert pages.metric("snapd_process_cpu_seconds_total", process=name) > 0
    assert pages.get("/readyz").status_code == 200
    said = wait_for(lambda: snapd.report if snapd.report.uploads.ok_lately == len(sent) else None, "all uploads")
    assert said.pid == pages.program.pid
    assert said.consumer == said.wanted_consumer == CONSUMER
    assert said.processes == tuple(ProcessReport(pid) for pid in snapd.pids)
    health = run(
        "framesrv", "health", "--config", pages.config, env={**os.environ, report.VARIABLE: str(snapd.place)}
    )
    assert "2 answer requests" in next(line for line in health.stdout.splitlines() if "processes" in line)


def test_both_load_a_changed_configuration_and_neither_a_wrong_one(snapd: Snapd) -> None:
    pages, manager, pids = snapd.shown, snapd.manager, snapd.pids
    of_both = {"processes": 2, "workers": WORKERS}
    snapd.edge.camera("cam09")
    pages.reload("cam09", snapshot=of_both)
    sent = snapd.hold(2 * WORKERS, "cam09")  # as many as both can take: none is left for one alone
    snapd.let_go()
    snapd.answers(sent)
    ready = manager.count("READY")
    config = pages.config
    config.write_text(config.read_text().replace(f'bucket = "{snapd.store.bucket}"', 'bucket = ""'))
    pages.program.process.send_signal(signal.SIGHUP)
    assert "wrong" in manager.wait("READY", ready + 1).fields["STATUS"]
    assert pages.program.output.count("Configuration not reloaded: store.bucket: expected a value") == 1
    snapd.answers(snapd.send(2))
    assert snapd.pids == pids


def test_all_end_at_a_signal_and_nothing_is_left_pending(snapd: Snapd) -> None:
    sent = snapd.hold(5 * WORKERS)
    program, pids = snapd.shown.program, descendants(snapd.shown.program.pid)
    for pid in (*snapd.pids, program.pid):  # as a service manager tells all of a unit's processes
        os.kill(pid, signal.SIGTERM)
    assert snapd.manager.wait("STOPPING").fields["STATUS"].startswith("stopping, ")
    snapd.let_go()
    assert program.process.wait(60) == 0
    snapd.answers(sent, 2 * WORKERS)
    assert not any(map(alive, pids))


def test_none_outlives_the_one_that_keeps_them(snapd: Snapd) -> None:
    snapd.hold(2 * WORKERS)  # which they would not finish
    pids = snapd.pids
    snapd.shown.program.stop(signal.SIGKILL)
    wait_for(lambda: not any(map(alive, pids)), "they have ended", 15)


def test_process_that_says_nothing_counts_as_hanging_and_a_reload_replaces_it(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "SILENT", 4.0)
    monkeypatch.setattr(process, "LOAD_LIMIT", 4.0)
    processes = Processes(edge.settings(snapshot={"processes": 2}))
    thread = threading.Thread(target=processes.run)
    thread.start()
    try:
        wait_for(lambda: processes.is_ready and not processes.hang, "both have spoken")
        pid = processes.report.processes[1].pid
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: processes.hang == "process 2", "it is missed")
        assert processes.report.processes[1].trouble == "process 2 hangs"
        assert processes.reload(edge.settings(snapshot={"processes": 3, "quality": 50})) == ["snapshot.processes"]
        wait_for(lambda: processes.report.processes[1].pid not in (0, pid), "another is in its place")
        wait_for(lambda: not processes.hang, "it speaks")
    finally:
        processes.stop()
        thread.join(60)
    assert not thread.is_alive()


def test_what_failed_before_another_process_succeeded_counts_no_more() -> None:
    failing = Outcomes(3, 90.0, "403", "refused", 100.0, ok_lately=5, failed_lately=3)
    also = Outcomes(1, 101.0, "time-out", "silent", 101.0, failed_lately=1)
    well = Outcomes(succeeded_at=95.0, ok_lately=2)
    assert together.outcomes([failing, also, well]) == Outcomes(4, 90.0, "time-out", "silent", 101.0, 95.0, 7, 4)
    later = Outcomes(succeeded_at=102.0, ok_lately=2)
    assert together.outcomes([failing, also, later]) == Outcomes(succeeded_at=102.0, ok_lately=7, failed_lately=4)
