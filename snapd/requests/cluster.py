"""A client that a cluster may send elsewhere: it follows MOVED and ASK, and so needs not know what it talks to.

Every command of snapd has one key. So it works with a single Redis, behind a proxy, and with a cluster, by the
addresses of some nodes or by the one of a managed cluster. Nothing is asked before there is something to do, so that
snapd starts without Redis; where slots are is learnt when a node first says that a key is elsewhere.
"""

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeAlias

import redis
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError
from redis.retry import Retry

from snapd.requests.trouble import Refusals, is_refusal

Address: TypeAlias = tuple[str, int]
Command: TypeAlias = Sequence[Any]

MOST_MOVES = 5  # from node to node for one command
MAP_EVERY = 1.0  # s between questions for all slots
AWAY = (redis.ConnectionError, redis.TimeoutError)
KEYLESS = {"INFO", "TIME", "PING", "CLUSTER", "ACL", "WAIT", "FLUSHALL"}


class RedisClient(redis.Redis):
    """Used by several threads at once.

    Attributes:
        seeds: further nodes to ask when the first is away.
        repeats: whether a command may be sent again to another node when one has died under it.
        patience: seconds after which it is not.
        refusals: is told what Redis refuses.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self.seeds: list[Address] = []
        self.repeats = True
        self.patience = 3.0
        self.refusals = Refusals()
        self._lock_of_nodes = threading.Lock()
        self._nodes: dict[Address, redis.Redis] = {}
        self._owners: dict[int, Address] = {}  # of slots; replaced, never changed: others are reading it
        self._home: Address | None = None  # where else to ask; None: the node it was opened for
        self._mapped_at = -MAP_EVERY
        super().__init__(*args, **options)

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """The answer to a command of one key, or none, from whoever has it."""
        until = time.monotonic() + self.patience
        moves = losses = 0
        while True:
            address = self._where(args)
            try:
                if address is None:
                    return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]
                return self._node(address).execute_command(*args, **options)  # type: ignore[no-untyped-call]
            except MovedError as error:
                moves += 1
                if moves > MOST_MOVES:  # those who are asked still know one who is dead
                    raise ClusterDownError(f"MOVED {error}, and from there again") from error
                self._learn(error, address)
            except AskError as error:
                with self._node(self._named(error, address)).pipeline(transaction=False) as pipeline:
                    pipeline.execute_command("ASKING")  # type: ignore[no-untyped-call]
                    pipeline.execute_command(*args, **options)  # type: ignore[no-untyped-call]
                    return pipeline.execute()[1]
            except AWAY:
                losses += 1
                others = self._forget(address)
                if not self.repeats or losses > others or time.monotonic() > until:
                    raise

    def batch(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several commands of one key each, in one round trip to each node; or what they raised."""
        replies: list[Any] = [None] * len(commands)
        places: defaultdict[Address | None, list[int]] = defaultdict(list)
        for index, command in enumerate(commands):
            places[self._where(command)].append(index)
        for address, indexes in places.items():
            away: Exception | None = None
            try:
                found = self._at_once(address, [commands[index] for index in indexes])
            except AWAY as error:
                found = [error] * len(indexes)
                if not self.repeats or not self._forget(address):
                    away = error
            for index, reply in zip(indexes, found, strict=True):
                replies[index] = reply
                if away is None and isinstance(reply, (AskError, *AWAY)):
                    try:
                        replies[index] = self.execute_command(*commands[index])
                    except AWAY as error:
                        replies[index] = away = error
                    except redis.RedisError as error:
                        replies[index] = error
        return replies

    def close(self) -> None:
        """Closes every connection."""
        with self._lock_of_nodes:
            nodes, self._nodes = list(self._nodes.values()), {}
        for node in nodes:
            node.close()
        super().close()

    def _at_once(self, address: Address | None, commands: Sequence[Command]) -> list[Any]:
        client = self if address is None else self._node(address)
        with client.pipeline(transaction=False) as pipeline:
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            return list(pipeline.execute(raise_on_error=False))

    def _where(self, command: Command) -> Address | None:
        if self._owners and (key := _key(command)) is not None:
            return self._owners.get(key_slot(key), self._home)
        return self._home

    def _node(self, address: Address) -> redis.Redis:
        with self._lock_of_nodes:
            node = self._nodes.get(address)
            if node is None:
                node = self._nodes[address] = open_node(self, address)
            return node

    def _named(self, error: AskError, address: Address | None) -> Address:
        """The node that an answer names; one without a host means the host that has answered."""
        if error.host and error.host != "?":
            return error.host, error.port
        here = address or (self.connection_pool.connection_kwargs.get("host", "127.0.0.1"), 0)
        return here[0], error.port

    def _learn(self, error: MovedError, address: Address | None) -> None:
        """Notes who has a slot, and asks him for the others: each key would be sent on otherwise."""
        owner = self._named(error, address)
        with self._lock_of_nodes:
            self._owners = self._owners | {error.slot_id: owner}
        now = time.monotonic()
        if now - self._mapped_at < MAP_EVERY:
            return
        self._mapped_at = now
        try:
            rows: Any = self._node(owner).execute_command("CLUSTER SLOTS")  # type: ignore[no-untyped-call]
            owners = {
                slot: (_text(row[2][0]) or owner[0], int(row[2][1]))
                for row in rows
                for slot in range(row[0], row[1] + 1)
            }
        except (redis.RedisError, OSError, LookupError, TypeError, ValueError) as error_of_map:
            if is_refusal(error_of_map):
                self.refusals.tell("CLUSTER", error_of_map)
            return  # or dying just now, or a proxy's: slots are learnt one by one
        with self._lock_of_nodes:
            self._owners = owners | {error.slot_id: owner}

    def _forget(self, address: Address | None) -> int:
        """A node is away: others are asked what it had. How many others there are."""
        if address is not None:
            with self._lock_of_nodes:
                self._owners = {slot: owner for slot, owner in self._owners.items() if owner != address}
        known: list[Address | None] = [None, *self.seeds]
        known += [one for one in list(self._nodes) if one not in known]
        if self._home == address and address in known:
            self._home = known[(known.index(address) + 1) % len(known)]
        return len(known) - 1


def open_node(client: redis.Redis, address: Address, *, single: bool = False) -> redis.Redis:
    """A client of the node at `address`, with the user, password, TLS and time-outs of another; it tries once."""
    pool = client.connection_pool
    options = {key: value for key, value in pool.connection_kwargs.items() if key != "path"}
    options |= {"host": address[0], "port": address[1], "retry": Retry(NoBackoff(), 0)}
    secure = issubclass(pool.connection_class, redis.SSLConnection)
    connection_class = redis.SSLConnection if secure else redis.Connection
    node = redis.Redis(
        connection_pool=redis.ConnectionPool(connection_class=connection_class, **options),
        single_connection_client=single,
    )
    node.auto_close_connection_pool = True
    return node


def _key(command: Command) -> bytes | None:
    """The one key of a command; None if it has none."""
    name = str(command[0]).upper()
    if name.split()[0] in KEYLESS or len(command) < 2:
        return None
    if name in {"EVAL", "EVALSHA"}:
        key = command[3]
    else:
        streams = next((word for word in ("STREAMS", b"STREAMS") if word in command[1:]), None)
        key = command[1] if streams is None else command[command.index(streams) + 1]
    return key if isinstance(key, bytes) else str(key).encode()


def _text(host: Any) -> str:
    found = host.decode() if isinstance(host, bytes) else str(host or "")
    return "" if found == "?" else found
