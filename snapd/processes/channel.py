"""What the processes of a snapd and the one that keeps them tell one another: a line of JSON each, over a socket."""

from collections.abc import Mapping
from typing import TypeAlias

import msgspec
from msgspec import Struct

from framesrv import log
from framesrv.process.report import Report
from framesrv.settings import Settings
from snapd.telemetry.counters import Kind
from snapd.telemetry.trace import Trace

LONGEST = 64 * 1024 * 1024  # bytes of a line
LIBRARIES = ("urllib3", "redis", "charset_normalizer")  # that log more than anybody wants to know


class Begin(Struct, frozen=True, tag=True):
    """The first line: what to do.

    Attributes:
        settings: as this process has them, see `own`.
        log_format: of its lines.
        verbose: whether to log every answered request.
        traces: whether to tell of them.
    """

    settings: Settings
    log_format: log.Format
    verbose: bool
    traces: bool


class NewConfiguration(Struct, frozen=True, tag=True):
    """The configuration from now on; a `Loaded` answers."""

    settings: Settings


class AskStore(Struct, frozen=True, tag=True):
    """Somebody wants to know whether the store can be reached; a `StoreAsked` answers."""


class Loaded(Struct, frozen=True, tag=True):
    """What is wrong with a configuration, a sentence each; empty: it is in force."""

    problems: tuple[str, ...]


class StoreAsked(Struct, frozen=True, tag=True):
    """What the store said, in a sentence."""

    ok: bool
    message: str


class Told(Struct, frozen=True, tag=True):
    """How a process does, and what it has done.

    Attributes:
        report: how it does.
        in_hand: how many requests it has.
        counts: as `Counters.counts` gives them.
        traces: of the requests that were answered since the last time.
        changed: whether more has changed than figures.
    """

    report: Report
    in_hand: int
    counts: Mapping[Kind, Mapping[str, int]]
    traces: tuple[Trace, ...] = ()
    changed: bool = False


ToProcess: TypeAlias = Begin | NewConfiguration | AskStore
ToKeeper: TypeAlias = Told | Loaded | StoreAsked

_encoder = msgspec.json.Encoder()
to_process = msgspec.json.Decoder(ToProcess)
to_keeper = msgspec.json.Decoder(ToKeeper)


def line(message: ToProcess | ToKeeper) -> bytes:
    """`message` as it goes over the socket."""
    return _encoder.encode(message) + b"\n"


def own(settings: Settings, number: int) -> Settings:
    """`settings` as the process of that number, from 1, has them.

    Each reads under a name of its own, always the same, so that what one had in hand when it was killed is taken up
    by the next of that number. The first looks for old pictures in a directory; all of them make room there.
    """
    first, stream, store = number == 1, settings.stream, settings.store
    return msgspec.structs.replace(
        settings,
        file=None,
        exposed=(),
        cameras=tuple(camera.hidden for camera in settings.cameras),
        stream=stream if first else msgspec.structs.replace(stream, consumer=f"{stream.consumer}-{number}"),
        store=store if first else msgspec.structs.replace(store, keep=0.0),
    )
