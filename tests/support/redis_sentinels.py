"""A real master, a replica of it, and three sentinels that put the one in the other's place when it is dead."""

import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis

from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, binary
from tests.support.rtsp import die_with_parent

SERVICE = "cameras"
DOWN_AFTER = 1000  # ms after which a server counts as dead
PATIENCE = 30.0  # s


class Sentinels:
    """Two servers, the first of which is the master at first, and three sentinels. A killed server keeps its data.

    Args:
        directory: for all their files.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        one, two = free_port(), free_port()
        self.servers = [
            RedisServer(directory / "one", one, appendonly=True, appendfsync="no", repl_diskless_sync_delay="0"),
            RedisServer(
                directory / "two",
                two,
                appendonly=True,
                appendfsync="no",
                repl_diskless_sync_delay="0",
                replicaof=f"127.0.0.1 {one}",
            ),
        ]
        self.ports = [free_port() for _ in range(3)]
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    @property
    def master(self) -> RedisServer:
        """Whom the sentinels name."""
        found = {self._master_by(port) for port in self.ports} - {0}
        for server in self.servers:
            if server.port in found:
                return server
        raise redis.ConnectionError("no sentinel names a master")

    @property
    def replica(self) -> RedisServer:
        """The other one."""
        master = self.master
        return next(server for server in self.servers if server is not master)

    def client(self, *, decode_responses: bool = True) -> redis.Redis:
        """Of the master now."""
        return self.master.client(decode_responses=decode_responses)

    def is_whole(self) -> bool:
        """Whether both servers run, the sentinels agree, and the replica has everything."""
        try:
            if len({self._master_by(port) for port in self.ports}) != 1:
                return False
            with self.replica.client(timeout=1.0) as client:
                info: Any = client.info("replication")
            if info["role"] == "master" or info["master_link_status"] != "up":
                return False
            if info["master_port"] != self.master.port or info.get("master_sync_in_progress"):
                return False
            return all(self._sees_well(port) for port in self.ports)
        except redis.RedisError:
            return False

    def lose_replica(self) -> None:
        """The replica hears no more of what is written: it is stopped, and its connection is closed."""
        replica, master = self.replica, self.master
        replica.signal(19)  # SIGSTOP
        with master.client(timeout=1.0) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server)
                server.options.pop("replicaof", None)  # after a restart the sentinels say whose replica it is
            for port in self.ports:
                stack.callback(self._start_sentinel(port).kill)
            deadline = time.monotonic() + PATIENCE
            while not self.is_whole():
                if time.monotonic() > deadline:
                    raise RuntimeError("the sentinels do not come together")
                time.sleep(0.05)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start_sentinel(self, port: int) -> "subprocess.Popen[bytes]":
        directory = self._directory / f"sentinel-{port}"
        directory.mkdir(parents=True)
        config = directory / "sentinel.conf"
        monitor = f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} 2"
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {directory.resolve()}\nlogfile {directory.resolve()}/log\n{monitor}\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER}\nsentinel failover-timeout {SERVICE} 4000\n"
        )
        command = [binary(), str(config), "--sentinel"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent)  # noqa: PLW1509

    def _master_by(self, port: int) -> int:
        with redis.Redis("127.0.0.1", port, socket_timeout=1.0) as client, suppress(redis.RedisError):
            found: Any = client.sentinel_get_master_addr_by_name(SERVICE)
            return int(found[1]) if found else 0
        return 0

    def _sees_well(self, port: int) -> bool:
        with redis.Redis("127.0.0.1", port, socket_timeout=1.0) as client:
            state: Any = client.sentinel_master(SERVICE)
            replicas: Any = client.sentinel_slaves(SERVICE)
        return bool(
            state["flags"] in ("master", {"master"}, ["master"])
            and state["num-other-sentinels"] == 2
            and [one["flags"] in ("slave", {"slave"}, ["slave"]) for one in replicas] == [True]
        )
