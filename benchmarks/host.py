"""A host with cameras: their streams over RTSP, its configuration, its decoders and snapd, as real processes."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks import video
from benchmarks.process import BenchmarkError, command, shielded
from framesrv import FrameReader, FrameUnavailableError, segment
from tests.rtsp import RtspServer

FIRST_FRAME = 20.0  # s

Sections = Mapping[str, Mapping[str, str | int | float]]


class Host:
    """Cameras that all play the same footage, each on a path of its own.

    Args:
        directory: for the configuration and logs.
        cameras: how many.
        sections: of the configuration, besides those of the cameras.
    """

    def __init__(self, directory: Path, cameras: int, sections: Sections | None = None) -> None:
        self.prefix = f"benchmark-{os.getpid()}"
        self.codes = [f"camera{number}" for number in range(1, cameras + 1)]
        self._directory = directory
        self._rtsp = RtspServer(dict.fromkeys(self.codes, video.path()), directory)
        self._sections: Sections = {"shm": {"prefix": self.prefix}, "http": {"listen": ""}} | dict(sections or {})

    def __enter__(self) -> Self:
        with shielded():
            self._rtsp.start()
        self._config.write_text(self._toml())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rtsp.stop()
        for code in self.codes:
            segment.remove(self.prefix, code)

    def url(self, code: str) -> str:
        return self._rtsp.url(code)

    @contextmanager
    def decoder(self, code: str) -> Iterator[int]:
        """A camera's decoder, from its first frame on; its process number."""
        with self._run(code, "framesrv", "decode", code) as pid:
            with FrameReader(code, prefix=self.prefix) as reader:
                try:
                    reader.latest(timeout=FIRST_FRAME).release()
                except FrameUnavailableError as error:
                    raise BenchmarkError(str(error)) from error
            yield pid

    @contextmanager
    def snapd(self, workers: int) -> Iterator[int]:
        """The snapshot service; its process number."""
        with self._run("snapd", "snapd", "run", FRAMESRV_SNAPSHOT__WORKERS=str(workers)) as pid:
            yield pid

    @contextmanager
    def _run(self, log: str, module: str, *arguments: str, **environment: str) -> Iterator[int]:
        words = [sys.executable, "-m", module, *arguments, "--config", str(self._config)]
        with command(words, self._directory / f"{log}.log", **environment) as pid:
            yield pid

    @property
    def _config(self) -> Path:
        return self._directory / "framesrv.toml"

    def _toml(self) -> str:
        # strings and numbers are written alike in TOML and JSON
        lines = []
        for name, keys in self._sections.items():
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in keys.items())]
        for code in self.codes:
            lines += ["[[camera]]", f"code = {json.dumps(code)}", f"source = {json.dumps(self.url(code))}"]
        return "\n".join(lines) + "\n"
