"""Child processes that are kept alive, and that end with us however we end.

Every child is told by the kernel (prctl(2), PR_SET_PDEATHSIG) when its parent dies, so that nothing is left behind
even by SIGKILL. It is tied to the thread that starts the child: start them from the main thread.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Collection, Sequence

from framesrv.process import forked
from framesrv.process.forked import Entry, Forked
from framesrv.process.retry import Backoff

GRACE = 5.0  # s from SIGTERM to SIGKILL
FIRST_DELAY, LONGEST_DELAY = 0.5, 10.0  # s before a child that died is started again
SETTLED = 30.0  # s a child must live for its next death to count as the first
NOT_INHERITED = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}  # what a child says is not said for us
WORDS = 3  # of a command of `module` that its own words follow
USAGE = 2  # the exit status of a wrong configuration, which starting again does not mend

Child = asyncio.subprocess.Process | Forked

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)

logger = logging.getLogger(__name__)


def module(name: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours with this interpreter."""
    return [sys.executable, "-m", name, *arguments]


async def spawn(command: Sequence[str], *, files: Collection[int] = ()) -> asyncio.subprocess.Process:
    """Starts a child in a session of its own (Ctrl-C reaches only us), which gets SIGTERM when we die.

    Args:
        command: of the child.
        files: descriptors that it inherits.
    """
    environment = {name: value for name, value in os.environ.items() if name not in NOT_INHERITED}
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        env=environment,
        preexec_fn=_follows(),
        pass_fds=files,
        start_new_session=True,
    )


def _follows() -> Callable[[], None]:
    """What a child calls to get SIGTERM when this process dies."""
    parent = os.getpid()

    def follow() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the kernel was told
            os.kill(os.getpid(), signal.SIGTERM)

    return follow


def _fork(entry: Entry, command: Sequence[str], files: Collection[int]) -> Forked:
    """As `spawn`, but what the command would run is run in a copy of this process."""
    follow = _follows()

    def setup() -> None:
        follow()
        for name in NOT_INHERITED:
            os.environ.pop(name, None)

    return Forked(entry, command[WORDS:], title=command, setup=setup, files=files)


async def keep(
    name: str,
    command: Sequence[str],
    *,
    grace: float = GRACE,
    final: Collection[int] = (USAGE,),
    files: Collection[int] = (),
    entry: Entry | None = None,
    start: Callable[[], Awaitable[Child]] | None = None,
) -> int:
    """Runs a child and starts it again when it dies, until this task is cancelled; then ends it, within `grace` s.

    Args:
        name: of the child.
        command: the same.
        grace: seconds from SIGTERM to SIGKILL.
        final: exit statuses after which it stays down, as 2, by which it says that its configuration is wrong.
        files: descriptors that it inherits.
        entry: what the command, one of `module`, would run: then the child is forked, and shares what this process
            has imported. None: it is a program of its own.
        start: starts the child in place of `spawn`, and of all that is said of it here; may raise OSError.

    Returns:
        That exit status.
    """
    loop = asyncio.get_running_loop()
    backoff = Backoff(FIRST_DELAY, LONGEST_DELAY)
    while True:
        began = loop.time()
        try:
            if start is not None:
                child: Child = await start()
            elif entry is not None and forked.possible():
                child = _fork(entry, command, files)
            else:
                child = await spawn(command, files=files)
        except OSError as error:  # no descriptor, memory or process left, or no such program
            delay = backoff.pause()
            logger.error("child cannot be started, trying again child=%s in=%.1fs: %s", name, delay, error)  # noqa: TRY400
            await asyncio.sleep(delay)
            continue
        try:
            status = await child.wait()
        except asyncio.CancelledError:
            await end(name, child, grace)
            raise
        if status in final:
            why = "wrong configuration, " if status == USAGE else ""
            logger.error("%snot started again child=%s status=%d", why, name, status)
            return status
        if loop.time() - began > SETTLED:
            backoff.reset()
        delay = backoff.pause()
        logger.warning("child died child=%s status=%d deaths=%d next_in=%.1fs", name, status, backoff.failures, delay)
        await asyncio.sleep(delay)


async def end(name: str, child: Child, grace: float) -> None:
    """SIGTERM, and SIGKILL for one that does not heed it."""
    with contextlib.suppress(ProcessLookupError):
        child.terminate()
    try:
        await asyncio.wait_for(child.wait(), grace)
    except TimeoutError:
        logger.warning("child did not end, killed child=%s", name)
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


async def stop_signal() -> None:
    """Waits for SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
