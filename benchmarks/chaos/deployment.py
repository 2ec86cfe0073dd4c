"""An edge host and its backend, all real but COS and WVP, every part of which can be made to fail.

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

from benchmarks.chaos.cleanup import scratch_directory
from benchmarks.chaos.faults import CAMERAS, SNAPDS, Fault
from benchmarks.chaos.faulty_cloud import FaultyCloud, faulty_cloud
from benchmarks.chaos.kept_process import KeptProcess
from benchmarks.chaos.load_generator import STREAM
from benchmarks.measures.process import wait_until
from framesrv import camera_status
from tests.support.processes import write_config
from tests.support.redis_server import RedisServer

SOURCE = "test:640x360@10"
PORTS = range(20000, 30000)  # below those the kernel gives to connections: Redis must get its own again


class Deployment:
    """Everything, up and running, for the length of a block. Used from the main thread, which children die with.

    Args:
        logs: a directory for what the processes say; None: it is thrown away.
    """

    cloud: FaultyCloud
    redis: RedisServer

    def __init__(self, logs: Path | None = None) -> None:
        self._logs = logs
        self.prefix = f"chaos-{os.getpid()}"
        self.processes: dict[str, KeptProcess] = {}
        self._stack = ExitStack()
        self._names = 0

    @property
    def snapds(self) -> list[KeptProcess]:
        """The three of them."""
        return [self.processes[name] for name in SNAPDS]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            directory = stack.enter_context(scratch_directory(self.prefix))
            self.redis = stack.enter_context(RedisServer(directory / "redis", _free_port(), appendonly=True))
            self.cloud = stack.enter_context(faulty_cloud(self.redis.port))
            self._add_units(directory, self._logs or directory)
            for process in self.processes.values():
                stack.callback(process.stop)
            self.tend()
            wait_until(
                lambda: all(camera_status(self.prefix, code).state == "live" for code in CAMERAS), "cameras are live"
            )
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
        for process in self.processes.values():
            process.tend()

    def begin(self, fault: Fault) -> None:
        """Makes the fault happen."""
        process = self.processes.get(fault.target)
        if process is not None:
            if fault.kind == "stop":
                process.signal(signal.SIGSTOP)
                return
            process.kill()
            if fault.kind == "replace":
                self._names += 1
                process.environment["FRAMESRV_STREAM__CONSUMER"] = f"{process.name}-{self._names}"
        elif fault.target != "redis":
            self.cloud.begin(fault)
        elif fault.kind == "stop":
            self._signal_redis(signal.SIGSTOP)
        else:
            self.redis.kill()

    def end(self, fault: Fault) -> None:
        """Mends what the fault broke."""
        process = self.processes.get(fault.target)
        if process is not None:
            if fault.kind == "stop":
                process.signal(signal.SIGCONT)
            else:
                process.release()
        elif fault.target != "redis":
            self.cloud.end(fault.target)
        elif fault.kind == "stop":
            self._signal_redis(signal.SIGCONT)
        else:
            self.redis.start()

    def _signal_redis(self, number: int) -> None:
        if self.redis.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.redis.pid, number)

    def _add_units(self, directory: Path, logs: Path) -> None:
        endpoints = self.cloud.endpoints
        sections = {
            "redis": {"url": self.redis.url},
            "result": {"key_ttl": 3600},  # keys are counted at the end
            "store": endpoints.store,
            "shm": {"prefix": self.prefix},
            "http": {"listen": ""},
        }
        cameras = [{"code": code, "source": SOURCE} for code in CAMERAS]
        config = str(write_config(directory / "framesrv.toml", sections, cameras))
        for code in CAMERAS:
            self.processes[code] = KeptProcess(code, ["framesrv", "decode", code, "--config", config], logs, {})
        for name in SNAPDS:
            environment = {
                "FRAMESRV_STREAM__CONSUMER": name,
                "FRAMESRV_REDIS__URL": f"redis://127.0.0.1:{endpoints.redis[name]}/0",
            }
            self.processes[name] = KeptProcess(name, ["snapd", "run", "--config", config], logs, environment)


def _free_port() -> int:
    while True:
        port = random.choice(PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
