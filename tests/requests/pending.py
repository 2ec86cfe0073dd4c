"""Entries that are left pending, for tests of what becomes of them."""

from typing import Any

from tests.support.edge import CONSUMER, GROUP, STREAM, Edge

DEAD = "edge_snap_dead"


def take_for(edge: Edge, consumer: str, count: int) -> list[str]:
    """Entries that a consumer takes and never answers."""
    reply: Any = edge.redis.xreadgroup(GROUP, consumer, {STREAM: ">"}, count=count)
    return [entry_id.decode() for entry_id, _ in reply[0][1]]


def wear_out(edge: Edge, entry_id: str, deliveries: int, consumer: str = CONSUMER) -> None:
    """Makes an entry one that was delivered so often."""
    edge.redis.xclaim(STREAM, GROUP, consumer, 0, [entry_id], retrycount=deliveries)
