"""Pictures and clips of this host's cameras on the command line, without Redis or a store."""

import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from framesrv import log, settings
from framesrv.process.atomic import write_file
from framesrv.settings import Settings
from framesrv.settings.option import config_option
from snapd.errors import FieldError
from snapd.wire.form import Crop, Form
from snapd.wire.moment import LONGEST_AFTER, LONGEST_BEFORE, Moment, Span


def _crop(_: click.Context, __: click.Parameter, value: str | None) -> Crop | None:
    try:
        return Crop.parse(value) if value else None
    except FieldError as error:
        raise click.BadParameter(
            f"{value!r}: expected pixels as 100,50,640,360, or shares as 0.25,0.25,0.5,0.5"
        ) from error


def _at(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
    """Unix seconds of what --at says."""
    if not value:
        return None
    try:
        return Moment.parse(value).unix(time.time())
    except FieldError:
        pass
    try:
        return datetime.fromisoformat(value).timestamp()
    except (ValueError, OverflowError, OSError) as error:
        raise click.BadParameter(
            f"{value!r}: expected Unix seconds or milliseconds, or a time as 2026-11-29T05:06:40.5"
        ) from error


def _moment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """--at and --ago."""
    ago = click.option("--ago", type=click.FloatRange(0), help="The moment, as seconds before now.")
    at = click.option(
        "--at",
        metavar="TIME",
        callback=_at,
        help="The moment: Unix seconds or milliseconds, or a time as 2026-11-29T05:06:40.5, in this host's zone.",
    )
    return at(ago(command))


def _moment(at: float | None, ago: float | None) -> float | None:
    if at is not None and ago is not None:
        raise click.UsageError("--at and --ago say the same: give one of them")
    return at if ago is None else time.time() - ago


@click.command()
@config_option
@click.argument("code")
@click.option("-o", "--output", metavar="FILE", required=True, help='Where the JPEG goes; "-" is standard output.')
@click.option("--quality", type=click.IntRange(1, 100), help="JPEG quality. Default: [snapshot] quality.")
@click.option(
    "--width", type=click.IntRange(1, 16384), help="Pixels, fewer than the picture has. Default: its own width."
)
@click.option(
    "--crop",
    metavar="X,Y,W,H",
    callback=_crop,
    help="The part that is wanted: pixels, or shares, which have a point. Default: all of it.",
)
@click.option("--overlay/--no-overlay", default=None, help="Draw time and name in. Default: [snapshot] overlay.")
@click.option(
    "--max-age",
    type=click.FloatRange(0, min_open=True),
    help="Seconds; an older frame is not taken. Default: [snapshot] max_age.",
)
@_moment_options
def grab(
    config: Path | None,
    code: str,
    output: str,
    quality: int | None,
    width: int | None,
    crop: Crop | None,
    overlay: bool | None,
    max_age: float | None,
    at: float | None,
    ago: float | None,
) -> None:
    """Save a camera's newest frame as a JPEG, or the one that it showed at a moment.

    Needs neither Redis nor a store, and of the rights only those of a reader of frames. Waits a little for a frame
    that is fresh enough. A moment must lie within what the camera's decoder keeps, its `history`; the frame may be
    `max_age` older. The file appears whole or not at all.

    \b
    Example:
        snapd grab 34020000001320000001 -o now.jpg --width 640
        snapd grab 34020000001320000001 -o gate.jpg --crop 0.5,0,0.5,1.0
        snapd grab 34020000001320000001 -o then.jpg --ago 5
    """  # noqa: D301  click wants the character
    moment = _moment(at, ago)
    loaded = _settings(config)

    from framesrv import FrameReader
    from snapd.pictures.encoder import Encoder

    encoder = Encoder.of(loaded.snapshot)
    try:
        reader = FrameReader(code, prefix=loaded.shm.prefix, owner=loaded.shm.owner)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="CODE") from error
    with reader as camera:
        fresh, wait = max_age or loaded.snapshot.max_age, loaded.snapshot.wait
        if moment is None:
            frame = camera.latest(max_age=fresh, timeout=wait)
        else:
            frame = camera.at(moment, tolerance=fresh, timeout=wait)
        picture = encoder.jpeg(frame, code, Form(width, quality, crop, overlay))
    if _write(output, picture.content):
        click.echo(f"{output}: {picture.width}x{picture.height}, {len(picture.content)} bytes")


@click.command()
@config_option
@click.argument("code")
@click.option("-o", "--output", metavar="FILE", required=True, help='Where the MP4 goes; "-" is standard output.')
@click.option(
    "--before",
    type=click.FloatRange(0, LONGEST_BEFORE),
    default=5.0,
    show_default=True,
    help="Seconds before the moment with which it begins, or up to a group of pictures earlier.",
)
@click.option(
    "--after",
    type=click.FloatRange(0, LONGEST_AFTER),
    default=0.0,
    show_default=True,
    help="Seconds after the moment with which it ends; they are waited for.",
)
@_moment_options
def clip(
    config: Path | None, code: str, output: str, before: float, after: float, at: float | None, ago: float | None
) -> None:
    """Save the seconds around a moment, or around now, as an MP4.

    The video is as the camera sent it, H.264 or H.265, not encoded again. It must lie within what the camera's
    decoder keeps, its `history`. Needs neither Redis nor a store. The file appears whole or not at all.

    \b
    Example:
        snapd clip 34020000001320000001 -o gate.mp4 --before 5 --after 5
        snapd clip 34020000001320000001 -o gate.mp4 --ago 20 --before 5 --after 5
    """  # noqa: D301  click wants the character
    moment = _moment(at, ago) or time.time()
    if not (before or after):
        raise click.UsageError("expected --before or --after above 0")
    loaded = _settings(config)
    wait = loaded.snapshot.wait
    if moment > time.time() + wait:
        raise click.ClickException("that moment is to come")

    from snapd.pictures.clips import GRACE, Clips

    clips = Clips(loaded.shm, wait)
    time.sleep(max(0.0, moment + after + GRACE - time.time()))
    try:
        made = clips.make(code, moment, Span(before, after))
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="CODE") from error
    finally:
        clips.close()
    if _write(output, made.content):
        click.echo(f"{output}: {made.seconds:.1f} s, {made.frames} pictures, {len(made.content)} bytes")


def _settings(config: Path | None) -> Settings:
    """Those that a reader of frames may know."""
    loaded, hidden = settings.load_as_reader(config)
    if hidden:
        click.echo(f"snapd: goes on without it: {log.shown(hidden)}", err=True)
    return loaded


def _write(output: str, content: bytes) -> bool:
    """Writes what was taken; whether to a file, so that there is something to say."""
    if output == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return False
    try:
        place = Path(output)
        if place.exists() and not place.is_file() and not place.is_dir():
            place.write_bytes(content)  # a device or a pipe, as /dev/null, is not to be replaced
        else:
            write_file(output, content)
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}") from error
    return True
