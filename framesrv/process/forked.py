"""Children that go on in a copy of this process's memory, in place of starting a program.

What this process has imported lies in memory once for all of them, until one of them writes over it, and they are
there at once. They are kept as any other child: `Forked` has what is used of `asyncio.subprocess.Process`.
"""

import asyncio
import ctypes
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import NoReturn

Entry = Callable[[Sequence[str]], object]  # a command line's own, which is given its words and may raise SystemExit

_HEARD = (signal.SIGTERM, signal.SIGINT)  # by an event loop of the parent


def possible() -> bool:
    """Whether the kernel lets us wait for such a child without a thread (pidfd_open(2), Linux 5.3)."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return False
    return True


class Forked:
    """A child that is forked from the main thread, in an event loop.

    Args:
        entry: what it runs; it ends with the status of the SystemExit that this raises, or 0.
        words: for `entry`.
        title: its command line, for ``ps``, in place of ours.
        setup: is called in the child before all else.
        files: descriptors that it inherits, besides standard output and error.

    Attributes:
        pid: of the child.

    Raises:
        OSError: there can be none more.
    """

    def __init__(
        self,
        entry: Entry,
        words: Sequence[str],
        *,
        title: Sequence[str],
        setup: Callable[[], None],
        files: Collection[int] = (),
    ) -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # What is here now is never looked at again for garbage, by us or by the child: to look writes to all of it,
        # and what the child might find would close files that have their numbers from it by then.
        gc.collect()
        gc.freeze()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)  # until the child no longer tells our loop of them
        try:
            self.pid = os.fork()
            if not self.pid:
                _live(entry, words, title, setup, files, blocked)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except OSError:  # no descriptor left: nobody would hear of its end
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            raise
        self._loop.add_reader(self._pidfd, self._reap)

    async def wait(self) -> int:
        """Its exit status; that of a signal is below 0."""
        return await asyncio.shield(self._ended)

    def terminate(self) -> None:
        """SIGTERM; raises ProcessLookupError where it has ended."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL; raises ProcessLookupError where it has ended."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self._ended.done():
            raise ProcessLookupError
        signal.pidfd_send_signal(self._pidfd, number)

    def _reap(self) -> None:
        _, status = os.waitpid(self.pid, 0)
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._ended.set_result(os.waitstatus_to_exitcode(status))


def _live(
    entry: Entry,
    words: Sequence[str],
    title: Sequence[str],
    setup: Callable[[], None],
    files: Collection[int],
    blocked: set[int | signal.Signals],
) -> NoReturn:
    """The child's whole life."""
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.setsid()
        setup()
        _keep_files(files)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        _set_title(title)
        entry(words)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  the outermost: nothing of the parent's is to go on here
        sys.excepthook(*sys.exc_info())
    finally:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _keep_files(files: Collection[int]) -> None:
    """Closes all others but standard output and error; standard input is empty."""
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    kept = sorted({0, 1, 2, *files})
    for last, following in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(last + 1, following)


def _set_title(words: Sequence[str]) -> None:
    """Writes a command line over ours, with spaces between its words, and over the environment behind it.

    The kernel shows it all the same (proc_pid_cmdline(5)); the variables are kept elsewhere first.
    """
    numbers = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end, following, last = map(int, numbers[45:49])
    if not begin:  # not ours to know
        return
    for name, value in os.environ.items():
        os.putenv(name, value)
    room = (last if following == end else end) - begin
    text = os.fsencode(" ".join(words))[: room - 1]
    ctypes.memset(begin, 0, room)
    ctypes.memmove(begin, text, len(text))
