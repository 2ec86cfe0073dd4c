"""Which faults happen when: a schedule made from a seed, the same one every time.

A target has one fault at a time; faults of different targets overlap.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SNAPDS = ("snapd-1", "snapd-2", "snapd-3")
CAMERAS = ("camera1", "camera2", "camera3", "camera4")
ROUTERS = ("router-1", "router-2")  # where requests are routed
HAS = {  # what each snapd has then; the first that lives answers
    "snapd-1": ("camera1", "camera2"),
    "snapd-2": ("camera2", "camera3"),
    "snapd-3": ("camera3", "camera4"),
}
READERS = tuple(f"reader of {camera}" for camera in CAMERAS)
LINKS = ("snapd-1 to Redis", "snapd-2 to Redis", "snapd-3 to Redis", "snapds to COS", "snapds to WVP")

PROCESS = ("kill", "stop")
HTTP = ("slow", "hang", "reset", "500", "403", "429")
NETWORK = ("cut", "stall", "delay")

# The first snapd is never killed: whether memory and descriptors grow shows only in a process that lives.
KINDS: Mapping[str, Sequence[str]] = {
    "snapd-1": ("stop",),
    "snapd-2": ("kill", "kill", "stop"),
    "snapd-3": ("kill", "kill", "stop"),
    **dict.fromkeys(CAMERAS, PROCESS),
    **dict.fromkeys(READERS, ("hold",)),
    "redis": PROCESS,
    "cos": HTTP,
    "wvp": HTTP,
    **dict.fromkeys(LINKS, NETWORK),
}
# Where Redis has replicas; its clients go where it sends them, past the links.
REPLICATED = {
    "sentinel": ("failover", "failover", "failover", "undo", "undo", "freeze", "replica", "cut"),
    "cluster": ("failover", "failover", "failover", "undo", "undo", "other", "freeze", "replica", "cut"),
}
REPLICATED_WEIGHT = 6.0
ROUTED_WEIGHT = 3.0  # of the routers
RECOVERY = 8.0  # s after such a fault in which a replica takes over, and Redis has no other
GROUPS: Sequence[tuple[float, Sequence[str]]] = (  # what is hit how often
    (3.0, SNAPDS),
    (1.0, CAMERAS),
    (1.0, READERS),
    (2.0, ("redis",)),
    (2.0, ("cos",)),
    (2.0, ("wvp",)),
    (2.5, LINKS),
)

REDIS_LINKS = LINKS[: len(SNAPDS)]
REPLICATED_KINDS = {kind for kinds in REPLICATED.values() for kind in kinds} - {"cut"}
# After these an answer may have been given that nobody could note.
REPEATING = {"kill", "cut", "replace"} | REPLICATED_KINDS

FIRST = 2.0  # s of quiet at the start
GAP = (1.0, 2.0)  # s from one fault to the next
LENGTH = (1.0, 8.0)
STOP_LENGTH = (1.0, 5.0)
HOLD_LENGTH = (4.0, 20.0)  # longer than a writer waits for a slot
DEAD_LENGTH = (1.0, 20.0)  # of a snapd that requests are routed to: longer than it counts as alive
TAKE_OVER_LENGTH, UNDO_LENGTH = (4.0, 8.0), (1.0, 3.0)  # longer than a failover takes; what is undone
LENGTHS = {
    "stop": STOP_LENGTH,
    "hold": HOLD_LENGTH,
    "failover": TAKE_OVER_LENGTH,
    "other": TAKE_OVER_LENGTH,
    "freeze": TAKE_OVER_LENGTH,
    "undo": UNDO_LENGTH,
}
SLOW, DELAY = (0.5, 6.0), (0.05, 0.5)  # s; a callback is given up after 5
REPLACED = 120.0  # s that a run must last for a snapd to be replaced: its entries wait for the claim time


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong with `target` from second `at` of the run on, for `seconds`.

    `kind`: "hold" for a reader, which keeps every lock that it can have; "kill", "stop" (SIGSTOP) or "replace"
    (killed, and started under another name) for a process; for the others what `tests.support.http_server.Fault` or
    `benchmarks.chaos.proxy.Link` know; for a Redis that has replicas what `benchmarks.chaos.backing.Replicated` does.
    `amount`: seconds, for "slow" and "delay". `moves`: whether its target may be taken for dead meanwhile, and what
    it has in hand be answered by another as well.
    """

    target: str
    kind: str
    at: float
    seconds: float
    amount: float = 0.0
    moves: bool = False

    @property
    def end(self) -> float:
        """The second at which it is over."""
        return self.at + self.seconds

    @property
    def name(self) -> str:
        """What is counted: the kind and whom it befell, without numbers."""
        target = re.sub("(snapd|camera|router)-?[0-9]", r"\1", self.target)
        return f"{target}: {self.kind}"

    @property
    def aftermath(self) -> float:
        """Seconds after its end for which it still has effects: until a replica has taken over, and is heard of."""
        return RECOVERY if self.kind in REPLICATED_KINDS else 0.0

    @property
    def may_repeat(self) -> bool:
        """Whether a request may be answered twice because of it: its answer was given and nobody could note it."""
        return (self.kind in REPEATING or self.moves) and self.target not in CAMERAS


def schedule(seed: int, seconds: float, redis: str = "one", *, routed: bool = False) -> list[Fault]:
    """The faults of a run, by their beginning; all are over after `seconds`.

    Args:
        seed: the same gives the same.
        seconds: of the run.
        redis: how that is set up.
        routed: whether requests are routed.
    """
    dice = random.Random(seed)
    groups, kinds = GROUPS, KINDS
    if routed:
        groups = [*groups, (ROUTED_WEIGHT, ROUTERS)]
        kinds = {**kinds, **dict.fromkeys(ROUTERS, ("kill", "kill", "stop"))}
    if redis in REPLICATED:
        groups = [
            (REPLICATED_WEIGHT if "redis" in group else weight, [one for one in group if one not in REDIS_LINKS])
            for weight, group in groups
        ]
        kinds = {**kinds, "redis": REPLICATED[redis]}
    faults: list[Fault] = []
    free_at: dict[str, float] = {}
    now = FIRST
    while now < seconds - LENGTH[0]:
        weights = [weight for weight, _ in groups]
        targets = dice.choices([group for _, group in groups], weights)[0]
        free = [target for target in targets if free_at.get(target, 0.0) <= now]
        if free:
            fault = _fault(dice, dice.choice(free), now, seconds, kinds, routed=routed)
            faults.append(fault)
            free_at[fault.target] = fault.end + (RECOVERY if fault.kind in REPLICATED_KINDS else 0.0)
        now += dice.uniform(*GAP)
    return faults


def _fault(
    dice: random.Random,
    target: str,
    at: float,
    seconds: float,
    kinds_of: Mapping[str, Sequence[str]],
    *,
    routed: bool,
) -> Fault:
    kinds = list(kinds_of[target])
    if target == SNAPDS[-1] and seconds >= REPLACED:
        kinds.append("replace")
    kind = dice.choice(kinds)
    lengths = DEAD_LENGTH if routed and target in SNAPDS else LENGTHS.get(kind, LENGTH)
    length = min(dice.uniform(*lengths), seconds - at)
    amount = dice.uniform(*SLOW) if kind == "slow" else dice.uniform(*DELAY) if kind == "delay" else 0.0
    moves = routed and target in (*SNAPDS, *REDIS_LINKS, "redis")
    return Fault(target, kind, at, length, amount, moves)
