"""How several processes do as one: their reports put together."""

from collections.abc import Iterable, Sequence
from typing import TypeVar

from msgspec.structs import replace

from framesrv.process.report import Outcomes, Report

Value = TypeVar("Value")


def outcomes(found: Iterable[Outcomes]) -> Outcomes:
    """What became of the attempts of all: those that failed before another's newest success count no more."""
    found = list(found)
    succeeded_at = max((one.succeeded_at for one in found if one.succeeded_at is not None), default=None)
    failing = [one for one in found if one.failed and (one.failed_at or 0.0) > (succeeded_at or 0.0)]
    newest = max(failing, key=lambda one: one.failed_at or 0.0, default=Outcomes())
    return replace(
        newest,
        failed=sum(one.failed for one in failing),
        failing_since=min((one.failing_since for one in failing if one.failing_since), default=None),
        succeeded_at=succeeded_at,
        ok_lately=sum(one.ok_lately for one in found),
        failed_lately=sum(one.failed_lately for one in found),
    )


def report(own: Report, found: Sequence[Report]) -> Report:
    """`own`, that of the process that keeps the others, with what their reports say.

    Redis is away when it is for all of them; what is wrong with one alone is said of that process.
    """
    if not found:
        return own
    here = [one for one in found if one.joined and not one.away]
    renamed = next((one for one in found if one.consumer != one.wanted_consumer), found[0])
    newest = max(found, key=lambda one: one.free_bytes is not None and (one.uploads.succeeded_at or 0.0))
    return replace(
        own,
        joined=any(one.joined for one in found),
        away="" if here else _first(one.away for one in found),
        strangers=_first(one.strangers for one in found),
        unrouted=_first(one.unrouted for one in found),
        consumer=renamed.consumer,
        wanted_consumer=renamed.wanted_consumer,
        uploads=outcomes(one.uploads for one in found),
        callbacks=outcomes(one.callbacks for one in found),
        lag=_known(one.lag for one in here),
        pending=_known(one.pending for one in here),
        place=found[0].place,
        free_bytes=newest.free_bytes,
        size_bytes=newest.size_bytes,
        ahead_of_store=_known(one.ahead_of_store for one in found),
        ahead_of_redis=_known(one.ahead_of_redis for one in found),
    )


def _first(words: Iterable[str]) -> str:
    return next(filter(None, words), "")


def _known(values: Iterable[Value | None]) -> Value | None:
    return next((value for value in values if value is not None), None)
