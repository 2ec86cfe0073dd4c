"""Nothing on the stream is lost: killed workers, dead consumers, and a Redis that comes and goes."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from snapd.service import Service
from tests.requests.pending import DEAD, take_for
from tests.support.cos import CosServer
from tests.support.edge import GROUP, STREAM, Edge, Running, wait_until, write_config
from tests.support.processes import Program
from tests.support.redis_server import RedisServer
from tests.support.wvp import WvpServer


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries of dead consumers are claimed after half a second."""
    monkeypatch.setattr("snapd.configured.job_limit", lambda _: 0.5)
    monkeypatch.setattr("snapd.requests.stream.CLAIM_EVERY", 0.1)
    monkeypatch.setattr("snapd.requests.stream.BLOCK", 0.1)


def wait_until_said(program: Program, words: str, times: int) -> None:
    wait_until(lambda: program.output.count(words) >= times)


def repeats(edge: Edge) -> int:
    return sum(count - 1 for count in Counter(result.request_id for result in edge.wvp.results).values())


def test_a_thousand_requests_survive_a_kill_every_two_seconds(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "framesrv.toml")
    sent: dict[str, float] = {}

    enough = threading.Event()

    def ask() -> None:
        while len(sent) < 1000 or not enough.is_set():
            requests = [edge.fields() for _ in range(4)]
            sent.update((fields["request_id"], time.time()) for fields in requests)
            edge.send(*requests)
            time.sleep(0.04)

    asking = threading.Thread(target=ask)
    asking.start()
    kills = 0
    while asking.is_alive():
        with Program("snapd", "run", "--config", config, log=tmp_path / "log") as program:
            wait_until_said(program, "Started", kills + 1)
            asking.join(2)
            program.stop(signal.SIGKILL)
            kills += 1
            if kills == 4:
                enough.set()
    with Program("snapd", "run", "--config", config, log=tmp_path / "log") as program:
        wait_until_said(program, "Started", kills + 1)
        wait_until(lambda: {result.request_id for result in edge.wvp.results} >= sent.keys(), 30)
        wait_until(lambda: edge.pending == 0)
        assert program.stop() == 0
    assert {result.status for result in edge.wvp.results} == {"ok"}  # none was too late for its deadline
    assert repeats(edge) <= kills * 8
    assert edge.redis.xlen(DEAD) == 0


@pytest.mark.usefixtures("soon")
def test_entries_of_a_dead_consumer_are_answered_and_those_of_a_live_one_left(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snapd.configured.job_limit", lambda _: 1.5)
    edge.send(*(edge.fields() for _ in range(30)))
    take_for(edge, "dead", 30)
    with Running(edge.settings()):
        new = edge.fields()
        edge.send(new)
        assert edge.wvp.wait(1, 30)[0].request_id == new["request_id"]  # it does not wait for theirs
        assert len(edge.wvp.wait(31, 30)) == 31
        wait_until(lambda: edge.pending == 0)
        edge.send(edge.fields())
        edge.wvp.wait(32, 30)
        time.sleep(0.3)  # in which entries are claimed several times
    assert (repeats(edge), len(edge.cos.puts)) == (0, 32)


@pytest.mark.usefixtures("soon")
def test_trimmed_entries_of_a_dead_consumer_are_acknowledged_and_counted(
    edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    edge.send(*(edge.fields() for _ in range(10)))
    take_for(edge, "dead", 10)
    edge.redis.xtrim(STREAM, maxlen=3, approximate=False)
    with Running(edge.settings()):
        edge.wvp.wait(3, 30)
        wait_until(lambda: edge.pending == 0)
    counts = [record.args[0] for record in caplog.records if "trimmed away" in record.msg]  # type: ignore[index]
    assert sum(counts) == 7  # type: ignore[arg-type]


def test_second_instance_shares_the_load_at_once(edge: Edge, tmp_path: Path) -> None:
    edge.wvp.delay = 0.1
    edge.send(*(edge.fields() for _ in range(60)))
    with ExitStack() as stack:
        programs: list[Program] = []
        for name in ("one", "two"):
            path = write_config(edge, tmp_path / f"{name}.toml", stream={"consumer": name}, snapshot={"workers": 4})
            programs.append(
                stack.enter_context(Program("snapd", "run", "-v", "--config", path, log=tmp_path / f"{name}.log"))
            )
            wait_until_said(programs[-1], "Started", 1)
            wait_until_said(programs[0], "Answered", 20)
        edge.send(*(edge.fields() for _ in range(240)))
        wait_until_said(programs[1], "Answered", 20)
        before = [program.output.count("Answered") for program in programs]
        wait_until(lambda: edge.pending == 0, 60)
        assert [program.stop() for program in programs] == [0, 0]
        answered = [program.output.count("Answered") for program in programs]
    shares = [after - earlier for after, earlier in zip(answered, before, strict=True)]
    assert min(shares) > sum(shares) / 4, (before, answered)
    assert (repeats(edge), sum(answered)) == (0, 300)


def test_stopped_worker_leaves_the_rest_to_another(edge: Edge, tmp_path: Path) -> None:
    edge.wvp.delay = 0.1
    edge.send(*(edge.fields() for _ in range(100)))
    one = write_config(edge, tmp_path / "one.toml", stream={"consumer": "one"})
    with Program("snapd", "run", "--config", one, log=tmp_path / "one.log") as program:
        edge.wvp.wait(20, 30)
        assert program.stop() == 0
    done = len(edge.wvp.results)
    assert edge.pending == 100 - done
    with Running(edge.settings()):
        edge.wvp.wait(100, 20)
        wait_until(lambda: edge.pending == 0)
    assert repeats(edge) == 0


def test_what_a_stopped_worker_never_saw_is_taken_by_another_at_once(edge: Edge) -> None:
    edge.wvp.delay = 1.0
    stopping = Running(edge.settings(stream={"consumer": "one"}))
    with stopping:
        edge.send(edge.fields())
        wait_until(lambda: edge.wvp.requests["POST"])  # the callback is under way
        stopping.service.stop()
        edge.send(*(edge.fields() for _ in range(5)))
        # as if they had been delivered to a connection that was just being closed
        taken: Any = edge.redis.xreadgroup(GROUP, "one", {STREAM: ">"})
        assert sum(len(entries) for _, entries in taken) == 5
    with Running(edge.settings(stream={"consumer": "two"})):
        edge.wvp.wait(6, 20)  # not after the claim time, which is longer
        wait_until(lambda: edge.pending == 0)
    assert repeats(edge) == 0


@contextmanager
def own_redis(directory: Path) -> Iterator[Edge]:
    """Surroundings whose Redis may be stopped; it keeps nothing."""
    with (
        RedisServer(directory / "redis") as server,
        CosServer() as cos,
        WvpServer() as wvp,
        Edge(server, cos, wvp) as edge,
    ):
        edge.camera("cam01")
        yield edge


def test_service_resumes_within_five_seconds_of_the_return_of_an_empty_redis(tmp_path: Path) -> None:
    with own_redis(tmp_path) as edge, Running(edge.settings()):
        assert edge.ask().status == "ok"
        edge.redis_server.kill()
        time.sleep(5)  # into its longest pauses
        edge.redis_server.start()
        began = time.monotonic()
        assert edge.ask().status == "ok"
        assert time.monotonic() - began < 5
        edge.redis.flushall()
        assert edge.ask().status == "ok"
        wait_until(lambda: edge.pending == 0)


def test_worker_started_without_redis_waits_for_it(tmp_path: Path) -> None:
    with own_redis(tmp_path) as edge:
        edge.redis_server.kill()
        with Running(edge.settings()):
            time.sleep(0.5)
            edge.redis_server.start()
            assert edge.ask().status == "ok"


def test_silent_redis_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapd.requests.redis.READ_TIMEOUT", 1.0)
    monkeypatch.setattr("snapd.requests.stream.BLOCK", 0.5)
    with own_redis(tmp_path) as edge, Running(edge.settings()):
        assert edge.ask().status == "ok"
        process = edge.redis_server._process
        assert process is not None
        process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        process.send_signal(signal.SIGCONT)
        assert edge.ask().status == "ok"
        wait_until(lambda: edge.pending == 0)


def test_old_redis_is_waited_for_until_it_is_updated(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as changed:
        changed.setattr("snapd.requests.redis.MIN_VERSION", (99, 0))
        with Running(edge.settings()) as running:
            wait_until(lambda: "99.0 or newer is needed" in running.service.status)
            assert running.service.status.startswith("waiting for Redis: Redis ")
            changed.undo()
            assert edge.ask().status == "ok"
    said = [record.getMessage() for record in caplog.records if "too old" in record.getMessage()]
    assert 1 <= len(said) <= 3
    assert "Traceback" not in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_worker_thread_that_dies_is_replaced_and_its_request_answered(
    edge: Edge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("snapd.requests.stream.RETURN_AFTER", 0.1)
    monkeypatch.setattr("snapd.requests.stream.BLOCK", 0.1)
    with Running(edge.settings(snapshot={"workers": 1})) as running:
        deaths = iter([SystemExit, SystemExit])
        serve = Service._answer

        def die_first(self: Service, job: Any) -> None:
            for death in deaths:
                raise death
            serve(self, job)

        monkeypatch.setattr(Service, "_answer", die_first)
        assert edge.ask().status == "ok"
        assert running.thread.is_alive()
        wait_until(lambda: edge.pending == 0)
    assert sum("died and are replaced" in record.msg for record in caplog.records) == 2


def test_reading_goes_on_after_a_failure_nobody_thought_of(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapd.service.AGAIN", 0.1)
    monkeypatch.setattr("snapd.requests.stream.RETURN_AFTER", 0.1)
    failures = iter([ValueError("one"), MemoryError("two")])
    begin = Service._begin

    def fail_first(self: Service, entries: Any) -> Any:
        if entries:
            for failure in failures:
                raise failure
        return begin(self, entries)

    monkeypatch.setattr(Service, "_begin", fail_first)
    with Running(edge.settings(snapshot={"workers": 2})):
        edge.send(*(edge.fields() for _ in range(8)))
        edge.wvp.wait(8, 30)
        wait_until(lambda: edge.pending == 0)


def test_nothing_is_left_open(edge: Edge) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with Running(edge.settings()):
        assert edge.ask().status == "ok"
    before = descriptors()
    for _ in range(3):
        with Running(edge.settings()):
            assert edge.ask().status == "ok"
    assert descriptors() <= before + 20
