"""An edge host and its backend, all real but COS and WVP, every part of which can be made to fail.

Redis (see `benchmarks.chaos.backing`), cameras' decoders, three snapds, the stand-ins and the network between them.
"""

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.chaos.backing import BACKINGS, STREAM, Backing, Kind
from benchmarks.chaos.cleanup import scratch_directory
from benchmarks.chaos.faults import CAMERAS, HAS, READERS, ROUTERS, SNAPDS, Fault
from benchmarks.chaos.faulty_cloud import FaultyCloud, faulty_cloud
from benchmarks.chaos.hostile_reader import HostileReader
from benchmarks.chaos.kept_process import KeptProcess
from benchmarks.measures.process import wait_until
from framesrv import camera_status
from framesrv.settings import NOBODY
from tests.support.processes import write_config

SOURCE = "test:640x360@10"
SETTLED = 10.0  # s after which a router that has begun takes nobody for alive who is not


class Deployment:
    """Everything, up and running, for the length of a block. Used from the main thread, which children die with.

    Args:
        logs: a directory for what the processes say; None: it is thrown away.
        redis: how Redis is set up.
        routed: whether each snapd is a host of its own, with two of the cameras, and two routers bring requests.
    """

    cloud: FaultyCloud
    backing: Backing

    def __init__(self, logs: Path | None = None, redis: Kind = "one", *, routed: bool = False) -> None:
        self._kind: Kind = redis
        self._routed = routed
        self._logs = logs
        self.prefix = f"chaos-{os.getpid()}"
        self.processes: dict[str, KeptProcess] = {}
        self._readers = {name: HostileReader(self.prefix, code) for name, code in zip(READERS, CAMERAS, strict=True)}
        self._stack = ExitStack()
        self._names = 0

    @property
    def streams(self) -> list[str]:
        """Every stream that a request may wait on."""
        return [STREAM, *(f"{STREAM}:{host}" for host in (*SNAPDS, NOBODY))] if self._routed else [STREAM]

    @property
    def snapds(self) -> list[KeptProcess]:
        """The three of them."""
        return [self.processes[name] for name in SNAPDS]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            directory = stack.enter_context(scratch_directory(self.prefix))
            self.backing = stack.enter_context(BACKINGS[self._kind](directory / "redis"))
            self.cloud = stack.enter_context(faulty_cloud(self.backing.port))
            self._add_units(directory, self._logs or directory)
            for process in self.processes.values():
                stack.callback(process.stop)
            self.tend()
            wait_until(
                lambda: all(camera_status(self.prefix, code).state == "live" for code in CAMERAS), "cameras are live"
            )
            with self.backing.holder().client() as client:
                wait_until(lambda: self.tend() or client.exists(STREAM), "somebody has joined the stream")
            if self._routed:
                time.sleep(SETTLED)  # routers know every host then
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def tend(self) -> None:
        """Starts again what has died. To be called often."""
        self.backing.tend()
        for process in self.processes.values():
            process.tend()

    def begin(self, fault: Fault) -> bool:
        """Makes the fault happen; whether it did: a Redis that is not whole again yet has no other."""
        process = self.processes.get(fault.target)
        if fault.target in self._readers:
            self._readers[fault.target].begin()
        elif process is not None:
            if fault.kind == "stop":
                process.signal(signal.SIGSTOP)
                return True
            process.kill()
            if fault.kind == "replace":
                self._names += 1
                process.environment["FRAMESRV_STREAM__CONSUMER"] = f"{process.name}-{self._names}"
        elif fault.target != "redis":
            self.cloud.begin(fault)
        else:
            return self.backing.begin(fault.kind)
        return True

    def end(self, fault: Fault) -> None:
        """Mends what the fault broke."""
        process = self.processes.get(fault.target)
        if fault.target in self._readers:
            self._readers[fault.target].end()
        elif process is not None:
            if fault.kind == "stop":
                process.signal(signal.SIGCONT)
            else:
                process.release()
        elif fault.target != "redis":
            self.cloud.end(fault.target)
        else:
            self.backing.end(fault.kind)

    def _add_units(self, directory: Path, logs: Path) -> None:
        endpoints = self.cloud.endpoints
        sections = {
            "redis": {"url": self.backing.url},
            "result": {"key_ttl": 3600},  # keys are counted at the end
            "store": endpoints.store,
            "shm": {"prefix": self.prefix},
            "http": {"listen": ""},
            "route": {"listen": ""},
        }
        cameras = [{"code": code, "source": SOURCE} for code in CAMERAS]
        config = str(write_config(directory / "framesrv.toml", sections, cameras))
        for code in CAMERAS:
            self.processes[code] = KeptProcess(code, ["framesrv", "decode", code, "--config", config], logs, {})
        for name in SNAPDS:
            environment = {"FRAMESRV_STREAM__CONSUMER": name}
            if self._routed:
                environment = {"FRAMESRV_STREAM__ROUTED": "true", "FRAMESRV_STREAM__HOST": name}
                own = [camera for camera in cameras if camera["code"] in HAS[name]]
                config = str(write_config(directory / f"{name}.toml", sections, own))
            if name in endpoints.redis:
                environment["FRAMESRV_REDIS__URL"] = f"redis://127.0.0.1:{endpoints.redis[name]}/0"
            self.processes[name] = KeptProcess(name, ["snapd", "run", "--config", config], logs, environment)
        for name in ROUTERS if self._routed else ():
            self.processes[name] = KeptProcess(name, ["snapd", "route", "--config", config], logs, {})
