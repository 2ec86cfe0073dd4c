"""An edge host and its surroundings, all real but COS and WVP, every part of which can be made to fail.

Redis with an append-only file, cameras' decoders, three snapds, the stand-ins and the network between them.
"""

import os
import random
import signal
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.chaos.asker import STREAM
from benchmarks.chaos.cleanup import workplace
from benchmarks.chaos.faults import CAMERAS, SNAPDS, Fault
from benchmarks.chaos.faulty_cloud import Outside, outside
from benchmarks.chaos.unit import Unit
from benchmarks.measures.process import wait_until
from framesrv.segment.status import camera
from tests.support.processes import write_config
from tests.support.redis_server import RedisServer

SOURCE = "test:640x360@10"
PORTS = range(20000, 30000)  # below those the kernel gives to connections: Redis must get its own again


class Rig:
    """Everything, up and running, for the length of a block. Used from the main thread, which children die with.

    Args:
        logs: a directory for what the processes say; None: it is thrown away.
    """

    outside: Outside
    redis: RedisServer

    def __init__(self, logs: Path | None = None) -> None:
        self._logs = logs
        self.prefix = f"chaos-{os.getpid()}"
        self.units: dict[str, Unit] = {}
        self._stack = ExitStack()
        self._names = 0

    @property
    def snapds(self) -> list[Unit]:
        """The three of them."""
        return [self.units[name] for name in SNAPDS]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            directory = stack.enter_context(workplace(self.prefix))
            self.redis = stack.enter_context(RedisServer(directory / "redis", _free_port(), appendonly=True))
            self.outside = stack.enter_context(outside(self.redis.port))
            self._add_units(directory, self._logs or directory)
            for unit in self.units.values():
                stack.callback(unit.stop)
            self.tend()
            wait_until(lambda: all(camera(self.prefix, code).state == "live" for code in CAMERAS), "cameras are live")
            with self.redis.client() as client:
                wait_until(lambda: self.tend() or client.exists(STREAM), "a snapd has joined the stream")
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def tend(self) -> None:
        """Starts again what has died. To be called often."""
        for unit in self.units.values():
            unit.tend()

    def begin(self, fault: Fault) -> None:
        """Makes the fault happen."""
        unit = self.units.get(fault.target)
        if unit is not None:
            if fault.kind == "stop":
                unit.signal(signal.SIGSTOP)
                return
            unit.kill()
            if fault.kind == "replace":
                self._names += 1
                unit.environment["FRAMESRV_STREAM__CONSUMER"] = f"{unit.name}-{self._names}"
        elif fault.target != "redis":
            self.outside.begin(fault)
        elif fault.kind == "stop":
            self._signal_redis(signal.SIGSTOP)
        else:
            self.redis.kill()

    def end(self, fault: Fault) -> None:
        """Mends what the fault broke."""
        unit = self.units.get(fault.target)
        if unit is not None:
            if fault.kind == "stop":
                unit.signal(signal.SIGCONT)
            else:
                unit.release()
        elif fault.target != "redis":
            self.outside.end(fault.target)
        elif fault.kind == "stop":
            self._signal_redis(signal.SIGCONT)
        else:
            self.redis.start()

    def _signal_redis(self, number: int) -> None:
        if self.redis.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.redis.pid, number)

    def _add_units(self, directory: Path, logs: Path) -> None:
        place = self.outside.place
        sections = {
            "redis": {"url": self.redis.url},
            "result": {"key_ttl": 3600},  # keys are counted at the end
            "store": place.store,
            "shm": {"prefix": self.prefix},
            "http": {"listen": ""},
        }
        cameras = [{"code": code, "source": SOURCE} for code in CAMERAS]
        config = str(write_config(directory / "framesrv.toml", sections, cameras))
        for code in CAMERAS:
            self.units[code] = Unit(code, ["framesrv", "decode", code, "--config", config], logs, {})
        for name in SNAPDS:
            environment = {
                "FRAMESRV_STREAM__CONSUMER": name,
                "FRAMESRV_REDIS__URL": f"redis://127.0.0.1:{place.redis[name]}/0",
            }
            self.units[name] = Unit(name, ["snapd", "run", "--config", config], logs, environment)


def _free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
