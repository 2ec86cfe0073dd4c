"""Pending entries: taken from who had them, left to others, or gone from the stream."""

import logging
from collections.abc import Callable, Container, Iterable, Mapping
from typing import Any

import redis

from framesrv.settings import OWN_GROUP, StreamSettings
from snapd.requests.entry import Entry
from snapd.requests.returned import Returned
from snapd.requests.trouble import Refusals

logger = logging.getLogger(__name__)

MOST = 1000  # handed over at the end


def leave(client: redis.Redis, settings: StreamSettings, kept: Callable[[], set[str]], claim_after: float) -> None:
    """Lets other consumers take what is pending here at once, as if it had long been idle. Raises RedisError.

    Args:
        client: for every command.
        settings: the section ``[stream]``.
        kept: says which entries are not left.
        claim_after: seconds after which others claim an entry.
    """
    name, group, consumer = settings.source, settings.source_group, settings.consumer
    page: Any = client.xpending_range(name, group, "-", "+", MOST, consumer)
    kept_now = kept()
    left: Any = [entry_id for row in page if (entry_id := row["message_id"].decode()) not in kept_now]
    if left:
        # JUSTID: this is no delivery
        client.xclaim(name, group, consumer, 0, left, idle=int(claim_after * 1000) + 1, justid=True)
        logger.info("Left pending entries to others count=%d", len(left))


def renew(client: redis.Redis, settings: StreamSettings, entry_id: str, refusals: Refusals) -> None:
    """Makes a pending entry count as heard of just now, which is no delivery. Raises RedisError."""
    with refusals.without("XCLAIM"):
        client.xclaim(settings.source, settings.source_group, settings.consumer, 0, [entry_id], justid=True)


def claim(
    client: redis.Redis,
    settings: StreamSettings,
    counts: Mapping[str, int],
    milliseconds: int,
    returned: Returned,
    refusals: Refusals,
) -> list[Entry]:
    """Makes entries this consumer's own, and acknowledges those that are gone. Raises RedisError.

    Args:
        client: for every command.
        settings: the section ``[stream]``.
        counts: how often each was delivered before.
        milliseconds: for which nobody must have heard of them.
        returned: knows which were given back for no fault of theirs; they do not count as delivered again.
        refusals: is told what Redis refuses.
    """
    waited = returned.waiting(counts)
    found: list[Any] = []
    for ids, retrycount in [
        ([entry_id for entry_id in counts if entry_id not in waited], None),
        *(([entry_id], counts[entry_id]) for entry_id in waited),
    ]:
        if ids:
            reply: Any = client.xclaim(
                settings.source,
                settings.source_group,
                settings.consumer,
                milliseconds,
                ids,  # type: ignore[arg-type]
                retrycount=retrycount,
            )
            found += reply
    claimed = [(entry_id.decode(), fields) for entry_id, fields in found if entry_id and fields]
    entries = [
        Entry.read(entry_id, fields, counts[entry_id] + (entry_id not in waited), routed=settings.routed)
        for entry_id, fields in claimed
    ]
    drop_trimmed(client, settings, counts.keys() - {entry.id for entry in entries}, refusals)
    returned.forget(counts)
    return entries


def is_pending(
    client: redis.Redis,
    settings: StreamSettings,
    in_hand: Container[str],
    entry_id: str,
    at: str,
    refusals: Refusals,
) -> bool:
    """Whether the group has delivered an entry and not heard of it since. Raises RedisError.

    Args:
        client: for every command.
        settings: the section ``[stream]``.
        in_hand: entries of `settings.source` that are.
        entry_id: on the stream that the platform writes to.
        at: where it is instead, if it was routed, see `Request.at`.
        refusals: is told what Redis refuses.
    """
    stream, _, own_id = (at or f"{settings.name} {entry_id}").rpartition(" ")
    if stream == settings.source and own_id in in_hand:
        return True
    found: Any = True  # as far as is known
    try:
        with refusals.without("XPENDING"):
            group = settings.group if stream == settings.name else OWN_GROUP
            found = client.xpending_range(stream, group, own_id, own_id, 1)
    except redis.ResponseError as error:
        if stream == settings.source or not str(error).startswith("NOGROUP"):
            raise
        found = False  # the stream of a host that was forgotten
    return bool(found)


def drop_trimmed(client: redis.Redis, settings: StreamSettings, ids: Iterable[str], refusals: Refusals) -> None:
    """Acknowledges those entries that are gone from the stream; the others were somebody else's by then."""
    gone: list[str] = []
    with refusals.without("XRANGE"):
        gone = [entry_id for entry_id in ids if not client.xrange(settings.source, entry_id, entry_id)]
    if not gone:
        return
    with refusals.without("XACK"):
        client.xack(settings.source, settings.source_group, *gone)
        logger.warning("Acknowledged entries that were trimmed away unanswered count=%d", len(gone))
