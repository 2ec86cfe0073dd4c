"""A fleet: what a request costs Redis, and how long it takes, by the number of hosts, with a router and without.

One Redis, simulated hosts of forty cameras each, and a real `snapd route`; beside it the same hosts with a consumer
group each, which all read everything. What hosts cost Redis while nobody asks is measured before, and taken off.
"""

import random
import sys
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import redis

from benchmarks.measures.backend import STREAM, Requester
from benchmarks.measures.charts import Lines
from benchmarks.measures.process import BenchmarkError, command, cpu_seconds, shielded, wait_until
from benchmarks.measures.progress import bar, wait
from benchmarks.measures.simulated_hosts import Hosts, camera, hosts
from benchmarks.measures.table import Figure, Goal, Report
from benchmarks.measures.times import MS, Times
from framesrv.settings import NOBODY, StreamSettings
from snapd.requests import fleet
from tests.support.redis_server import RedisServer

HOSTS: Sequence[int] = (1, 10, 50, 200, 500)
CAMERAS = 40  # of each host
RATE = 10.0  # requests a second, with every number of hosts
RATES: Sequence[float] = (10, 50, 100, 250, 500)  # requests a second, with `MANY` hosts
MANY = 100  # hosts
PROCESSES = 2  # for all simulated hosts
WINDOW = 1.0  # of `seconds`, in which requests are sent
QUIET = 0.5  # of `seconds`, in which none are
DEATHS = 3  # hosts that die
ASKED_EVERY = 0.05  # s, of a dead host's camera
PROMISED = 10.0  # s in which a dead host must be known
SETTLED = 8.0  # s after which a router that has just begun takes hosts for dead
LATE = 10.0  # s for the last answers


@dataclass(frozen=True, slots=True)
class Trial:
    """One arrangement, so many hosts, so many requests a second.

    Attributes:
        deliveries: entries that Redis delivered, for each request.
        nbytes: that it sent and received, for each request.
        cpu: milliseconds of its CPU time, for each request.
        idle: its CPU time while nobody asks, in % of a core.
        router: CPU time of the router, milliseconds for each request.
        times: from sending to the answer.
        unanswered: requests.
    """

    hosts: int
    rate: float
    deliveries: float
    nbytes: float
    cpu: float
    idle: float
    router: float
    times: Times
    unanswered: int

    def quantile(self, percent: int) -> float:
        """Milliseconds. Raises BenchmarkError where hardly anything was answered."""
        if len(self.times) < 2:
            raise BenchmarkError(f"{self.hosts} hosts, {self.rate:g} requests a second: nothing was answered")
        return self.times.quantile(percent, MS)


@dataclass(frozen=True, slots=True)
class Spent:
    """What Redis and the router have used so far: bytes in and out, seconds of CPU time."""

    nbytes: int
    cpu: float
    router: float
    at: float


class Fleet:
    """Redis, and a way for it to be asked."""

    def __init__(self, directory: Path, server: RedisServer) -> None:
        self._directory = directory
        self.server = server
        self.client = server.client(decode_responses=False)
        self._requester = Requester(self.client, "")
        self._dice = random.Random(1)

    def trial(self, count: int, rate: float, seconds: float, *, routed: bool) -> Trial:
        """Hosts begin, are left alone, are asked, and end."""
        self.client.flushall()
        with ExitStack() as stack:
            router = stack.enter_context(self.router()) if routed else None
            there = stack.enter_context(hosts(self.server.url, count, CAMERAS, PROCESSES, routed=routed))
            if routed:
                self._await_router(count)
            before = self._spent(router)
            wait(f"{count} hosts, nobody asks", seconds * QUIET)
            there.told()
            begun = self._spent(router)
            asked = self._ask(count, rate, seconds * WINDOW, routed=routed)
            answered, deliveries = self._await(there, asked)
            ended = self._spent(router)
        quiet = (begun.cpu - before.cpu) / (begun.at - before.at)
        idle_bytes = (begun.nbytes - before.nbytes) / (begun.at - before.at)
        idle_router = (begun.router - before.router) / (begun.at - before.at)
        lasted = ended.at - begun.at
        return Trial(
            count,
            rate,
            (deliveries + (asked if routed else 0)) / asked,
            max(0.0, ended.nbytes - begun.nbytes - idle_bytes * lasted) / asked,
            max(0.0, ended.cpu - begun.cpu - quiet * lasted) / asked * 1000,
            quiet * 100,
            max(0.0, ended.router - begun.router - idle_router * lasted) / asked * 1000,
            answered,
            asked - len(answered),
        )

    def deaths(self, count: int) -> list[float]:
        """Seconds from the death of each of some hosts to the first answer that says so."""
        self.client.flushall()
        found = []
        with self.router(), hosts(self.server.url, count, CAMERAS, PROCESSES, routed=True) as there:
            self._await_router(count)
            time.sleep(SETTLED)
            for number in range(DEATHS):
                died = there.kill(number)
                asked: dict[str, float] = {}
                while not any(self._is_answered_so(name) for name in asked):
                    if time.monotonic() - died > 3 * PROMISED:
                        raise BenchmarkError("a dead host is not known")
                    name = uuid.uuid4().hex
                    fields: Any = {"request_id": name, "camera_code": camera(number, 0), "cos_path": f"{name}.jpg"}
                    self.client.xadd(STREAM, fields | {"sent_ns": time.monotonic_ns()})
                    asked[name] = time.monotonic()
                    time.sleep(ASKED_EVERY)
                found.append(time.monotonic() - died)
        return found

    def router(self) -> Any:
        """A real one, for the length of a block; its process number."""
        config = self._directory / "route.toml"
        config.write_text(f'[redis]\nurl = "{self.server.url}"\n[route]\nlisten = ""\n')
        return command(
            [sys.executable, "-m", "snapd", "route", "--config", str(config)], self._directory / "route.log"
        )

    def _await_router(self, count: int) -> None:
        """Until it reads, and every host has beaten."""
        settings = fleet.of_host(StreamSettings(), NOBODY)
        wait_until(
            lambda: (
                fleet.beats(self.client, settings, "routers")
                and len(fleet.beats(self.client, settings, "hosts")) == count
            ),
            "hosts and router have begun",
            30.0,
        )
        time.sleep(1.5)  # it looks at hosts every second

    def _ask(self, count: int, rate: float, seconds: float, *, routed: bool) -> int:
        """Sends requests for cameras of all hosts, evenly; how many."""
        began, number = time.monotonic(), 0
        with bar(f"{count} hosts, {rate:g} requests a second, {'routed' if routed else 'a group each'}") as show:
            while number / rate < seconds:
                due = began + number / rate
                time.sleep(max(0.0, due - time.monotonic()))
                batch = 1 + int((time.monotonic() - due) * rate)  # what is late goes with it
                codes = [camera(self._dice.randrange(count), self._dice.randrange(CAMERAS)) for _ in range(batch)]
                self._requester.send(*codes)
                number += batch
                show(number / rate / seconds)
        return number

    @staticmethod
    def _await(there: Hosts, asked: int) -> tuple[Times, int]:
        """The answers, until all are there or it is too late; and the deliveries."""
        times, deliveries, until = Times(), 0, time.monotonic() + LATE
        while len(times) < asked and time.monotonic() < until:
            time.sleep(0.1)
            told = there.told()
            deliveries += told.deliveries
            for one in told.answered:
                times.add(one)
        return times, deliveries

    def _spent(self, router: int | None) -> Spent:
        info: Any = self.client.info()
        return Spent(
            info["total_net_input_bytes"] + info["total_net_output_bytes"],
            info["used_cpu_user"] + info["used_cpu_sys"],
            cpu_seconds(router) if router else 0.0,
            time.monotonic(),
        )

    def _is_answered_so(self, name: str) -> bool:
        content: Any = self.client.get(f"snap:result:{name}")
        return content is not None and b'"error"' in content


def run(seconds: float) -> Report:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="framesrv-benchmark-")))
        with shielded():
            server = stack.enter_context(RedisServer(directory / "redis"))
        there = Fleet(directory, server)
        try:
            pairs = [
                (there.trial(count, RATE, seconds, routed=True), there.trial(count, RATE, seconds, routed=False))
                for count in HOSTS
            ]
            rising = [
                (there.trial(MANY, rate, seconds, routed=True), there.trial(MANY, rate, seconds, routed=False))
                for rate in RATES
            ]
            deaths = there.deaths(max(HOSTS))
        except redis.RedisError as error:
            raise BenchmarkError(f"Redis: {error}") from error
    most, few = pairs[-1], pairs[0]
    return Report(
        f"fleet: one Redis, hosts with {CAMERAS} cameras, a router beside a consumer group for each host",
        [
            *(figure for routed, grouped in pairs for figure in _figures(f"{routed.hosts} hosts", routed, grouped)),
            *(figure for routed, grouped in rising for figure in _figures(f"{routed.rate:g}/s", routed, grouped)),
            Figure(
                f"CPU time of Redis a request, {most[0].hosts} hosts beside {few[0].hosts}",
                most[0].cpu,
                "ms",
                f"{few[0].hosts} hosts",
                few[0].cpu,
                Goal("ratio", 1.5),
            ),
            Figure(
                f"a dead host of {max(HOSTS)} is known, the slowest of {DEATHS}",
                max(deaths),
                "s",
                "the fastest",
                min(deaths),
                Goal("value", PROMISED),
            ),
        ],
        [
            f"{RATE:g} requests a second by the number of hosts, {MANY} hosts by requests a second; "
            f"all hosts run in {PROCESSES} processes on the same cores",
            *(
                f"{one.hosts} hosts, {one.rate:g}/s, {what}: {one.unanswered} of the requests had no answer within "
                f"{LATE:g} s"
                for routed, grouped in (*pairs, *rising)
                for one, what in ((routed, "routed"), (grouped, "a group each"))
                if one.unanswered
            ),
            "CPU time of Redis while nobody asks, routed and with a group each, in % of a core: "
            + "; ".join(f"{one.hosts} hosts {one.idle:.1f}, {other.idle:.1f}" for one, other in pairs),
            "CPU time of the router a request, in ms: "
            + "; ".join(f"{one.rate:g}/s {one.router:.2f}" for one, _ in rising),
        ],
        [
            _chart("fleet-cpu", "CPU time of Redis a request", "ms", "hosts", pairs, "cpu"),
            _chart("fleet-bytes", "Bytes to and from Redis a request", "bytes", "hosts", pairs, "nbytes"),
            _chart("fleet-deliveries", "Deliveries a request", "", "hosts", pairs, "deliveries"),
            Lines(
                "fleet-latency",
                f"From a request to its answer, {MANY} hosts, p99",
                "requests/s",
                "ms",
                {
                    "routed": [(routed.rate, routed.quantile(99)) for routed, _ in rising],
                    "a group each": [(grouped.rate, grouped.quantile(99)) for _, grouped in rising],
                },
            ),
        ],
    )


def _figures(name: str, routed: Trial, grouped: Trial) -> list[Figure]:
    beside = "a group each"
    return [
        Figure(f"{name}: deliveries a request", routed.deliveries, "", beside, grouped.deliveries),
        Figure(f"{name}: bytes a request", routed.nbytes, "B", beside, grouped.nbytes),
        Figure(f"{name}: CPU time of Redis a request", routed.cpu, "ms", beside, grouped.cpu),
        Figure(f"{name}: request to answer, p50", routed.quantile(50), "ms", beside, grouped.quantile(50)),
        Figure(f"{name}: the same, p99", routed.quantile(99), "ms", beside, grouped.quantile(99)),
    ]


def _chart(name: str, title: str, unit: str, axis: str, pairs: list[tuple[Trial, Trial]], attribute: str) -> Lines:
    lines = {
        what: [(one.hosts, getattr(one, attribute)) for one in column]
        for what, column in zip(("routed", "a group each"), zip(*pairs, strict=True), strict=True)
    }
    return Lines(name, title, axis, unit, lines)
