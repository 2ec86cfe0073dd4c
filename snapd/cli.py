"""The command line of snapd. What a command needs is imported when it runs."""

import logging
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from framesrv import __version__, log, settings
from framesrv.process.command import Group, log_format_option
from framesrv.process.extras import sentence
from framesrv.settings.option import config_option
from snapd.local import grab

if TYPE_CHECKING:
    from snapd.telemetry.spans import Spans

LONGEST_WAIT = 10.0  # s after starts that ended soon; the watchdog is told nothing meanwhile
COLLECTOR = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")

logger = logging.getLogger("snapd")


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
    log.setup(log_format, level=logging.DEBUG if verbose else logging.INFO)
    for library in ("urllib3", "redis", "charset_normalizer"):
        logging.getLogger(library).setLevel(logging.WARNING)
    loaded = settings.load(config)
    loaded.http.check()

    from framesrv.process.starts import Starts
    from snapd.pages.launcher import Launcher
    from snapd.service import Service
    from snapd.supervision import Supervision
    from snapd.telemetry.counters import Counters
    from snapd.telemetry.trace import Trace

    starts = Starts()
    starts.begin(LONGEST_WAIT, _waits)
    supervision = Supervision(config)
    counters = Counters(supervision.changed)
    spans = _spans()
    pages = Launcher(loaded.http, log_format, counters, supervision.changed) if loaded.http.listen else None

    def answered(trace: Trace) -> None:
        if pages:
            pages.answered(trace)
        if spans:
            spans.tell(trace)

    service = Service.open(loaded, on_change=supervision.changed, on_answered=answered, counters=counters)
    supervision.begin(service, pages)
    if pages:
        pages.start(service)
    logger.info(
        "Started stream=%s group=%s consumer=%s cameras=%d workers=%d store=%s",
        loaded.stream.name,
        loaded.stream.group,
        loaded.stream.consumer,
        len(loaded.cameras),
        loaded.snapshot.workers,
        loaded.store.kind,
    )
    try:
        service.run()
    finally:
        if pages:
            pages.stop()
            pages.join()
        if spans:
            spans.close()
    starts.end()
    logger.info("Stopped")


def _waits(words: str) -> None:
    """Tells that it waits before it begins."""
    from framesrv.process.notify import Notifier

    logger.warning("%s", words)
    Notifier().ready(words)  # at once, as ever: nothing waits for this start


def _spans() -> "Spans | None":
    """Where a collector is named, what exports to it."""
    variable = next((name for name in COLLECTOR if os.environ.get(name)), None)
    if variable is None:
        return None
    try:
        from snapd.telemetry.spans import Spans

        return Spans()
    except ImportError as error:
        logger.warning("%s is set, but no spans are exported: %s", variable, sentence(error.name or "") or error)
    except (ValueError, OSError) as error:
        logger.warning("%s is set, but no spans are exported: %s", variable, error)
    return None


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

    Lag is what no worker has taken yet, pending what was taken and not yet answered.

    \b
    Example:
        snapd queue --json
    """  # noqa: D301  click wants the character
    loaded = settings.load(config)

    import orjson
    import redis

    from snapd.requests.backlog import look
    from snapd.requests.cause import explain
    from snapd.requests.redis import open_client

    try:
        found = look(open_client(loaded.redis.url), loaded.stream)
    except redis.RedisError as error:
        raise click.ClickException(log.shown(explain(error, loaded.redis.url))) from error
    if as_json:
        click.echo(orjson.dumps(found))
        return
    click.echo(f"{found.stream}, group {found.group}")
    click.echo(f"lag           {found.lag}")
    oldest = "" if found.oldest_pending_s is None else f", the oldest {found.oldest_pending_s:.1f} s old"
    click.echo(f"pending       {found.pending}{oldest}")
    click.echo(f"dead letters  {found.dead}")
    for consumer in found.consumers:
        click.echo(
            f"consumer      {log.shown(consumer.name)}: {consumer.pending} pending, idle for {consumer.idle_s:.1f} s"
        )


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
    for letter in found:
        moved = datetime.fromtimestamp(letter.moved_at, UTC)
        request_id, code = letter.shown_fields("request_id", "camera_code")
        words = log.shown(f"request {request_id} for {code}: {letter.reason}")
        click.echo(f"{letter.id}  {moved:%Y-%m-%d %H:%M:%SZ}  {words}")


@main.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help='Print a list of {"name", "ok", "message"}.')
def check(config: Path | None, as_json: bool) -> None:
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
    from snapd.check import findings

    found = findings(loaded)
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
            raise click.ClickException(f"nothing was removed: snapd of {readers} reads from group {stream.group}")
        if not dry_run:
            removal.remove(client, stream, kept)
    except redis.RedisError as error:
        raise click.ClickException(log.shown(explain(error, loaded.redis.url))) from error
    done = "remove  " if dry_run else "removed "
    if kept.pending is not None:
        click.echo(f"{done} group {stream.group} of {stream.name} in Redis, {kept.pending} requests pending")
    if kept.dead:
        click.echo(f"{done} {kept.dead} dead letters, {stream.dead} in Redis")
