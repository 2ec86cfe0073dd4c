"""``framesrv ls``: every camera's state, once. Its table is also what ``framesrv top`` prints into a pipe."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress

import click

from framesrv.errors import HistoryUnavailableError, SegmentError
from framesrv.history.reader import History
from framesrv.log import shown
from framesrv.segment.status import CameraStatus, camera_statuses
from framesrv.settings import Settings, ShmSettings

STATE_COLOURS = {"live": "green", "stalled": "yellow", "connecting": "yellow", "down": "red"}


def ls(settings: Settings, *, as_json: bool) -> None:
    """Prints every camera of the host."""
    cameras = camera_statuses(settings.shm.prefix, settings.policies, settings.shm.owner)
    if as_json:
        click.echo(json.dumps([camera.to_json(_kept(camera.code, settings.shm)) for camera in cameras]))
        return
    if not cameras:
        click.echo("no cameras: none configured, none running")
        return
    for line in lines([(camera, _words(camera)) for camera in cameras]):
        click.echo(line)


def _kept(code: str, shm: ShmSettings) -> tuple[float, float] | None:
    """What its history spans; None also of one that cannot be read: who asks for a moment is told why."""
    with (
        suppress(HistoryUnavailableError, SegmentError, ValueError),  # no code: a stranger's file
        History(code, prefix=shm.prefix, owner=shm.owner) as history,
    ):
        return history.span()
    return None


def _words(camera: CameraStatus) -> str:
    return camera.reason if camera.pinned or camera.state == "live" else camera.error


def lines(cameras: Sequence[tuple[CameraStatus, str]]) -> Iterator[str]:
    """A heading, and a line for each camera that ends with what is said of it."""
    rows = [(camera, shown(camera.code), shown(words)) for camera, words in cameras]
    width = max([len("CODE"), *(len(code) for _, code, _ in rows)])
    yield (
        f"{'CODE':{width}}  {'STATE':10}  {'SIZE':9}  {'FPS':>5}  {'AGE':>7}  "
        f"{'DROPS':>5}  {'BAD':>4}  {'RECONN':>6}  ERROR"
    )
    for camera, code, words in rows:
        size = f"{camera.width}x{camera.height}" if camera.width else "-"
        age = "-" if camera.age_s is None else f"{camera.age_s:.2f} s"
        state = click.style(f"{camera.state:10}", fg=STATE_COLOURS[camera.state])
        yield (
            f"{code:{width}}  {state}  {size:9}  {camera.fps:5.1f}  {age:>7}  "
            f"{camera.dropped:5}  {camera.corrupt:4}  {camera.reconnects:6}  {words}".rstrip()
        )
