"""Breaks everything backend snapd, and snapd itself, and counts whether every request got its answer.

``python -m benchmarks.chaos --seconds 60 --seed 1``; see --help.
"""

import json
import random
import signal
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click
import redis
from redis.exceptions import MovedError

from benchmarks.chaos.backing import TIMEOUT, Kind
from benchmarks.chaos.deployment import Deployment
from benchmarks.chaos.faults import CAMERAS, Fault, schedule
from benchmarks.chaos.faulty_cloud import FaultyCloud
from benchmarks.chaos.ledger import Answer, Ledger
from benchmarks.chaos.load_generator import LoadGenerator
from benchmarks.chaos.outcome import Idle, Outcome, render
from benchmarks.chaos.sampler import DEAD, GROUP, Sampler
from benchmarks.measures.process import BenchmarkError
from benchmarks.measures.progress import line

TICK = 0.05  # s
CLAIM = 90.0  # s, at most, after which a snapd takes what a dead one has left
PATIENCE = CLAIM + 60.0  # s for everything to be answered once all is healed
KEY_TTL = 3600.0  # s, as the deployment configures it
KEYS_EVERY = 0.5  # s between looks at results under keys
LAST_ROUND, LAST_PATIENCE = 20, 10.0  # requests when all is healed, and s for their answers
RECOVERY_PATIENCE = 30.0  # s for all to be as good as new
QUIET = 2.0  # s over which an idle snapd is watched


class Chaos:
    """One run on a deployment."""

    def __init__(
        self,
        deployment: Deployment,
        seed: int,
        seconds: float,
        rate: float,
        *,
        redis: Kind,
        routed: bool,
        quiet: bool,
    ) -> None:
        self._deployment = deployment
        self._redis = redis
        self._seed = seed
        self._seconds = seconds
        self._rate = rate
        self._quiet = quiet
        self._ledger = Ledger()
        self._faults = schedule(seed, seconds, redis, routed=routed)
        self._happened: list[Fault] = []

    def run(self) -> Outcome:
        """Breaks, heals, waits and counts."""
        deployment, ledger = self._deployment, self._ledger
        threading.Thread(target=_listen, args=(deployment.cloud, ledger), name="callbacks", daemon=True).start()
        sampler = Sampler(deployment.snapds, deployment.backing)
        generator = LoadGenerator(
            deployment.backing, ledger, list(CAMERAS), deployment.cloud.endpoints.callback_url, self._seed
        )
        if deployment.backing.replicas:
            threading.Thread(target=self._watch_keys, name="keys", daemon=True).start()
        generator.start(self._rate)
        self._break()
        generator.stop()
        healed = time.monotonic()
        pending = self._settle(generator, healed)
        settled = time.monotonic() - healed
        self._read_keys()
        afterwards = self._last_rounds(generator)
        idle, growth = self._watch_idle(), sampler.growth()
        sampler.stop()
        deliveries = sampler.redelivered
        return Outcome(
            redis=self._redis,
            seed=self._seed,
            seconds=self._seconds,
            totals=ledger.totals(),
            faults=dict(Counter(fault.name for fault in self._happened)),
            resent=generator.repeats,
            pending=pending,
            settled=settled,
            redelivered=len(deliveries),
            deliveries=max(deliveries.values(), default=1),
            afterwards=afterwards,
            growth=growth,
            idle=[self._end(one) for one in idle],
            ended={process.name: process.ended for process in deployment.processes.values() if process.ended},
        )

    def _break(self) -> None:
        """Makes every fault happen, and end, when its time has come."""
        steps = [(fault.at, 1, fault) for fault in self._faults] + [(fault.end, 0, fault) for fault in self._faults]
        began = time.monotonic()
        now = 0.0
        going: dict[str, Fault] = {}
        for due, begins, fault in sorted(steps, key=lambda step: step[:2]):
            while (now := time.monotonic() - began) < due:
                self._tick(f"{now:3.0f} s", going)
            if begins:
                if self._deployment.begin(fault):
                    going[fault.target] = fault
                    self._happened.append(fault)
            elif going.get(fault.target) is fault:
                self._deployment.end(fault)
                going.pop(fault.target, None)
                if fault.may_repeat:
                    self._ledger.disturbed(began + fault.at, time.monotonic() + fault.aftermath)
        while (now := time.monotonic() - began) < self._seconds:
            self._tick(f"{now:3.0f} s", going)

    def _tick(self, when: str, going: dict[str, Fault]) -> None:
        self._deployment.tend()
        if not self._quiet:
            asked, called = self._ledger.counts
            faults = ", ".join(f"{fault.target} {fault.kind}" for fault in going.values())
            line(f"{when}  asked {asked}  called back {called}  {faults}")
        time.sleep(TICK)

    def _settle(self, generator: LoadGenerator, healed: float) -> int:
        """Waits until nothing is in the stream that is not acknowledged; how much there still is, at the end."""
        while True:
            spent = time.monotonic() - healed
            left = self._unacknowledged()
            if generator.done and (left == 0 or (left is not None and spent > PATIENCE)):
                return left or 0
            if spent > 2 * PATIENCE:
                raise BenchmarkError("Redis is healed and does not answer")
            self._tick(f"healed {spent:.0f} s ago", {})

    def _unacknowledged(self) -> int | None:
        """Entries pending or not yet delivered, on every stream; None if Redis does not say."""
        found = [self._unacknowledged_on(stream) for stream in self._deployment.streams]
        return None if None in found else sum(one or 0 for one in found)

    def _unacknowledged_on(self, stream: str) -> int | None:
        with suppress(redis.RedisError, OSError):
            for server in self._deployment.backing.masters():
                with server.client(timeout=TIMEOUT) as client, suppress(MovedError, StopIteration):
                    groups: Any = client.xinfo_groups(stream)
                    group = next(one for one in groups if one["name"] == GROUP)
                    new: Any = client.xrange(stream, f"({group['last-delivered-id']}", "+")
                    return int(group["pending"]) + len(new)
        return None

    def _read_keys(self) -> None:
        """Enters the results that were left under keys, and the dead letters."""
        self._look_at_keys()
        for server in self._deployment.backing.masters():
            with server.client(timeout=TIMEOUT) as client, suppress(MovedError):
                letters: Any = client.xrange(DEAD)
                for _, fields in letters:
                    self._ledger.dead(fields.get("request_id", ""))

    def _watch_keys(self) -> None:
        """Looks as the senders would: a key may go with its master."""
        while True:
            self._look_at_keys()
            time.sleep(KEYS_EVERY)

    def _look_at_keys(self) -> None:
        """Enters the results that are under keys now, where Redis answers."""
        with suppress(redis.RedisError, OSError):
            for server in self._deployment.backing.masters():
                with server.client(timeout=TIMEOUT) as client:
                    self._enter_keys(client)

    def _enter_keys(self, client: redis.Redis) -> None:
        for key in client.scan_iter("snap:result:*", count=1000):
            content: Any = client.get(key)
            left: Any = client.pttl(key)  # what it began with is known, so this tells when that was
            if content is not None:
                result = json.loads(content)
                at = time.monotonic() + left / 1000 - KEY_TTL
                name = key.removeprefix("snap:result:")
                self._ledger.kept(Answer(name, result["status"], result.get("message", ""), at))

    def _last_rounds(self, generator: LoadGenerator) -> tuple[int, int, float]:
        """Last rounds until one is answered well, as soon as who knew the store as broken has tried it again."""
        until = time.monotonic() + RECOVERY_PATIENCE
        while True:
            asked, ok, slowest = self._last_round(generator)
            if ok == asked or time.monotonic() > until:
                return asked, ok, slowest

    def _last_round(self, generator: LoadGenerator) -> tuple[int, int, float]:
        """Whether the service is as good as new: how many asked, how many answered ok, seconds of the slowest."""
        ledger = Ledger()
        self._ledger.also(ledger)
        began = time.monotonic()
        url = self._deployment.cloud.endpoints.callback_url
        for number in range(LAST_ROUND):
            ledger.asked(generator.ask(CAMERAS[number % len(CAMERAS)], url), time.monotonic())
        while ledger.unanswered() and time.monotonic() - began < LAST_PATIENCE:
            self._tick("a last round", {})
        totals = ledger.totals()
        return totals.asked, totals.ok, totals.latency.get("max", 0.0)

    def _watch_idle(self) -> list[Idle]:
        begun = time.monotonic() + RECOVERY_PATIENCE  # by then who was killed last has started again
        while None in [process.usage() for process in self._deployment.snapds] and time.monotonic() < begun:
            self._tick("waiting for everybody", {})
        before = {process.name: process.usage() for process in self._deployment.snapds}
        until = time.monotonic() + QUIET
        while time.monotonic() < until:
            self._tick("watching who is idle", {})
        found = []
        for process in self._deployment.snapds:
            early, late = before[process.name], process.usage()
            alive = early is not None and late is not None and early.pid == late.pid
            spent = late.cpu - early.cpu if early is not None and late is not None else 0.0
            found.append(Idle(process.name, alive, spent / QUIET, None))
        return found

    def _end(self, one: Idle) -> Idle:
        return Idle(one.name, one.alive, one.cpu, self._deployment.processes[one.name].stop())


def _listen(cloud: FaultyCloud, ledger: Ledger) -> None:
    """Enters every callback."""
    with suppress(EOFError, OSError):
        while True:
            callback = cloud.callback()
            ledger.called_back(
                Answer(callback.request_id, callback.status, callback.message, callback.answered_ns / 1e9)
            )


def _exit(number: int, _frame: object) -> NoReturn:
    sys.exit(128 + number)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--seconds",
    type=click.FloatRange(5, 86400),
    default=60.0,
    show_default=True,
    help="How long there are faults; settling comes after it.",
)
@click.option("--seed", type=int, help="Which faults happen when. Default: any; it is printed.")
@click.option("--rate", type=click.FloatRange(0.1, 1000), default=20.0, show_default=True, help="Requests a second.")
@click.option(
    "--redis",
    "redis_kind",
    type=click.Choice(["one", "sentinel", "cluster"]),
    default="one",
    show_default=True,
    help="One server; a master, a replica and three sentinels; or a cluster of three masters and three replicas.",
)
@click.option(
    "--routed", is_flag=True, help="Each snapd is a host with two of the cameras; two routers bring requests to them."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")
@click.option(
    "--logs",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep what the processes say in this directory. Default: it is thrown away.",
)
@click.option("--quiet", is_flag=True, help="No progress on the terminal.")
def main(
    seconds: float,
    seed: int | None,
    rate: float,
    redis_kind: Kind,
    routed: bool,
    as_json: bool,
    logs: Path | None,
    quiet: bool,
) -> None:
    """Break everything backend snapd, and snapd itself; count whether every request got its answer.

    Four cameras' decoders, three snapds and Redis run for real; the object store, the platform that is called
    back and the network between all of them are stand-ins. While requests come at a steady rate, a fault begins
    every second or two: processes are killed or stopped, the store and the platform are slow, silent, or refuse,
    connections are cut, stalled, delayed, a reader keeps every lock of a camera that it can have. Then all is healed,
    and the answers are counted.

    With sentinels or a cluster, masters are killed, or stopped and come back, or killed after their replica has heard
    nothing for a while. A request then counts as sent when a replica has heard of it (WAIT); else it is sent again. A
    fault of Redis is left out where the one before is not mended yet.

    With --routed snapds and routers are killed for longer than they count as alive: what they had is answered by
    another host that has the camera, or by a router.

    The same seed gives the same faults at the same times. One snapd is never killed, to show whether it grows.

    \b
    Example:
        python -m benchmarks.chaos --seconds 300 --seed 1

    \b
    Exit status: 0 all is well; 1 something is lost, still pending, answered twice too often or without a
    reason, or a snapd does not do well afterwards; 2 wrong usage.
    """  # noqa: D301  click wants the character
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too where a shell has it ignored
        signal.signal(number, _exit)
    chosen = random.randrange(1_000_000) if seed is None else seed
    try:
        if logs is not None:
            logs.mkdir(parents=True, exist_ok=True)
        with Deployment(logs and logs.resolve(), redis_kind, routed=routed) as deployment:
            outcome = Chaos(deployment, chosen, seconds, rate, redis=redis_kind, routed=routed, quiet=quiet).run()
    except BenchmarkError as error:
        raise click.ClickException(str(error)) from error
    if not quiet:
        line("")
    click.echo(json.dumps(outcome.to_json(), ensure_ascii=False, indent=2) if as_json else render(outcome))
    sys.exit(1 if outcome.problems else 0)


if __name__ == "__main__":
    main()
