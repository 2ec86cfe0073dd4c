"""A real Redis cluster: masters that share the slots, and a replica of each."""

import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.cluster import ClusterNode
from redis.crc import key_slot

from tests.support.ports import free_port
from tests.support.redis_server import RedisServer

SLOTS = 16384
NODE_TIMEOUT = 1500  # ms after which a node counts as dead
PATIENCE = 30.0  # s
TIMEOUT = 1.0  # s for an answer of a node


class RedisCluster:
    """The nodes; those from `masters` on are replicas at first. A killed one keeps its data.

    Args:
        directory: for all their files.
        masters: how many.
        replicas: of each of them.
    """

    def __init__(self, directory: Path, masters: int = 3, replicas: int = 1) -> None:
        self.masters = masters
        self.nodes = [
            RedisServer(
                directory / f"node-{number}",
                appendonly=True,
                appendfsync="no",  # a killed process loses nothing by that, and a replica is as good
                cluster_enabled="yes",
                cluster_port=str(free_port()),
                cluster_node_timeout=str(NODE_TIMEOUT),
            )
            for number in range(masters * (1 + replicas))
        ]
        self._stack = ExitStack()

    @property
    def url(self) -> str:
        """All its nodes."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def client(self, *, decode_responses: bool = True) -> Any:
        """redis-py's own client of it."""
        nodes = [ClusterNode("127.0.0.1", node.port) for node in self.nodes]  # type: ignore[no-untyped-call]
        return redis.RedisCluster(startup_nodes=nodes, decode_responses=decode_responses, socket_timeout=2.0)

    def owner(self, key: str) -> RedisServer:
        """The master that has a key, as a node that runs sees it."""
        slot = key_slot(key.encode())
        for node in self.running():
            with node.client(timeout=TIMEOUT) as client, suppress(redis.RedisError):
                rows: Any = client.execute_command("CLUSTER SLOTS")
                for first, last, (_, port, *_), *_ in rows:
                    if first <= slot <= last:
                        return next(one for one in self.nodes if one.port == port)
        raise redis.ConnectionError(f"nobody has the slot of {key}")

    def replica_of(self, master: RedisServer) -> RedisServer | None:
        """A replica that has everything its master has; None if there is none now."""
        for node in self.running():
            with node.client(timeout=TIMEOUT) as client, suppress(redis.RedisError):
                role: Any = client.execute_command("ROLE")
                if role[0] in {"slave", b"slave"} and int(role[2]) == master.port and _text(role[3]) == "connected":
                    return node
        return None

    def running(self) -> list[RedisServer]:
        return [node for node in self.nodes if node.pid is not None]

    def is_whole(self) -> bool:
        """Whether every node runs, knows of it, and every replica is up to date."""
        return len(self.running()) == len(self.nodes) and all(self._is_well(node) for node in self.nodes)

    def flush(self) -> None:
        for node in self.running():
            with node.client(timeout=TIMEOUT) as client, suppress(redis.exceptions.ReadOnlyError):
                client.flushall()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for node in self.nodes:
                stack.enter_context(node)
            self._join()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _join(self) -> None:
        masters, replicas = self.nodes[: self.masters], self.nodes[self.masters :]
        bounds = [number * SLOTS // self.masters for number in range(self.masters + 1)]
        for number, node in enumerate(masters):
            _tell(node, "CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
            _tell(node, "CLUSTER", "ADDSLOTSRANGE", str(bounds[number]), str(bounds[number + 1] - 1))
        for node in self.nodes[1:]:
            _tell(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", str(node.port), node.options["cluster-port"])
        _wait(lambda: all(self._count(node) == len(self.nodes) for node in self.nodes))
        for number, node in enumerate(replicas):
            _tell(node, "CLUSTER", "REPLICATE", _text(_tell(masters[number % self.masters], "CLUSTER", "MYID")))
        _wait(self.is_whole)

    def _count(self, node: RedisServer) -> int:
        return sum(" connected" in line for line in _nodes(node))

    def _is_well(self, node: RedisServer) -> bool:
        try:
            with node.client(timeout=TIMEOUT) as client:
                info: Any = client.execute_command("CLUSTER INFO")
                replication: Any = client.info("replication")
        except redis.RedisError:
            return False
        is_ok = info["cluster_state"] == "ok" if isinstance(info, dict) else "cluster_state:ok" in _text(info)
        is_fed = replication["role"] == "master" or replication["master_link_status"] == "up"
        failing = any("fail" in line.split()[2] for line in _nodes(node))
        return is_ok and is_fed and not failing and self._sees_all_replicas(node)

    def _sees_all_replicas(self, node: RedisServer) -> bool:
        return sum("slave" in line.split()[2] for line in _nodes(node)) == len(self.nodes) - self.masters


def _nodes(node: RedisServer) -> list[str]:
    return _text(_tell(node, "CLUSTER", "NODES")).splitlines()


def _tell(node: RedisServer, *words: str) -> Any:
    """The answer as it comes: redis-py makes something else of some."""
    with node.client(timeout=TIMEOUT) as client:
        connection: Any = client.connection_pool.get_connection()
        try:
            connection.send_command(*words)
            return connection.read_response()
        finally:
            client.connection_pool.release(connection)


def _text(answer: Any) -> str:
    return answer.decode() if isinstance(answer, bytes) else str(answer)


def _wait(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the cluster does not come together")
        time.sleep(0.05)
