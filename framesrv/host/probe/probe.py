"""``framesrv probe``: what a source is, in ten lines, and what to put into the configuration."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

import click

from framesrv import settings
from framesrv.errors import Cause, ConfigError, SourceError, SourceUsageError
from framesrv.host.probe.look import HangError, Seen, look
from framesrv.log import mask, shown
from framesrv.masking import password_of, protect
from framesrv.segment.owner import SUB
from framesrv.segment.status import CLOCK_OFF, difference
from framesrv.settings import Camera, Settings
from framesrv.settings.login import parted
from framesrv.settings.writing import camera_table

UNNAMED = "CAMERA"  # the code in a table that is to be filled in
CODECS = {"h264": "H.264", "hevc": "H.265", "mjpeg": "MJPEG"}
SLOW = 0.5  # s between pictures from which a snapshot's default max_age may be too short

# what to do about a failure whose own sentence does not say it
REMEDIES: dict[Cause, str] = {
    "timeout": "see that the camera is on and no firewall is in between; a larger `timeout` where it is only slow",
    "lost": "look at the network; try it again",
    "ended": "see whether the camera has room for another viewer; try it again",
    "no_key_frame": "set a shorter key-frame interval (group of pictures) in the camera's settings",
    "damaged": "look at the network, and at the codec in the camera's settings: H.264 without extensions",
    "no_video": "take another path of the camera",
    "format": "see whether this is the address of a stream; choose H.264 or H.265 in the camera's settings",
    "refused": "see the port, and that RTSP is turned on in the camera's settings",
}


def probe(camera: Camera, seconds: float, *, as_json: bool) -> None:
    """Looks at a camera's source and prints what it is.

    Raises:
        ConfigError: the source can never work as it is written.
        SystemExit: it does not work; status 1.
    """
    protect(filter(None, [password_of(camera.source)]))
    progress = _Progress(seconds)
    try:
        seen = look(camera, seconds, progress.tell)
    except SourceUsageError as error:
        raise ConfigError([str(error)]) from error
    except SourceError as error:
        progress.end()
        _failed(camera, error, as_json=as_json)
    progress.end()
    if as_json:
        click.echo(json.dumps(_fields(camera, seen)))
        return
    click.echo("\n".join(_lines(camera, seen)))
    if not camera.code.endswith(SUB):  # which stands in the table of its camera
        click.echo("\nFor the configuration:\n\n" + _table(camera, seen))


def camera_of(word: str, config: Path | None) -> tuple[Camera, Settings | None]:
    """The camera of that code, with the configuration that has it; or one of that source.

    Raises:
        ConfigError: it is neither.
    """
    if ":" in word or "/" in word or os.path.exists(word):
        return Camera(code=UNNAMED, source=word), None
    loaded = settings.load(config)
    camera = loaded.stream_of(word)
    if camera is None:
        known = ", ".join(one.code for one in loaded.cameras) or "none"
        where = loaded.file or "any configuration file"
        raise ConfigError([f"{word} is neither a URL nor a camera in {where}; configured: {known}"])
    return camera, loaded


class _Progress:
    """How long it takes, on a terminal."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._shows = sys.stderr.isatty()

    def tell(self, looked: float | None) -> None:
        if self._shows:
            words = "opens it" if looked is None else f"looks at it, {looked:.0f} of {self._seconds:g} s"
            click.echo(f"\r\x1b[K{words}", nl=False, err=True)

    def end(self) -> None:
        if self._shows:
            click.echo("\r\x1b[K", nl=False, err=True)


def _failed(camera: Camera, error: SourceError, *, as_json: bool) -> NoReturn:
    words, remedy = shown(str(error)), REMEDIES.get(error.cause, "")
    if as_json:
        source = mask(camera.source)
        said = {"source": source, "works": False, "cause": error.cause, "message": words, "remedy": remedy}
        click.echo(json.dumps(said))
    else:
        click.echo(f"framesrv: {shown(camera.source)} does not work: {words}", err=True)
        if remedy:
            click.echo(f"framesrv: {remedy}", err=True)
    if isinstance(error, HangError):
        sys.stdout.flush()
        os._exit(1)  # the thread hangs in a library, which must not be taken down around it
    raise SystemExit(1)


def _lines(camera: Camera, seen: Seen) -> list[str]:
    failed = "".join(f"; before that: {words}" for words in seen.failed)
    lines = [shown(f"{mask(camera.source)} works: the first picture came after {seen.first_after:.1f} s{failed}")]
    rows = (
        ("codec", _codec(seen)),
        ("size", _size(seen)),
        ("rate", f"{seen.fps:.3g} pictures a second, {_bits(seen) / 1e6:.2f} Mb/s" if seen.fps else "one picture"),
        ("group", _group(seen)),
        ("clock", _clock(seen)),
        ("transport", _transport(camera, seen)),
        ("authentication", _authentication(seen)),
        ("losses", _losses(seen)),
        ("cost", f"{seen.cost:.2f} of a processor core, if all of it is decoded"),
    )
    return lines + [f"{name:14}  {shown(words)}" for name, words in rows]


def _codec(seen: Seen) -> str:
    facts = seen.facts
    name = CODECS.get(facts.codec, facts.codec) or "not known"
    return ", ".join(filter(None, (f"{name} {facts.profile}".strip(), facts.pixel_format)))


def _size(seen: Seen) -> str:
    ratio = seen.sample_aspect_ratio
    wide = f"shown as {round(seen.width * ratio)}x{seen.height}" if ratio != 1 else ""
    turned = f"turned by {seen.rotated} degrees" if seen.rotated else ""
    colours = f"{seen.matrix}, {'full' if seen.full_range else 'limited'} range"
    return ", ".join(filter(None, (f"{seen.width}x{seen.height}", wide, turned, colours)))


def _bits(seen: Seen) -> float:
    """A second."""
    return seen.received * 8 / seen.seconds if seen.seconds else 0.0


def _group(seen: Seen) -> str:
    if len(seen.keys) == len(seen.times):
        return "each picture is a key frame"
    if seen.group is None:
        return f"longer than {seen.seconds:.0f} s from one key frame to the next; --seconds 60 looks longer"
    return f"{seen.group * seen.fps:.0f} pictures, {seen.group:.1f} s from one key frame to the next"


def _clock(seen: Seen) -> str:
    ahead = seen.ahead
    if ahead is None:
        return "not told; pictures carry the time at which they arrive"
    if abs(ahead) > CLOCK_OFF:
        return f"{difference(ahead)}: set it, or its time server"
    return f"the camera's own, {difference(ahead) if abs(ahead) >= 1 else 'right within a second'}"


def _transport(camera: Camera, seen: Seen) -> str:
    if not seen.transport:
        return camera.source.partition(":")[0].upper() if "://" in camera.source else "none"
    tls = camera.source[:6].lower() == "rtsps:"
    verified = bool(camera.tls_verify or camera.tls_ca)
    certificate = "its certificate is verified" if verified else "its certificate is not verified: tls_ca"
    return f"RTP over {seen.transport.upper()}" + (f" through TLS, {certificate}" if tls else "")


def _authentication(seen: Seen) -> str:
    offered = seen.facts.offered
    if offered is None:
        return "not known"
    if not offered:
        return "none: whoever reaches the camera sees this"
    others = f"; it offers {', '.join(offered[1:])} as well" if offered[1:] else ""
    return f"{offered[0]}{others}"


def _losses(seen: Seen) -> str:
    facts = seen.facts
    packets = "" if facts.packets is None else f"{facts.missing} of {facts.packets + facts.missing} packets, "
    return f"{packets}{seen.corrupt} pictures held back as damaged, in {seen.seconds:.0f} s"


def _keys(camera: Camera, seen: Seen) -> dict[str, str | int]:
    """What to configure, without a password."""
    source, user = parted(camera.source)
    keys: dict[str, str | int] = {"code": camera.code, "source": source}
    if user:
        keys |= {"user": user, "password": ""}
    if camera.substream:
        keys["substream"] = parted(camera.substream)[0]
    if seen.transport not in ("", "tcp"):
        keys["transport"] = seen.transport
    return keys | {
        name: value
        for name in ("transport", "track", "tls_ca", "aspect", "rotate")
        if name not in keys and (value := getattr(camera, name)) != getattr(Camera(code=UNNAMED, source=" "), name)
    }


def _table(camera: Camera, seen: Seen) -> str:
    remarks = {"password": "not repeated here", "transport": "what worked"}
    if camera.code == UNNAMED:
        remarks["code"] = "as requests name it"
    table = camera_table(_keys(camera, seen), remarks)
    if seen.fps and 1 / seen.fps > SLOW:
        table += f"\n\n# a picture every {1 / seen.fps:.1f} s: in [snapshot], max_age above that"
    return table


def _fields(camera: Camera, seen: Seen) -> dict[str, Any]:
    """The fields of ``--json``."""
    return {
        "source": mask(camera.source),
        "works": True,
        "first_picture_s": round(seen.first_after, 3),
        "seconds": round(seen.seconds, 3),
        **{name: value for name, value in asdict(seen.facts).items() if name != "offered"},
        "width": seen.width,
        "height": seen.height,
        "sample_aspect_ratio": f"{seen.sample_aspect_ratio.numerator}:{seen.sample_aspect_ratio.denominator}",
        "rotated": seen.rotated,
        "matrix": seen.matrix,
        "full_range": seen.full_range,
        "fps": round(seen.fps, 2),
        "bits_per_second": round(_bits(seen)),
        "group_s": None if seen.group is None else round(seen.group, 3),
        "clock_ahead_s": seen.ahead,
        "transport": seen.transport,
        "authentication": seen.facts.offered,
        "corrupt": seen.corrupt,
        "cost": round(seen.cost, 4),
        "failed": [mask(words) for words in seen.failed],
        "camera": _keys(camera, seen),
    }
