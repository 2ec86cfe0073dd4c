"""What snapd and its pages tell one another: one JSON object a line, over a socket pair.

The pages are not told what they do not need: neither the store's keys nor the cameras' passwords.
"""

from collections.abc import Mapping
from typing import TypeAlias

import msgspec
from msgspec import Struct

from framesrv.process.report import Outcomes, ProcessReport
from framesrv.settings import ResultSettings, Settings, StoreSettings
from snapd.telemetry.counters import Kind
from snapd.telemetry.trace import Trace

LONGEST = 64 * 1024 * 1024  # bytes of a line


class NewConfiguration(Struct, frozen=True, tag=True):
    """The configuration from now on; see `shown`."""

    settings: Settings


class RequestAnswered(Struct, frozen=True, tag=True):
    """A request was."""

    trace: Trace


class Condition(Struct, frozen=True, tag=True):
    """How the service does.

    Attributes:
        status: in words.
        joined: whether it has ever been a consumer of the group.
        away: why Redis cannot be read; empty if it can.
        hang: what hangs; empty if nothing does.
        counts: as `Counters.counts` gives them.
        strangers: hosts with other cameras that read from the same group, in words; empty if there are none.
        store: what the store said last, see `StoreAnswer`; None if it was not asked yet.
        uploads: what became of those, and of `callbacks`.
        configured_at: Unix seconds at which the configuration in force was read; 0 if not known.
        free_bytes: left in the directory of the store at the last upload; None if not known, or there is none.
        size_bytes: of that file system.
        unrouted: that no router brings requests here, in words; empty if one does, or none is needed.
        processes: those that answer requests, where there are several.
    """

    status: str = "starting"
    joined: bool = False
    away: str = ""
    hang: str = ""
    counts: Mapping[Kind, Mapping[str, int]] = {}
    strangers: str = ""
    store: "StoreAnswer | None" = None
    uploads: Outcomes = Outcomes()
    callbacks: Outcomes = Outcomes()
    configured_at: float = 0.0
    free_bytes: int | None = None
    size_bytes: int | None = None
    unrouted: str = ""
    processes: tuple[ProcessReport, ...] = ()


class StoreAnswer(Struct, frozen=True, tag=True):
    """Whether the store took a picture, or answered when asked.

    Attributes:
        ok: whether it did.
        message: a sentence.
        at: monotonic seconds.
    """

    ok: bool
    message: str
    at: float


class AskStore(Struct, frozen=True, tag=True):
    """From the pages: somebody wants to know whether the store can be reached; a `Condition` answers."""


ToPages: TypeAlias = NewConfiguration | RequestAnswered | Condition

_encoder = msgspec.json.Encoder()
to_pages = msgspec.json.Decoder(ToPages)


def line(message: ToPages | AskStore) -> bytes:
    """`message` as it goes over the socket."""
    return _encoder.encode(message) + b"\n"


def shown(settings: Settings) -> Settings:
    """`settings` without what the pages need not know."""
    cameras = tuple(camera.hidden for camera in settings.cameras)
    return msgspec.structs.replace(
        settings, file=None, exposed=(), store=StoreSettings(), result=ResultSettings(), cameras=cameras
    )
