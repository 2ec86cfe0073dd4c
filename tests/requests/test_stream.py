"""Nothing on the stream is lost: killed workers, dead consumers, poison, and a Redis that comes and goes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from snapd.service import Service
from tests.support.cos import CosServer
from tests.support.edge import CONSUMER, GROUP, STREAM, Edge, Running, wait_until, write_config
from tests.support.processes import Program
from tests.support.redis_server import RedisServer
from tests.support.wvp import WvpServer
from tests.test_snapd_cli import snapd

DEAD = "edge_snap_dead"


@pytest.fixture
def edge(edge: Edge) -> Edge:
    edge.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    edge.camera("cam01")
    return edge


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries of dead consumers are claimed after half a second."""
    monkeypatch.setattr("snapd.configured.job_limit", lambda _: 0.5)
    monkeypatch.setattr("snapd.requests.stream.CLAIM_EVERY", 0.1)
    monkeypatch.setattr("snapd.requests.stream.BLOCK", 0.1)


def take_for(edge: Edge, consumer: str, count: int) -> list[str]:
    """Entries that a consumer takes and never answers."""
    reply: Any = edge.redis.xreadgroup(GROUP, consumer, {STREAM: ">"}, count=count)
    return [entry_id.decode() for entry_id, _ in reply[0][1]]


def wear_out(edge: Edge, entry_id: str, deliveries: int, consumer: str = CONSUMER) -> None:
    """Makes an entry one that was delivered so often."""
    edge.redis.xclaim(STREAM, GROUP, consumer, 0, [entry_id], retrycount=deliveries)


def wait_until_said(program: Program, words: str, times: int) -> None:
    wait_until(lambda: program.output.count(words) >= times)


def repeats(edge: Edge) -> int:
    return sum(count - 1 for count in Counter(result.request_id for result in edge.wvp.results).values())


def test_a_thousand_requests_survive_a_kill_every_two_seconds(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "framesrv.toml")
    sent: dict[str, float] = {}

    def ask() -> None:
        for _ in range(250):
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
    with Program("snapd", "run", "--config", config, log=tmp_path / "log") as program:
        wait_until_said(program, "Started", kills + 1)
        wait_until(lambda: {result.request_id for result in edge.wvp.results} >= sent.keys(), 30)
        wait_until(lambda: edge.pending == 0)
        assert program.stop() == 0
    waited = {result.request_id: result.time - sent[result.request_id] for result in reversed(edge.wvp.results)}
    assert kills >= 4
    assert max(waited.values()) < 10
    assert repeats(edge) <= kills * 8
    assert edge.redis.xlen(DEAD) == 0


@pytest.mark.usefixtures("soon")
def test_entries_of_a_dead_consumer_are_answered_and_those_of_a_live_one_left(edge: Edge) -> None:
    edge.send(*(edge.fields() for _ in range(30)))
    take_for(edge, "dead", 30)
    with Running(edge.settings()):
        edge.send(edge.fields())
        assert len(edge.wvp.wait(1, 0.4)) == 1
        assert len(edge.wvp.wait(31, 10)) == 31
        wait_until(lambda: edge.pending == 0)
        edge.send(edge.fields())
        time.sleep(0.3)
    assert (repeats(edge), len(edge.cos.puts)) == (0, 32)


@pytest.mark.usefixtures("soon")
def test_trimmed_entries_of_a_dead_consumer_are_acknowledged_and_counted(
    edge: Edge, caplog: pytest.LogCaptureFixture
) -> None:
    edge.send(*(edge.fields() for _ in range(10)))
    take_for(edge, "dead", 10)
    edge.redis.xtrim(STREAM, maxlen=3, approximate=False)
    with Running(edge.settings()):
        edge.wvp.wait(3, 10)
        wait_until(lambda: edge.pending == 0)
    counts = [record.args[0] for record in caplog.records if "trimmed away" in record.msg]  # type: ignore[index]
    assert sum(counts) == 7  # type: ignore[arg-type]


def test_entry_delivered_too_often_is_a_dead_letter_and_can_be_replayed(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "framesrv.toml")
    fields = edge.fields() | {"more": b"\xff", "dead:reason": "mine"}
    edge.send(fields)
    (entry_id,) = take_for(edge, CONSUMER, 1)
    wear_out(edge, entry_id, 5)
    with Running(edge.settings()):
        assert edge.wvp.wait(1, 10)[0].message == "内部错误"
        wait_until(lambda: edge.pending == 0)
    assert not edge.cos.puts
    (letter,) = orjson.loads(snapd("dead", "--json", "--config", config).stdout)
    assert (letter["entry_id"], letter["deliveries"]) == (entry_id, 6)
    assert letter["reason"] == "delivered 5 times without an answer"
    assert letter["fields"].keys() == fields.keys() - {"dead:reason"}
    assert 0 <= letter["moved_at"] - letter["sent_at"] < 60
    shown = snapd("dead", "--config", config).stdout.decode()
    assert f"request {fields['request_id']} for cam01: delivered 5 times" in shown

    done = snapd("dead", "--replay", letter["id"], "--config", config)
    assert done.returncode == 0, done.stderr
    assert edge.redis.xlen(DEAD) == 0
    with Running(edge.settings()):
        assert edge.wvp.wait(2, 10)[1].status == "ok"
        wait_until(lambda: edge.pending == 0)
    assert edge.wvp.results[1].request_id == fields["request_id"]


@pytest.mark.parametrize("letter", ["1-1", "no id"])
def test_replay_of_no_dead_letter_says_so(edge: Edge, tmp_path: Path, letter: str) -> None:
    done = snapd("dead", "--replay", letter, "--config", write_config(edge, tmp_path / "c.toml"))
    assert done.returncode == 1
    assert letter in done.stderr.decode()
    assert b"Traceback" not in done.stderr


def test_dead_letters_have_no_place_and_the_entry_stays(edge: Edge) -> None:
    edge.redis.set(DEAD, "something else")
    edge.send(edge.fields())
    (entry_id,) = take_for(edge, CONSUMER, 1)
    wear_out(edge, entry_id, 5)
    with Running(edge.settings()):
        assert edge.ask().status == "ok"
        wait_until(lambda: edge.pending == 1)


CRASH = """
import os, sys
from snapd import cli
from snapd.pictures import capture
def die(*_):
    os._exit(9)
ask = capture.Captures.join
capture.Captures.join = lambda self, code: die() if code == "cam02" else ask(self, code)
cli.main(sys.argv[1:])
"""


def test_request_that_kills_the_process_ends_as_a_dead_letter(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "framesrv.toml", stream={"max_deliveries": 2})
    poison = edge.fields("cam02")
    edge.send(poison)
    command = [sys.executable, "-c", CRASH, "run", "--config", str(config)]
    for _ in range(2):
        assert subprocess.run(command, timeout=20, check=False).returncode == 9
    assert edge.redis.xlen(DEAD) == 0
    with subprocess.Popen(command) as process:
        edge.send(edge.fields())
        assert {result.status for result in edge.wvp.wait(2, 10)} == {"error", "ok"}
        process.terminate()
        assert process.wait(10) == 0
    assert edge.redis.xlen(DEAD) == 1


def test_last_try_is_made_alone_and_costs_the_others_little(edge: Edge) -> None:
    edge.send(*(edge.fields() for _ in range(8)))
    ids = take_for(edge, CONSUMER, 8)
    for entry_id in ids[2:5]:
        wear_out(edge, entry_id, 4)
    most = 0
    answer = edge.wvp.answer

    def count(request: Any) -> Any:
        nonlocal most
        time.sleep(0.2)
        most = max(most, len(in_hand))
        return answer(request)

    edge.wvp.answer = count  # type: ignore[method-assign]
    with Running(edge.settings()) as running:
        in_hand = running.service._stream._in_hand
        edge.send(edge.fields())
        edge.wvp.wait(2, 10)
        began, most = time.monotonic(), 0
        edge.wvp.wait(5, 10)
        assert most == 1
        edge.wvp.wait(9, 10)
        wait_until(lambda: edge.pending == 0)
    assert time.monotonic() - began < 2
    assert edge.redis.xlen(DEAD) == 0


def test_second_instance_shares_the_load_at_once(edge: Edge, tmp_path: Path) -> None:
    edge.wvp.delay = 0.1
    edge.send(*(edge.fields() for _ in range(300)))
    with ExitStack() as stack:
        programs = []
        for name in ("one", "two"):
            path = write_config(edge, tmp_path / f"{name}.toml", stream={"consumer": name}, snapshot={"workers": 4})
            programs.append(
                stack.enter_context(Program("snapd", "run", "-v", "--config", path, log=tmp_path / f"{name}.log"))
            )
            wait_until_said(programs[-1], "Answered", 20)
        second = time.monotonic()
        wait_until(lambda: edge.pending == 0, 30)
        assert time.monotonic() - second < 300 * 0.1 / 8 + 2
        assert [program.stop() for program in programs] == [0, 0]
        shares = [program.output.count("Answered") for program in programs]
    assert min(shares) > 90
    assert (repeats(edge), sum(shares)) == (0, 300)


def test_stopped_worker_leaves_the_rest_to_another(edge: Edge, tmp_path: Path) -> None:
    edge.wvp.delay = 0.1
    edge.send(*(edge.fields() for _ in range(100)))
    one = write_config(edge, tmp_path / "one.toml", stream={"consumer": "one"})
    with Program("snapd", "run", "--config", one, log=tmp_path / "one.log") as program:
        edge.wvp.wait(20, 10)
        assert program.stop(timeout=5) == 0
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


OLD = """
import sys
from snapd import cli
from snapd.requests import redis as connection
connection.MIN_VERSION = (99, 0)
cli.main(sys.argv[1:])
"""


def test_old_redis_is_refused_in_one_sentence(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "framesrv.toml")
    done = subprocess.run(
        [sys.executable, "-c", OLD, "run", "--config", str(config)], capture_output=True, timeout=20, check=False
    )
    assert done.returncode == 1
    said = [line for line in done.stderr.decode().splitlines() if "too old" in line]
    assert len(said) == 1
    assert "99.0 or newer is needed" in said[0]
    assert b"Traceback" not in done.stderr


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
        edge.wvp.wait(8, 10)
        wait_until(lambda: edge.pending == 0)


def test_entry_that_cannot_be_read_is_a_dead_letter(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RecursionError

    with Running(edge.settings()), monkeypatch.context() as patch:
        patch.setattr("snapd.service.parse", fail)
        edge.send(edge.fields())
        wait_until(lambda: edge.redis.xlen(DEAD) == 1 and edge.pending == 0)


def test_queue_tells_what_waits(edge: Edge, tmp_path: Path) -> None:
    config = write_config(edge, tmp_path / "framesrv.toml")
    edge.send(*(edge.fields() for _ in range(10)))
    taken = take_for(edge, CONSUMER, 4)
    found = orjson.loads(snapd("queue", "--json", "--config", config).stdout)
    assert (found["length"], found["lag"], found["pending"], found["dead"]) == (10, 6, 4, 0)
    assert 0 <= found["oldest_pending_s"] < 60
    assert [(consumer["name"], consumer["pending"]) for consumer in found["consumers"]] == [(CONSUMER, 4)]
    edge.redis.xdel(STREAM, str(int(taken[-1].split("-")[0])) + "-" + str(int(taken[-1].split("-")[1]) + 1))
    edge.redis.execute_command("XGROUP", "SETID", STREAM, GROUP, taken[-1])  # type: ignore[no-untyped-call]
    groups: Any = edge.redis.xinfo_groups(STREAM)
    assert groups[0]["lag"] is None  # as before Redis 7
    shown = snapd("queue", "--config", config).stdout.decode()
    assert "pending       4, the oldest" in shown
    edge.redis.flushall()
    assert orjson.loads(snapd("queue", "--json", "--config", config).stdout)["lag"] == 0


@pytest.mark.parametrize("command", ["queue", "dead"])
def test_command_without_redis_says_so(edge: Edge, tmp_path: Path, command: str) -> None:
    config = write_config(edge, tmp_path / "c.toml", redis={"url": "redis://u:hidden@127.0.0.1:1/0"})
    done = snapd(command, "--config", config)
    assert done.returncode == 1
    assert b"cannot be asked" in done.stderr
    assert b"hidden" not in done.stderr


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
