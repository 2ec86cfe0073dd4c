"""A host with cameras: their streams over RTSP, its configuration, its decoders and snapd, as real processes."""

import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.measures import baseline_loops as loops
from benchmarks.measures import video
from benchmarks.measures.process import command, shielded, wait_until
from framesrv import CameraStatus, camera_status
from framesrv.history.abandoned import remove_abandoned
from framesrv.process import report
from tests.support.footage import Codec
from tests.support.processes import write_config
from tests.support.rtsp import RtspServer

STARTING = 30.0  # s that decoders started together get, besides one for each

Sections = Mapping[str, Mapping[str, str | int | float]]


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera of the host; all as in the configuration. Without a source it plays the footage."""

    code: str
    decode: str = "all"
    history: float = 0.0
    source: str = ""


class Host:
    """Cameras that all play the same footage, each decoder on a connection of its own, from the first frame on.

    Args:
        directory: for the configuration and logs.
        cameras: of the configuration.
        codec: of the footage.
        sections: of the configuration, besides those of the cameras.
        through: a module by which decoders and snapd are run, which changes them; empty: as they are.
    """

    def __init__(
        self,
        directory: Path,
        cameras: Sequence[Camera],
        codec: Codec = "h264",
        sections: Sections | None = None,
        through: str = "",
    ) -> None:
        self.prefix = f"benchmark-{os.getpid()}"
        self.cameras = cameras
        self._directory = directory
        self._through = ["-m", through] if through else []
        self._config = directory / "framesrv.toml"
        self._rtsp = RtspServer({"camera": video.path(codec)}, directory)
        self._sections: Sections = {"shm": {"prefix": self.prefix}, "http": {"listen": ""}} | dict(sections or {})

    def __enter__(self) -> Self:
        with shielded():
            self._rtsp.start()
        cameras = [
            {"code": one.code, "source": one.source or self.url, "decode": one.decode, "history": one.history}
            for one in self.cameras
        ]
        write_config(self._config, self._sections, cameras)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rtsp.stop()
        for camera in self.cameras:
            remove_abandoned(self.prefix, camera.code)

    @property
    def url(self) -> str:
        """Of every camera's stream."""
        return self._rtsp.url("camera")

    @property
    def server(self) -> int:
        """The process number of the RTSP server."""
        return self._rtsp.pid

    @property
    def port(self) -> int:
        """Of the RTSP server."""
        return self._rtsp.port

    def status(self, code: str) -> CameraStatus:
        """How a camera does."""
        return camera_status(self.prefix, code)

    def stall(self) -> None:
        """Has every stream stop, all connections open."""
        self._rtsp.fault("stall")

    @contextmanager
    def decoders(self, *codes: str) -> Iterator[dict[str, int]]:
        """The decoders of some cameras, from when all are live; their process numbers."""
        with ExitStack() as stack:
            pids = {code: stack.enter_context(self._run(code, "framesrv", "decode", code)) for code in codes}
            try:
                wait_until(
                    lambda: all(self.status(code).state == "live" for code in codes),
                    f"{len(codes)} decoders live",
                    STARTING + len(codes),
                )
                yield pids
            finally:
                for pid in pids.values():  # all at once: each takes its time to end
                    os.kill(pid, signal.SIGTERM)

    @contextmanager
    def up(self) -> Iterator[dict[str, int]]:
        """The decoders of all cameras, kept by one process, from when all are live; their process numbers."""
        codes = [one.code for one in self.cameras]
        with self._run("up", "framesrv", "up"):
            wait_until(
                lambda: all(self.status(code).state == "live" for code in codes),
                f"{len(codes)} decoders live",
                STARTING + len(codes),
            )
            yield {code: self.status(code).pid or 0 for code in codes}

    @contextmanager
    def loops(self, *ways: str) -> Iterator[dict[str, int]]:
        """Other ways to the same stream, of `loops.WAYS`, from when all have a frame; their process numbers."""
        logs = {way: self._directory / f"loop-{way}.log" for way in ways}
        with ExitStack() as stack:
            pids = {
                way: stack.enter_context(command([sys.executable, "-m", loops.__name__, way, self.url], log))
                for way, log in logs.items()
            }
            wait_until(
                lambda: all("ready" in log.read_text() for log in logs.values()),
                f"the first frame of {', '.join(ways)}",
                STARTING,
            )
            yield pids

    @contextmanager
    def snapd(self, workers: int) -> Iterator[Path]:
        """The snapshot service; its log, a line with the time of every stage for each request."""
        with self._run("snapd", "snapd", "run", "-v", FRAMESRV_SNAPSHOT__WORKERS=str(workers)):
            yield self._directory / "snapd.log"

    @contextmanager
    def processes(self, count: int, workers: int) -> Iterator[int]:
        """The snapshot service of several processes, which log no request, once all read; its process number."""
        told = self._directory / report.NAME
        told.unlink(missing_ok=True)
        environment = {"FRAMESRV_SNAPSHOT__PROCESSES": str(count), "FRAMESRV_SNAPSHOT__WORKERS": str(workers)}
        with self._run("snapd", "snapd", "run", **environment, RUNTIME_DIRECTORY=str(self._directory)) as pid:
            wait_until(lambda: told.exists() and _all_read(report.read(told)), f"{count} processes")
            yield pid

    @contextmanager
    def _run(self, log: str, module: str, *arguments: str, **environment: str) -> Iterator[int]:
        start = [*self._through, module] if self._through else ["-m", module]
        words = [sys.executable, *start, *arguments, "--config", str(self._config)]
        with command(words, self._directory / f"{log}.log", **environment) as pid:
            yield pid


def _all_read(said: report.Report) -> bool:
    return said.joined and not any(one.trouble for one in said.processes)
