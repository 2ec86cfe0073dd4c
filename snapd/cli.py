"""The command line of snapd. What a command needs is imported when it runs."""

import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import click

from framesrv import __version__, log, settings
from framesrv.process.command import Group, log_format_option
from framesrv.settings.option import config_option
from snapd.local import clip, grab


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Answers snapshot requests with pictures of this host's cameras.

    The cameras' newest frames lie in shared memory, where `framesrv` keeps them. Requests come by a Redis
    Stream; the pictures go to an object store, the results to the sender.

    \b
    Exit status: 0 done, 1 could not, 2 wrong usage or configuration.
    """  # noqa: D301  click wants the character


main.add_command(grab)
main.add_command(clip)


@main.command()
@config_option
@log_format_option
@click.option("-v", "--verbose", is_flag=True, help="Log every answered request with the time of each stage.")
def run(config: Path | None, log_format: log.Format, verbose: bool) -> None:
    """Take requests and answer them.

    Until SIGTERM or Ctrl-C: then it takes no more requests, finishes those in hand and exits with 0;
    what it could not finish stays in Redis for the next start. At SIGHUP it reads the configuration again.

    \b
    Example:
        snapd run --config /etc/framesrv/framesrv.toml
    """  # noqa: D301  click wants the character
    from snapd.serving import serve

    serve(config, log_format, verbose=verbose)


@main.command()
@config_option
@log_format_option
@click.option("-v", "--verbose", is_flag=True, help="Log every request that is answered here.")
def route(config: Path | None, log_format: log.Format, verbose: bool) -> None:
    """Bring each request to the host that has its camera.

    For a fleet of hosts that have [stream] routed = true. It runs beside Redis, or anywhere; as many as you like
    share the work, and a host with cameras may run one too. What no live host has is answered here. Signals are
    heard as by `snapd run`.

    \b
    Example:
        snapd route --config /etc/framesrv/framesrv.toml
    """  # noqa: D301  click wants the character
    from snapd.serving import serve

    serve(config, log_format, verbose=verbose, router=True)


@main.command("fleet")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
def show_fleet(config: Path | None, as_json: bool) -> None:
    """Say which hosts there are, what they have and how they keep up.

    These are the hosts that have [stream] routed = true, and the routers that bring requests to them.

    \b
    Example:
        snapd fleet --json
    """  # noqa: D301  click wants the character
    loaded = settings.load(config)

    import orjson
    import redis

    from snapd.requests.cause import explain
    from snapd.requests.redis import open_client
    from snapd.routing import overview

    try:
        found = overview.look(open_client(loaded.redis.url), loaded.stream)
    except redis.RedisError as error:
        raise click.ClickException(log.shown(explain(error, loaded.redis.url))) from error
    click.echo(orjson.dumps(found) if as_json else "\n".join(map(log.shown, overview.lines(found))))


@main.command()
@config_option
@click.argument("code")
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds to wait for the result.",
)
@click.option("--callback-url", default="", metavar="URL", help="Where the result is to be posted. Default: not.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as it is on the wire.")
@click.option("-v", "--verbose", is_flag=True, help="Show where the time went. With --json, on standard error.")
def request(config: Path | None, code: str, timeout: float, callback_url: str, as_json: bool, verbose: bool) -> None:
    """Ask for a picture as the cloud would.

    Sends a request for camera CODE through Redis, waits for its result and prints it.
    Without a callback URL the result comes by its key in Redis. The picture is stored under
    snapd-request/DATE/. A result that is an error, and none in time, exit with 1.

    \b
    Example:
        snapd request 34020000001320000001 --timeout 5 --verbose
    """  # noqa: D301  click wants the character
    loaded = settings.load(config)

    import redis

    from snapd.requests.cause import explain
    from snapd.requests.client import Client
    from snapd.telemetry.trace import waterfall

    try:
        answer = Client(loaded).request(code, callback_url, timeout, trace=verbose)
    except redis.RedisError as error:
        raise click.ClickException(log.shown(explain(error, loaded.redis.url))) from error
    result = answer.result
    if result is None:
        click.echo(f"the result went to {log.shown(callback_url)}", err=as_json)
    elif as_json:
        click.echo(result.to_json().decode())
    else:
        click.echo(f"{result.status} {log.printable(result.url or result.message)}")
    if verbose:
        if answer.trace:
            click.echo("\n".join(waterfall(answer.trace)), err=as_json)
        else:
            click.echo("where the time went was not told: is that `snapd run` an older one?", err=True)
    if result and result.status != "ok":
        sys.exit(1)


@main.command("queue")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
def show_queue(config: Path | None, as_json: bool) -> None:
    """Say how much is waiting on the request stream, and who works on it.

    Lag is what no worker has taken yet, pending what was taken and not yet answered. Where requests are routed to
    this host, that is its own stream, and then the one that the routers read.

    \b
    Example:
        snapd queue --json
    """  # noqa: D301  click wants the character
    loaded = settings.load(config)

    import orjson
    import redis

    from snapd.requests import fleet
    from snapd.requests.backlog import lines, look
    from snapd.requests.cause import explain
    from snapd.requests.redis import open_client

    try:
        client, stream = open_client(loaded.redis.url), loaded.stream
        found = look(client, stream)
        shared = look(client, fleet.shared(stream, stream.consumer)) if stream.routed else None
    except redis.RedisError as error:
        raise click.ClickException(log.shown(explain(error, loaded.redis.url))) from error
    if as_json:
        click.echo(orjson.dumps(asdict(found) | {"shared": shared} if shared else found))
        return
    for line in (*lines(found), *(lines(shared) if shared else ())):
        click.echo(log.shown(line))


@main.command()
@config_option
@click.option("--replay", metavar="ID", help="Put this dead letter back on the request stream.")
@click.option("--json", "as_json", is_flag=True, help="Print a list.")
def dead(config: Path | None, replay: str | None, as_json: bool) -> None:
    """List the requests that nobody could answer, or try one again.

    They were delivered [stream] max_deliveries times; their senders were told of an error if that was possible.

    \b
    Example:
        snapd dead
        snapd dead --replay 1795509322226-0
    """  # noqa: D301  click wants the character
    loaded = settings.load(config)

    import orjson
    import redis

    from snapd.requests.cause import explain
    from snapd.requests.dead_letters import DeadLetters
    from snapd.requests.redis import open_client, open_once

    letters = DeadLetters(loaded.stream, open_client(loaded.redis.url), open_once(loaded.redis.url))
    try:
        if replay is not None:
            entry_id = letters.replay(replay)
            click.echo(orjson.dumps({"id": replay, "entry": entry_id}) if as_json else f"{replay} is now {entry_id}")
            return
        found = letters.all()
    except redis.RedisError as error:
        raise click.ClickException(log.shown(explain(error, loaded.redis.url))) from error
    if as_json:
        click.echo(orjson.dumps([letter.shown() for letter in found]))
        return
    if not found:
        click.echo(f"no dead letters on {log.shown(loaded.stream.dead)}")
    for letter in found:
        moved = datetime.fromtimestamp(letter.moved_at, UTC)
        request_id, code = letter.shown_fields("request_id", "camera_code")
        words = log.shown(f"request {request_id} for {code}: {letter.reason}")
        click.echo(f"{letter.id}  {moved:%Y-%m-%d %H:%M:%SZ}  {words}")


@main.command()
@config_option
@click.option("--router", is_flag=True, help="What `snapd route` needs: neither encoder nor store.")
@click.option("--json", "as_json", is_flag=True, help='Print a list of {"name", "ok", "message"}.')
def check(config: Path | None, router: bool, as_json: bool) -> None:
    """Try what snapd needs; say what is wrong.

    That is the encoder, Redis, the stream and the store. Nothing is changed, but for a file made and removed
    in a directory store.

    \b
    Example:
        snapd check && systemctl restart framesrv-snapd
    """  # noqa: D301  click wants the character
    loaded = settings.load(config)

    import orjson

    from framesrv.process.finding import echo
    from snapd.check import findings, findings_of_router

    found = findings_of_router(loaded) if router else findings(loaded)
    if as_json:
        click.echo(orjson.dumps([finding.to_json() for finding in found]))
    else:
        echo(found)
    sys.exit(max(finding.status for finding in found))


@main.command()
@config_option
@click.option("--dry-run", is_flag=True, help="Only print what would be removed.")
def forget(config: Path | None, dry_run: bool) -> None:
    """Remove from Redis what snapd keeps there for good: its consumer group and its dead letters.

    For a host that is taken out of service. Requests that are pending in the group are lost with it. While any snapd
    reads from the group nothing is removed. All other keys expire by themselves; the request stream stays.

    \b
    Example:
        snapd forget --dry-run
    """  # noqa: D301  click wants the character
    loaded = settings.load(config)

    import redis

    from snapd.requests import removal
    from snapd.requests.cause import explain
    from snapd.requests.redis import open_client

    client, stream = open_client(loaded.redis.url), loaded.stream
    try:
        kept = removal.look(client, stream)
        if kept.readers and not dry_run:
            readers = log.shown(", ".join(kept.readers))
            raise click.ClickException(
                f"nothing was removed: snapd of {readers} reads from group {stream.source_group}"
            )
        if stream.routed and kept.pending and not dry_run:
            raise click.ClickException(
                f"nothing was removed: {kept.pending} requests wait on {stream.source}, "
                "and routers move them within seconds"
            )
        if not dry_run:
            removal.remove(client, stream, kept)
    except redis.RedisError as error:
        raise click.ClickException(log.shown(explain(error, loaded.redis.url))) from error
    done = "remove  " if dry_run else "removed "
    if kept.pending is not None:
        click.echo(f"{done} group {stream.source_group} of {stream.source} in Redis, {kept.pending} requests pending")
    if kept.dead:
        click.echo(f"{done} {kept.dead} dead letters, {stream.dead} in Redis")
