"""How long answering one request may take, and what of a configuration a running snapd keeps.

Apart from what answers, for the process that keeps others and imports nothing of that.
"""

from typing import Any

import msgspec

from framesrv.settings import FIXED, Settings
from snapd.requests.redis import COMMAND_LIMIT

UPLOAD_LIMIT = 17.0  # s that a store takes at most, with its second try
CALLBACK_PAUSE = 1.0  # s between two callbacks, at most
LARGE_LIMIT = 32.0  # s more for what is large, a clip
SPARE = 2.0  # s for taking and encoding a picture


def job_limit(settings: Settings) -> float:
    """The seconds that answering one request takes at most, whatever hangs.

    Redis counts twice: a job whose first command fails sends only the one that cannot be left out. So do
    callbacks: an answer may have to wait for one to end before its own begins. A camera is waited for, and before
    that its turn.
    """
    callbacks = 2 * settings.result.callback_timeout + CALLBACK_PAUSE
    return 2 * settings.snapshot.wait + SPARE + UPLOAD_LIMIT + 2 * callbacks + 2 * COMMAND_LIMIT


def settle(old: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """`new` with the values of `old` where a restart is needed, and the keys of those that differ."""
    sections: dict[str, Any] = {}
    differing: list[str] = []
    for name, keys in FIXED.items():
        before, after = getattr(old, name), getattr(new, name)
        kept = {key: getattr(before, key) for key in keys if getattr(before, key) != getattr(after, key)}
        differing += [f"{name}.{key}" for key in kept]
        sections[name] = msgspec.structs.replace(after, **kept)
    return msgspec.structs.replace(new, **sections), differing
