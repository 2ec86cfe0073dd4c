"""The service under faults that last: Redis away, flushed and empty, a store that hangs, a flood."""

import logging
import re
import shutil
import threading
import time
import uuid
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from framesrv import camera_status, settings
from snapd.limits import job_limit
from tests.support.cos import CosServer
from tests.support.held_up import HeldUp
from tests.support.http_server import Fault
from tests.support.processes import Program, wait_for, write_config
from tests.support.redis_server import RedisServer
from tests.support.wvp import Callback, WvpServer

logger = logging.getLogger(__name__)

STREAM, GROUP = "edge_snap_request", "edge_snap_group"
CODES = ["cam01", "cam02"]
RESUMED = 5.0  # s from the return of Redis or the store to normal service
AWAY = 10.0  # s that Redis is away


class Edge:
    """One host: Redis, two cameras and one snapd, all processes; COS and WVP in this one."""

    def __init__(self, directory: Path, prefix: str, **sections: dict[str, Any]) -> None:
        self._stack = ExitStack()
        self._directory = directory
        self._prefix = prefix
        self._sections = sections
        self.redis = RedisServer(directory / "redis", appendonly=True)
        self.cos, self.wvp = CosServer(), WvpServer()
        self.workers = sections.get("snapshot", {}).get("workers", 8)

    def __enter__(self) -> Self:
        with self._stack as stack:
            for server in (self.redis, self.cos, self.wvp):
                stack.enter_context(server)
            self.client = stack.enter_context(self.redis.client())
            store = {"bucket": self.cos.bucket, "secret_id": self.cos.secret_id, "secret_key": self.cos.secret_key}
            store |= {"scheme": "http", "domain": self.cos.domain}
            sections = {"redis": {"url": self.redis.url}, "store": store, "shm": {"prefix": self._prefix}}
            sections |= {"http": {"listen": ""}} | self._sections
            cameras = [{"code": code, "source": "test:320x240@10"} for code in CODES]
            self.config = write_config(self._directory / "framesrv.toml", sections, cameras)
            for code in CODES:
                decoder = stack.enter_context(self.program(code, "framesrv", "decode", code))
                stack.callback(decoder.stop)
            wait_for(
                lambda: all(camera_status(self._prefix, code).state == "live" for code in CODES), "cameras are live"
            )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def program(self, log: str, *words: str) -> Program:
        return Program(*words, "--config", self.config, log=self._directory / f"{log}.log")

    @contextmanager
    def group_from_the_beginning(self) -> Iterator[None]:
        """A group that is there before snapd, so that entries of any age are its own."""
        self.client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        yield

    @contextmanager
    def snapd(self) -> Iterator[Program]:
        log = self._directory / "snapd.log"
        before = log.read_text().count("Started") if log.exists() else 0
        with self.program("snapd", "snapd", "run") as snapd:

            def is_up() -> bool:  # only then does it know what a SIGTERM means
                return bool(self.client.exists(STREAM)) and snapd.output.count("Started") > before

            wait_for(lambda: is_up() or snapd.process.poll() is not None, "snapd has its group")
            assert snapd.process.poll() is None, snapd.output[-2000:]
            yield snapd
            assert snapd.process.poll() is None, snapd.output[-2000:]
            assert snapd.stop() == 0

    def fields(self, number: int = 0) -> dict[Any, Any]:
        """A request, for one camera after the other."""
        name = uuid.uuid4().hex
        fields = {"request_id": name, "camera_code": CODES[number % len(CODES)], "cos_path": f"snap/{name}.jpg"}
        return fields | {"callback_url": self.wvp.url}

    def ask(self, number: int = 0) -> str:
        fields = self.fields(number)
        self.client.xadd(STREAM, fields)
        return str(fields["request_id"])

    def answers(self) -> dict[str, list[Callback]]:
        with self.wvp.changed:
            results = list(self.wvp.results)
        found: dict[str, list[Callback]] = {}
        for result in results:
            found.setdefault(result.request_id, []).append(result)
        return found

    def wait_for(self, names: list[str], timeout: float) -> dict[str, Callback]:
        """The first answer of each."""
        wait_for(lambda: self.answers().keys() >= set(names), f"{len(names)} answers", timeout)
        answers = self.answers()
        return {name: answers[name][0] for name in names}

    @property
    def pending(self) -> int:
        summary: Any = self.client.xpending(STREAM, GROUP)
        return int(summary["pending"])


def memory(pid: int) -> float:
    """Megabytes of 10^6 bytes."""
    found = re.search(r"^VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1.024e-3


@contextmanager
def every(seconds: float, look: Callable[[], None]) -> Iterator[None]:
    """Calls `look` at intervals, in a thread, during the block."""
    done = threading.Event()

    def work() -> None:
        while not done.wait(seconds):
            look()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def test_service_resumes_by_itself_when_redis_returns_whatever_it_has_lost(tmp_path: Path, prefix: str) -> None:
    with Edge(tmp_path, prefix) as edge, edge.snapd():
        edge.wait_for([edge.ask()], 10)

        before = [edge.ask() for _ in range(20)]
        edge.redis.kill()
        time.sleep(AWAY)  # an outage is a length of time
        edge.redis.start()
        edge.wait_for([edge.ask()], RESUMED)
        edge.wait_for(before, RESUMED)

        edge.client.flushall()
        edge.wait_for([edge.ask()], RESUMED)

        edge.redis.kill()
        shutil.rmtree(edge.redis.directory)
        time.sleep(1)
        edge.redis.start()
        edge.wait_for([edge.ask()], RESUMED)

        wait_for(lambda: edge.pending == 0, "nothing is pending")
    assert all(len(answers) == 1 for answers in edge.answers().values())
    assert all(answers[0].status == "ok" for answers in edge.answers().values())


def test_nothing_is_lost_while_snapd_is_killed_every_two_seconds(tmp_path: Path, prefix: str) -> None:
    count, rate, between = 1000, 50, 2.0
    with Edge(tmp_path, prefix) as edge:
        asked: dict[str, float] = {}
        kills: list[float] = []

        def ask() -> None:
            asked[edge.ask(len(asked))] = time.time()

        with every(1 / rate, ask):
            while len(asked) < count:
                with edge.program("snapd", "snapd", "run"):  # killed with the block
                    time.sleep(between)
                kills.append(time.time())
        with edge.snapd():
            answers = edge.wait_for(list(asked), 30)
            wait_for(lambda: edge.pending == 0, "nothing is pending")
        limit = job_limit(settings.load(edge.config))
    waits = [answers[name].time - at for name, at in asked.items()]
    # What a kill has caught between its callback and its acknowledgement is answered again: one for each thread.
    repeated = Counter(bisect(kills, found[0].time) for found in edge.answers().values() if len(found) > 1)
    logger.info("killed asked=%d repeated=%d slowest=%.1fs", len(asked), repeated.total(), max(waits))
    assert {answer.status for answer in answers.values()} == {"ok"}
    assert max(waits) < limit + 10
    assert all(number <= edge.workers for number in repeated.values())


def test_store_that_hangs_delays_nobody_past_the_deadline_and_is_used_again_at_once(
    tmp_path: Path, prefix: str, held_up: HeldUp
) -> None:
    deadline, interval, hangs = 20.0, 0.2, 22.0
    with Edge(tmp_path, prefix, snapshot={"deadline": deadline}) as edge, edge.snapd():
        edge.wait_for([edge.ask()], 10)
        asked: dict[str, float] = {}

        def ask() -> None:
            asked[edge.ask(len(asked))] = time.time()

        edge.cos.fault = Fault("hang")
        with every(interval, ask):
            time.sleep(hangs)
            edge.cos.fault = None
            back = time.time()
            time.sleep(RESUMED + 3)
        answers = edge.wait_for(list(asked), deadline)
        wait_for(lambda: edge.pending == 0, "nothing is pending")
    waits = {name: answers[name].time - at for name, at in asked.items()}
    hung = [name for name, at in asked.items() if at < back - 1]
    after = [name for name, at in asked.items() if at > back + RESUMED]
    errors = [answers[name].message for name in hung if answers[name].status == "error"]
    logger.info("hung=%d errors=%d slowest=%.1fs", len(hung), len(errors), max(waits.values()))
    logger.info("after=%d slowest=%.2fs", len(after), max(waits[name] for name in after))
    assert max(waits.values()) < deadline + 2 + held_up.seconds
    assert len(errors) > len(hung) / 2
    assert {answers[name].status for name in after} == {"ok"}
    assert max(waits[name] for name in after) < 1 + held_up.seconds
    assert all(len(found) == 1 for found in edge.answers().values())


@pytest.mark.timeout(150)
def test_flood_is_answered_whole_within_bounds_and_the_newest_are_served(tmp_path: Path, prefix: str) -> None:
    late, fresh = 5000, 5000
    store = {"kind": "dir", "path": str(tmp_path / "pictures")}
    with (
        Edge(tmp_path, prefix, store=store, snapshot={"deadline": 110.0}) as edge,
        edge.group_from_the_beginning(),
        edge.snapd() as snapd,
    ):
        most_memory, most_pending = [memory(snapd.pid)], [0]

        def look() -> None:
            most_memory.append(memory(snapd.pid))
            most_pending.append(edge.pending)

        now = int(time.time())
        old = [edge.fields(number) for number in range(late)]
        new = [edge.fields(number) for number in range(fresh)]
        began = time.time()
        with edge.client.pipeline(transaction=True) as pipeline:
            for number, fields in enumerate(old):
                pipeline.xadd(STREAM, fields, id=f"{(now - 300) * 1000}-{number}")
            for fields in new:
                pipeline.xadd(STREAM, fields)
            pipeline.execute()
        with every(0.2, look):
            edge.wvp.wait(late + fresh, 100)
        spent = time.time() - began
        wait_for(lambda: edge.pending == 0, "nothing is pending")
    answers = edge.answers()
    logger.info("flood seconds=%.1f most_in_hand=%d", spent, max(most_pending))
    logger.info("memory from=%.0fMB to=%.0fMB", most_memory[0], max(most_memory))
    assert all(len(found) == 1 for found in answers.values())
    assert {answers[fields["request_id"]][0].status for fields in old} == {"error"}
    assert {answers[fields["request_id"]][0].status for fields in new} == {"ok"}
    assert max(most_pending) <= 2 * edge.workers  # as many are handed over as are worked on
    assert max(most_memory) < most_memory[0] + 40
