"""Pictures of this host's cameras on the command line, without Redis or a store."""

import sys
from pathlib import Path

import click

from framesrv import log, settings
from framesrv.process.atomic import write_file
from framesrv.settings import Settings
from framesrv.settings.option import config_option
from snapd.errors import FieldError
from snapd.wire.form import Crop, Form


def _crop(_: click.Context, __: click.Parameter, value: str | None) -> Crop | None:
    try:
        return Crop.parse(value) if value else None
    except FieldError as error:
        raise click.BadParameter(
            f"{value!r}: expected pixels as 100,50,640,360, or shares as 0.25,0.25,0.5,0.5"
        ) from error


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
def grab(
    config: Path | None,
    code: str,
    output: str,
    quality: int | None,
    width: int | None,
    crop: Crop | None,
    overlay: bool | None,
    max_age: float | None,
) -> None:
    """Save a camera's newest frame as a JPEG.

    Needs neither Redis nor a store, and of the rights only those of a reader of frames. Waits a little for a frame
    that is fresh enough. The file appears whole or not at all.

    \b
    Example:
        snapd grab 34020000001320000001 -o now.jpg --width 640
        snapd grab 34020000001320000001 -o gate.jpg --crop 0.5,0,0.5,1.0
    """  # noqa: D301  click wants the character
    loaded = _settings(config)

    from framesrv import FrameReader
    from snapd.pictures.encoder import Encoder

    encoder = Encoder.of(loaded.snapshot)
    try:
        reader = FrameReader(code, prefix=loaded.shm.prefix, owner=loaded.shm.owner)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="CODE") from error
    with reader as camera:
        frame = camera.latest(max_age=max_age or loaded.snapshot.max_age, timeout=loaded.snapshot.wait)
        picture = encoder.jpeg(frame, code, Form(width, quality, crop, overlay))
    if _write(output, picture.content):
        click.echo(f"{output}: {picture.width}x{picture.height}, {len(picture.content)} bytes")


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
