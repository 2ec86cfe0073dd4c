"""One fault put into a host, found by `framesrv health`, mended.

``python -m tests.support.fault_trial [PATTERN]`` tries all, or those whose name matches, and prints a table: what was
broken, what an operator sees first, after how many seconds, and what heals it.
"""

import random
import re
import statistics
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from tests.support import faults_of_hosts  # noqa: F401  registers its kinds
from tests.support.cos import CosServer
from tests.support.faults import SEED, Case, Draft, World, cases
from tests.support.footage import footage
from tests.support.ports import free_port
from tests.support.processes import write_config
from tests.support.redis_server import RedisServer
from tests.support.rtsp import RtspServer
from tests.support.rtsp_answers import Answering, in_plain_words, refusing, saying_nothing, sound_alone
from tests.support.site import CAMERAS, Site
from tests.support.systemd import Host, build_wheel
from tests.support.wvp import WvpServer

SEEN_WITHIN = 60.0  # s until the first line names the cause
WELL_WITHIN = 60.0  # s until the first line says that all is well
CONFIG, ENVIRONMENT = "/etc/framesrv/framesrv.toml", "/etc/framesrv/framesrv.env"


@dataclass(frozen=True)
class Trial:
    """What came of one: the first line that named the cause, seconds until it did, and from mending until well."""

    case: Case
    first_line: str
    seen_after: float
    well_after: float


def attempt(site: Site, world: World, case: Case) -> Trial:
    """Puts the fault in, waits until it is named, mends it and waits until all is well; nothing else is touched.

    Raises:
        AssertionError: something is not as it must be.
        TimeoutError: the cause was not named, or all was not well, in time.
    """
    others = [code for code in CAMERAS if not (case.kind.of_camera and code == case.camera)]
    before = {code: site.seen(code) for code in others}
    _wait_for_line(site, "well: ", WELL_WITHIN)
    draft = Draft.well(site)
    began = time.monotonic()
    pattern = case.kind.put(draft, world, case.camera, random.Random(SEED + case.number))
    try:
        with ThreadPoolExecutor(1) as pool:
            syncing = None
            if case.kind.how != "host":
                _write(site, draft)
            if case.kind.how in ("sync", "force", "refused"):
                options = ["--force"] if case.kind.how == "force" or draft.forced else []
                syncing = pool.submit(site.host.run, "framesrv", "units", "sync", *options)
            if case.kind.asks:
                assert syncing is not None
                syncing.result()
                _ask(site)
            line = _wait_for_line(site, pattern, SEEN_WITHIN)
            seen_after = time.monotonic() - began
            if syncing is not None and case.kind.of_camera:
                done = syncing.result()
                reason = re.sub(r"^.*?attempt [0-9]+: ", "", line).rstrip(" s0123456789")[:40]
                assert (done.returncode, reason in done.stderr) == (1, True), f"sync does not say why: {done.stderr}"
            if syncing is not None and case.kind.how == "refused":
                done = syncing.result()
                assert done.returncode in (1, 2), done.stdout + done.stderr
                assert done.stdout == "", "nothing is done"
    finally:
        for undo in draft.undo:
            undo()
        _write(site, Draft.well(site))
        began = time.monotonic()
        site.sync()
    _wait_for_line(site, "well: ", WELL_WITHIN)
    well_after = time.monotonic() - began
    for code in others:
        now = site.seen(code)
        assert (now.pid, now.inode) == (before[code].pid, before[code].inode), f"{code} was restarted"
        assert (now.dropped, now.reconnects) == (before[code].dropped, before[code].reconnects)
        assert now.seq > before[code].seq
    return Trial(case, line, seen_after, well_after)


def _write(site: Site, draft: Draft) -> None:
    file = write_config(site.host.path(CONFIG), draft.sections, draft.cameras)
    file.write_text(draft.rewrite(file.read_text()))
    site.host.path(ENVIRONMENT).write_text(draft.environment)


def _ask(site: Site) -> None:
    """A request for a picture."""
    request = uuid.uuid4().hex
    fields: dict[str, str] = {"request_id": request, "camera_code": CAMERAS[0], "cos_path": f"snap/{request}.jpg"}
    site.redis.client().xadd("edge_snap_request", {**fields, "callback_url": site.wvp.url})  # type: ignore[dict-item]


def _wait_for_line(site: Site, pattern: str, timeout: float) -> str:
    """The first line of `framesrv health`, once it is like that."""
    said: list[str] = []

    def look() -> str:
        done = site.host.run("framesrv", "health")
        line = (done.stdout.splitlines() or [done.stderr])[0]
        assert done.returncode == {"well": 0, "impaired": 1, "down": 2}[line.partition(":")[0]], done
        if not said or said[-1] != line:
            said.append(line)
        return line if re.match(pattern, line) else ""

    try:
        return str(site.host.wait_for(look, pattern, timeout))
    except TimeoutError as error:
        raise TimeoutError(f"health said {said}, never {pattern!r}\n{error}") from error


@contextmanager
def surroundings() -> Iterator[World]:
    """What answers as it should not."""
    with ExitStack() as stack:
        unauthorized, forbidden, silent, sound, plain, taken = (
            stack.enter_context(Answering(answer))
            for answer in (
                refusing("401 Unauthorized"),
                refusing("403 Forbidden"),
                saying_nothing,
                sound_alone,
                in_plain_words,
                lambda connection: connection.recv(1),
            )
        )
        yield World(unauthorized.port, forbidden.port, silent.port, sound.port, plain.port, taken.port)


@contextmanager
def booted(directory: Path) -> Iterator[Site]:
    """A host with the usual cameras, live."""
    with ExitStack() as stack:
        host = stack.enter_context(Host(build_wheel(directory)))
        redis = stack.enter_context(RedisServer(directory / "redis"))
        cos, wvp = stack.enter_context(CosServer()), stack.enter_context(WvpServer())
        rtsp = {}
        for number, code in enumerate(CAMERAS):
            (directory / code).mkdir()
            video = footage(width=640, height=360, number=number)
            rtsp[code] = stack.enter_context(RtspServer({code: video}, directory / code, port=free_port()))
        host.must("framesrv", "units", "install")
        site = Site(host, rtsp, redis, cos, wvp)
        _write(site, Draft.well(site))
        site.sync()
        yield site


def main() -> None:
    """Tries all, or those that the argument matches, and prints the table."""
    trials: dict[str, list[Trial]] = {}
    failed = 0
    with TemporaryDirectory() as place, booted(Path(place)) as site, surroundings() as world:
        for case in cases():
            if sys.argv[1:] and not re.search(sys.argv[1], case.id):
                continue
            try:
                trial = attempt(site, world, case)
            except (AssertionError, TimeoutError) as error:
                click.echo(f"{case.id}: {str(error)[:4000]}", err=True)
                failed += 1
                site.host.run("framesrv", "units", "sync")
            else:
                trials.setdefault(case.kind.name, []).append(trial)
                times = f"{trial.seen_after:.1f} s, {trial.well_after:.1f} s"
                click.echo(f"{case.id}: {times}: {trial.first_line}", err=True)
    for line in table(list(trials.values())):
        click.echo(line)
    sys.exit(min(failed, 1))


def table(found: Sequence[Sequence[Trial]]) -> Iterator[str]:
    """In Markdown, the trials of each kind in one row."""
    yield "| what was broken | what `framesrv health` says first | after | what heals it | well after |"
    yield "|---|---|---|---|---|"
    for trials in sorted(found, key=lambda one: one[0].first_line):
        kind = trials[0].case.kind
        seen = statistics.median(trial.seen_after for trial in trials)
        well = statistics.median(trial.well_after for trial in trials)
        line = trials[0].first_line.replace("|", "\\|")
        yield f"| {kind.broken} | `` {line} `` | {seen:.0f} s | {kind.heals} | {well:.0f} s |"


if __name__ == "__main__":
    main()
