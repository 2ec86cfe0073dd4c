"""snapd with its pages, as a process, for tests that look at them."""

import json
import os
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests
from prometheus_client.parser import text_string_to_metric_families

from tests.support.edge import Edge, write_config
from tests.support.processes import Program, descendants, wait_for


class Shown:
    """A snapd whose pages are shown at `url`."""

    def __init__(self, program: Program, config: Path, edge: Edge) -> None:
        self.program, self.config, self.edge = program, config, edge
        self.session = requests.Session()
        self.url = self.wait_for_address()

    def wait_for_address(self) -> str:
        found = wait_for(lambda: re.findall(r"address=(http://\S+)/", self.program.output), "pages that listen")
        return str(found[-1]).replace("0.0.0.0", "127.0.0.1")

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def get(self, path: str, **headers: str) -> requests.Response:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.session.get(self.url + path, headers=names, timeout=20, allow_redirects=False)

    def json(self, path: str) -> Any:
        response = self.get(path)
        assert response.status_code == 200, response.text
        return json.loads(response.content)

    def metrics(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        """Every sample, by name and labels."""
        families = text_string_to_metric_families(self.get("/metrics").text)
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in families
            for sample in family.samples
        }

    def metric(self, name: str, **labels: str) -> float:
        """One sample; 0 if there is none."""
        return self.metrics().get((name, frozenset(labels.items())), 0.0)

    def reload(self, *more: str, **sections: dict[str, Any]) -> None:
        count = self.program.output.count("Reloaded")
        write_config(self.edge, self.config, *more, **sections)
        self.program.process.send_signal(1)
        wait_for(lambda: self.program.output.count("Reloaded") > count, "a reload")

    @property
    def pid(self) -> int:
        """Of the process that shows the pages."""
        return int(wait_for(lambda: descendants(self.program.pid), "the process of the pages")[0])


@contextmanager
def shown(
    edge: Edge, place: Path, listen: str = "127.0.0.1:0", environment: dict[str, str] | None = None, **sections: Any
) -> Iterator[Shown]:
    sections["http"] = {"listen": listen} | sections.get("http", {})
    config = write_config(edge, place / "framesrv.toml", **sections)
    with Program("snapd", "run", "--config", config, log=place / "snapd.log", environment=environment) as program:
        yield Shown(program, config, edge)


class Viewer:
    """A viewer of a stream; reads when told to."""

    def __init__(self, shown: Shown, path: str, buffer: int | None = None) -> None:
        self._socket = socket.socket()
        if buffer:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._socket.settimeout(20)
        self._socket.connect(("127.0.0.1", shown.port))
        self._socket.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def status(self) -> int:
        """That of the answer, whose head is read; `next` reads on."""
        head, _, self._received = self._until(b"\r\n\r\n")
        return int(head.split()[1])

    def text(self) -> str:
        """What is left of an answer that is no stream."""
        while True:
            try:
                self._read()
            except ConnectionError:
                return self._received.decode()

    def next(self) -> int:
        """The number of the next frame, which is read whole."""
        head, _, self._received = self._until(b"\r\n\r\n")
        if head.startswith(b"HTTP/1.1"):
            assert head.startswith(b"HTTP/1.1 200"), head
            head, _, self._received = self._until(b"\r\n\r\n")
        fields = {name: int(value) for name, value in re.findall(rb"(Content-Length|X-Frame-Seq): (\d+)", head)}
        while len(self._received) < fields[b"Content-Length"]:
            self._read()
        _, _, self._received = self._until(b"--frame\r\n")
        return fields[b"X-Frame-Seq"]

    def ends(self, timeout: float) -> bool:
        """Whether the connection is closed within so many seconds; what comes is read until then."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            self._socket.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                if not self._socket.recv(65536):
                    return True
            except ConnectionError:
                return True
            except TimeoutError:
                return False
        return False

    def _until(self, end: bytes) -> tuple[bytes, bytes, bytes]:
        while end not in self._received:
            self._read()
        return self._received.partition(end)

    def _read(self) -> None:
        received = self._socket.recv(65536)
        if not received:
            raise ConnectionError("the stream has ended")
        self._received += received


def environment_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text()


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))
