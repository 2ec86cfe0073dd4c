"""The command line ``framesrv``. What a command needs is imported when it runs: a decoder stays small."""

import json
import logging
import math
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from framesrv import __version__, log, settings
from framesrv.errors import ConfigError, SegmentOwnerError, SourceUsageError
from framesrv.host.units.cli import logs, restart, start, stop, units
from framesrv.process.command import Group, log_format_option
from framesrv.settings.option import config_option

if TYPE_CHECKING:
    from framesrv.host.pipe import Format

NAME_TAKEN = 73  # EX_CANTCREAT of sysexits.h: for the unit, which has root take the name away


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """The newest raw frame of every camera in shared memory.

    Try `framesrv demo`: it needs no camera, no Redis and no configuration.

    Exit status: 0 done, 1 could not, 2 wrong usage or configuration.
    """


@main.command()
@click.argument("code")
@click.option("--alone", is_flag=True, help="Of a camera with a substream: CODE's stream without the other one.")
@click.option("--kept", is_flag=True, help="End where the source hangs, as the parent process starts this one again.")
@config_option
@log_format_option
def decode(code: str, alone: bool, kept: bool, config: Path | None, log_format: log.Format) -> None:
    """Run one camera's decoder in the foreground, until SIGTERM or Ctrl-C.

    CODE is that of a [[camera]] in the configuration. The newest frame is then in /dev/shm/framesrv.CODE. A camera
    with a substream gets a decoder for each, and the newest frame of the second is in /dev/shm/framesrv.CODE.sub.
    Exit status 73: another user has made a file of that name. Started by root where `framesrv units` has made the
    camera's user, it goes on as that user.

    Example: framesrv decode 34020000001320000001
    """
    log.setup(log_format, camera=code)
    loaded = settings.load(config)
    camera = loaded.stream_of(code)
    if code in loaded.disabled:
        raise ConfigError([f"camera {code} is out of service: enabled = false in {loaded.file}"])
    if camera is None:
        known = ", ".join(one.code for one in loaded.cameras) or "none"
        raise ConfigError([f"camera {code} is not in {loaded.file or 'any configuration file'}; configured: {known}"])
    if os.geteuid() == 0:
        from framesrv.host.by_hand import hand_over

        flags = [name for name, given in (("--alone", alone), ("--kept", kept)) if given]
        hand_over(camera, loaded, ["decode", "--log-format", log_format, *flags])
    if camera.substream and not alone:
        from framesrv.camera import streams

        options = ["--log-format", log_format, *(["--config", str(loaded.file)] if loaded.file else [])]
        inherited = re.fullmatch(r"/dev/fd/(\d+)", str(loaded.file))
        files = [int(inherited[1])] if inherited else []
        raise SystemExit(streams.run(camera, loaded, options, files, NAME_TAKEN, main))
    from framesrv.camera.decoder import run

    try:
        run(camera.streams[0], loaded, kept=kept)
    except SourceUsageError as error:
        raise ConfigError([f"camera {code}: {error}"]) from error
    except SegmentOwnerError as error:
        click.echo(f"framesrv: {log.shown(str(error))}", err=True)
        raise SystemExit(NAME_TAKEN) from error


@main.command()
@click.argument("codes", nargs=-1, required=True, metavar="CODE...")
@config_option
def retry(codes: tuple[str, ...], config: Path | None) -> None:
    """Have decoders try their cameras again at once.

    A decoder waits longer and longer where a camera refuses the password: cameras lock accounts. Use this when the
    camera has been mended, and its configuration has not changed.

    Example: framesrv retry 34020000001320000001
    """
    from framesrv.host.retry import retry as retry_now

    retry_now(settings.load(config), codes)


@main.command()
@config_option
@log_format_option
def up(config: Path | None, log_format: log.Format) -> None:
    """Run every camera and snapd as child processes, until SIGTERM or Ctrl-C.

    A child that dies is started again. For one host without systemd, or to try a configuration out. It separates
    nothing: all are one user, so a decoder that a broken camera takes over reaches whatever you can. `framesrv units`
    makes each a user of its own.

    Example: framesrv up --config framesrv.toml
    """
    log.setup(log_format)
    loaded = settings.load(config)
    if not loaded.cameras:
        raise ConfigError([f"{loaded.file or 'no configuration file'}: expected at least one [[camera]]"])
    loaded.store.check()
    loaded.http.check()
    from framesrv.host.up import run

    run(loaded, log_format, main)


@main.command("ls")
@click.option("--json", "as_json", is_flag=True, help="A JSON list, for scripts.")
@config_option
def show_cameras(as_json: bool, config: Path | None) -> None:
    """Show every camera's state, once.

    live: frames come. stalled: the decoder runs, nothing comes. connecting: no picture yet. down: no decoder.
    Where /etc/framesrv/framesrv.toml is wrong, or not yours to read, it shows what runs, and tells standard error.

    Example: framesrv ls --json | jq '.[] | select(.state != "live")'
    """
    from framesrv.host.ls import ls
    from framesrv.host.units.known import known

    loaded, note = known(config)
    if note:
        click.echo(f"framesrv: {log.shown(note)}", err=True)
    ls(loaded, as_json=as_json)


@main.command()
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 3600),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@config_option
def top(interval: float, config: Path | None) -> None:
    """Show every camera's state, live, the worst first.

    Keys: s another order, / or f a filter, arrows and page keys to move, p pause, q the end. Where standard output
    is no terminal it prints what `framesrv ls` does, again and again.

    Example: framesrv top --interval 0.5
    """
    if math.isnan(interval):  # which is within every range
        raise click.BadParameter("nan is not a number of seconds", param_hint="--interval")
    from framesrv.host.top.app import run
    from framesrv.host.units.known import known

    loaded, note = known(config)
    run(loaded, interval, log.shown(note))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="A JSON list, for scripts.")
@config_option
def check(as_json: bool, config: Path | None) -> None:
    """Say what is wrong: configuration, shared memory, Redis, store. Exit status 1 if anything is.

    Nothing is changed, and no secret is shown. Run it before you start or restart anything.

    Example: framesrv check --config framesrv.toml
    """
    from framesrv.host.check import findings
    from framesrv.process.finding import echo

    found = findings(settings.load(config))
    if as_json:
        click.echo(json.dumps([finding.to_json() for finding in found]))
    else:
        echo(found)
    if not all(finding.ok for finding in found):
        raise SystemExit(1)


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One object, for scripts.")
@config_option
def health(as_json: bool, config: Path | None) -> None:
    """Say whether this host is well; the first line names the cause that matters most.

    Exit status: 0 well, 1 impaired (something is wrong, the rest serves), 2 down (no camera is live, no request is
    read, no picture is stored), as Nagios and cron read it. It changes nothing, asks no camera, Redis or store, and
    takes 10 seconds at most. Anybody may ask; what only root, or the group of the frames, may see is listed as
    unseen.

    Example: framesrv health --json | jq -r .cause
    """
    from framesrv.host.health.examination import health as tell

    raise SystemExit(tell(config, as_json=as_json))


@main.command()
@click.argument("source", metavar="URL|CODE")
@click.option(
    "--seconds",
    type=click.FloatRange(1, 600),
    default=10.0,
    show_default=True,
    help="To look, from the first picture on.",
)
@click.option("--json", "as_json", is_flag=True, help="One object, for scripts.")
@config_option
def probe(source: str, seconds: float, as_json: bool, config: Path | None) -> None:
    """Open a camera's stream as a decoder would; say what it is, and what to configure.

    URL is any source that a [[camera]] may have; CODE a camera of the configuration. It decodes every picture for
    some seconds: codec, size, rate, key frames, the camera's clock, transport, how it asks for passwords, what is
    lost, and what decoding costs. Exit status 1: it does not work; standard error says why and what to do. A password
    in a URL stands in the list of processes meanwhile; that of a configured camera does not.

    Example: framesrv probe rtsp://user:pass@192.0.2.11/stream1
    """
    from framesrv.host.probe.probe import camera_of
    from framesrv.host.probe.probe import probe as look

    log.setup(level=logging.ERROR)
    camera, loaded = camera_of(source, config)
    if loaded is not None and os.geteuid() == 0:
        from framesrv.host.by_hand import hand_over

        hand_over(camera, loaded, ["probe", "--seconds", str(seconds), *(["--json"] if as_json else [])])
    look(camera, seconds, as_json=as_json)


@main.command()
@click.option(
    "--seconds", type=click.FloatRange(0.1, 60), default=3.0, show_default=True, help="To wait for answers."
)
@click.option("--interface", default="", metavar="NAME", help="Of the network, as eth0. Default: all of them.")
@click.option("--json", "as_json", is_flag=True, help="A JSON list, for scripts.")
def discover(seconds: float, interface: str, as_json: bool) -> None:
    """Find the ONVIF cameras of the local network, and print a [[camera]] table to fill in for each.

    It sends a question to the multicast group 239.255.255.250, port 3702, as WS-Discovery has it, and needs no
    password. Exit status 1: no camera has answered. `framesrv probe` then says whether what you have filled in works.

    Example: framesrv discover --interface eth1 >> cameras.toml
    """
    from framesrv.host.probe.discover import show

    show(seconds, interface, as_json=as_json)


@main.command()
@click.argument("code")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["y4m", "raw", "mjpeg"]),
    default="y4m",
    show_default=True,
    help="y4m tells size and rate itself; raw is planes without padding; mjpeg one JPEG after the other.",
)
@click.option(
    "--fps",
    type=click.FloatRange(0.01, 1000),
    metavar="N",
    help="So many frames a second, repeated or left out. Default: each as it comes.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 86400),
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="To wait for a new frame.",
)
@config_option
def pipe(code: str, kind: "Format", fps: float | None, timeout: float, config: Path | None) -> None:
    """Write a camera's frames to standard output, for FFmpeg, GStreamer and others.

    It ends when whoever reads them does, or by a signal, with status 0; with 1 if no new frame comes in time.
    Standard error tells what is written. All frames have the size of the first. Whoever reads slowly misses frames.

    Example: framesrv pipe 34020000001320000001 --fps 10 | ffmpeg -i - -t 60 gate.mp4
    """
    if sys.stdout.isatty():
        raise click.UsageError("frames are not for a terminal: give a pipe or a file")
    from framesrv import FrameSet
    from framesrv.host.pipe import pipe as write

    loaded, hidden = settings.load_as_reader(config)
    if hidden:
        click.echo(f"framesrv: goes on without it: {log.shown(hidden)}", err=True)
    try:
        camera = FrameSet([code], prefix=loaded.shm.prefix, owner=loaded.shm.owner)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="CODE") from error
    with camera:
        write(camera, loaded, kind, fps, timeout)


@main.command()
def include_dir() -> None:
    """Print the directory of framesrv.h and framesrv.hpp, by which programs in C and C++ read frames.

    Example: cc -I"$(framesrv include-dir)" example.c -o example -pthread
    """
    click.echo(Path(__file__).parent / "include")


@main.command()
@click.option("--source", "sources", multiple=True, metavar="URL", help="Your camera; several allowed.")
@click.option("--seconds", type=click.FloatRange(min=0, min_open=True), help="End by itself after so long.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the pictures go. Default: a new directory below the system's temporary one.",
)
def demo(sources: tuple[str, ...], seconds: float | None, output: Path | None) -> None:
    """Show the whole way on this machine: a camera, Redis, snapd, and a cloud that asks for pictures.

    Needs nothing: Redis is embedded, the camera is a test picture (or yours, with --source), pictures go to files.
    A request goes out every second; a line tells what came of it. Ctrl-C ends it.

    Example: framesrv demo --source rtsp://user:pass@192.0.2.11/stream1 --seconds 30
    """
    log.setup()
    from framesrv.host.demo import run

    run(list(sources), seconds, output)


@main.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}, add_help_option=False
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="COMMAND...")
def snapd(words: tuple[str, ...]) -> NoReturn:
    """Run a command of snapd, the program that answers snapshot requests.

    `framesrv snapd --help` lists them: run, grab, request, queue, dead, check.

    Example: framesrv snapd grab 34020000001320000001 -o now.jpg
    """
    os.execv(sys.executable, [sys.executable, "-P", "-m", "snapd", *words])  # noqa: S606


for command in (start, stop, restart, logs, units):
    main.add_command(command)
