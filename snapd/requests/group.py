"""The consumer group of the request stream, made where it does not exist."""

import logging

import redis

from framesrv.settings import StreamSettings
from snapd.requests.backlog import count_after
from snapd.requests.trouble import Refusals, is_refusal

logger = logging.getLogger(__name__)


def make_group(connection: redis.Redis, settings: StreamSettings, refusals: Refusals, *, older_than: float) -> None:
    """Makes the group, and the stream, if there is none.

    A group that was lost with Redis, or is new on an old stream, answers no history: whoever asked long before has
    given up.

    Args:
        connection: to Redis.
        settings: the section ``[stream]``.
        refusals: is told what Redis refuses.
        older_than: Unix seconds by the clock of Redis; entries from before are passed over.

    Raises:
        redis.RedisError: Redis cannot be asked, or does not allow it.
    """
    name, group = settings.source, settings.source_group
    begin = f"{max(0, int(older_than * 1000))}-0"
    try:
        connection.xgroup_create(name, group, id=begin, mkstream=True)
    except redis.exceptions.OutOfMemoryError:  # said before Redis has looked whether the group is there
        logger.debug("No memory for a group, it may be there")
        return
    except redis.ResponseError as error:
        if is_refusal(error):  # likewise
            refusals.tell("XGROUP", error)
        elif not str(error).startswith("BUSYGROUP"):
            raise
        return
    logger.info("Made the consumer group stream=%s group=%s", name, group)
    with refusals.without("XLEN"):
        passed_over = int(connection.xlen(name)) - count_after(connection, name, begin)
        if passed_over > 0:
            logger.warning("Passed over entries from before the deadline stream=%s count=%d", name, passed_over)
