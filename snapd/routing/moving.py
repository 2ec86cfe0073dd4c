"""Moves entries from one stream to others, with what is to be known of where they came from.

Adding to a stream and acknowledging on the other are one script, where a server has both: an entry is there once, and
only if it was still pending here. In a cluster streams lie on several nodes, and no transaction spans them; there,
and where scripts are refused, an entry is added first and acknowledged after. Who dies between leaves it in both: the
host that gets it again knows it by its first id, see `snapd.requests.once`.
"""

import hashlib
import logging
from collections.abc import Sequence
from typing import Any, TypeAlias

import redis

from framesrv.settings import StreamSettings
from snapd.requests.cluster import AWAY, Command, RedisClient
from snapd.requests.entry import ORIGIN, TRIES, Entry
from snapd.requests.trouble import is_passing, is_refusal

logger = logging.getLogger(__name__)

KEPT_MS = 86_400_000  # after which what nobody has removed from a host's stream is trimmed

Move: TypeAlias = tuple[Entry, str]  # and the stream that it goes to

# KEYS: where entries are, then where each goes. ARGV: the group, whether this is a host's own stream, from which they
# are removed, the oldest id to keep there; then of each entry its id, how many words its fields are, and these.
SCRIPT = """
if redis.replicate_commands then redis.replicate_commands() end
local replies, at, own = {}, 4, ARGV[2] == '1'
for i = 2, #KEYS do
  local id, count = ARGV[at], tonumber(ARGV[at + 1])
  local fields = {}
  for j = 1, count do fields[j] = ARGV[at + 1 + j] end
  at = at + 2 + count
  replies[i - 1] = ''
  local there = own and redis.call('XRANGE', KEYS[1], id, id) or redis.call('XPENDING', KEYS[1], ARGV[1], id, id, 1)
  if #there == 1 then
    local added = redis.pcall('XADD', KEYS[i], 'MINID', '~', ARGV[3], '*', unpack(fields))
    if type(added) == 'table' and added.err then
      replies[i - 1] = added.err
    else
      redis.call('XACK', KEYS[1], ARGV[1], id)
      if own then redis.call('XDEL', KEYS[1], id) end
    end
  end
end
return replies
"""
_DIGEST = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


class Mover:
    """Used by several threads at once.

    Args:
        client: for commands that may be repeated.
        once: for those that must not.
    """

    def __init__(self, client: RedisClient, once: RedisClient) -> None:
        self._client = client
        self._once = once
        self._scripts = True  # whether the server takes them, as far as is known

    def move(self, source: StreamSettings, moves: Sequence[Move], now: float) -> dict[str, str]:
        """Moves entries that are pending on a stream, or lie on a host's own.

        Args:
            source: the section ``[stream]`` as who reads that stream has it.
            moves: each entry, and where it goes.
            now: Unix seconds by the clock of Redis.

        Returns:
            Why entries are still where they were, by their ids; of all others nothing is left to be done.

        Raises:
            redis.RedisError: Redis cannot be asked; what was moved by then is there no more.
        """
        oldest = str(max(0, int(now * 1000) - KEPT_MS))
        if self._scripts:
            try:
                return self._by_script(source, moves, oldest)
            except redis.ResponseError as error:
                if is_passing(error) and not isinstance(error, AWAY):
                    raise
                self._without_scripts(error)
        return self._one_after_the_other(source, moves, oldest)

    def _by_script(self, source: StreamSettings, moves: Sequence[Move], oldest: str) -> dict[str, str]:
        keys = [source.source, *(target for _, target in moves)]
        arguments: list[Any] = [source.source_group, int(source.routed), oldest]
        for entry, _ in moves:
            words = _words(entry)
            arguments += [entry.id, len(words), *words]
        try:
            found = self._run("EVALSHA", _DIGEST, keys, arguments)
        except redis.exceptions.NoScriptError:
            found = self._run("EVAL", SCRIPT, keys, arguments)
        replies = [reply.decode(errors="replace") for reply in found]
        return {entry.id: reply for (entry, _), reply in zip(moves, replies, strict=True) if reply}

    def _run(self, command: str, what: str, keys: list[str], arguments: list[Any]) -> Any:
        return self._client.execute_command(command, what, len(keys), *keys, *arguments)

    def _without_scripts(self, error: redis.ResponseError) -> None:
        """From now on without, where the server does not take them; else for these entries only."""
        said = str(error)
        crossing = isinstance(error, redis.exceptions.ClusterCrossSlotError) or "CROSSSLOT" in said
        if crossing or is_refusal(error):
            self._scripts = False
            logger.info("Entries are added and then acknowledged, as no script spans streams here reason=%r", said)
        else:
            logger.warning("Entries are added and then acknowledged, one by one reason=%r", said)

    def _one_after_the_other(self, source: StreamSettings, moves: Sequence[Move], oldest: str) -> dict[str, str]:
        adding: list[Command] = [
            ("XADD", target, "MINID", "~", oldest, "*", *_words(entry)) for entry, target in moves
        ]
        left: dict[str, str] = {}
        added: list[str] = []
        for (entry, _), reply in zip(moves, self._once.batch(adding), strict=True):
            if isinstance(reply, Exception):
                left[entry.id] = str(reply) or type(reply).__name__
            else:
                added.append(entry.id)
        if added:
            self._client.xack(source.source, source.source_group, *added)
            if source.routed:
                self._client.xdel(source.source, *added)
        return left


def _words(entry: Entry) -> list[Any]:
    """Its fields as XADD has them, with the router's own."""
    own: dict[bytes, Any] = {ORIGIN: entry.origin}
    if entry.tries > 1:
        own[TRIES] = entry.tries - 1
    return [word for pair in (entry.fields | own).items() for word in pair]
