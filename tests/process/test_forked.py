"""Children that are forked: what is theirs, what is not, and what their parent hears of them."""

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from framesrv.process import children, forked
from tests.support.processes import ROOT

PARENT = """
import asyncio, ctypes, json, logging, os, signal, socket, sys
from collections.abc import Sequence
from pathlib import Path
from framesrv.process import children

place = Path(sys.argv[1])
children.FIRST_DELAY = children.LONGEST_DELAY = 0.01
logging.basicConfig(level="INFO")
left_open = socket.socket()

def entry(words):
    life = len(list(place.iterdir()))
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    facts = {
        "words": words,
        "cmdline": Path("/proc/self/cmdline").read_bytes().rstrip(bytes(1)).decode(),
        "files": [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")],
        "input": os.read(0, 1).decode(),
        "leads": os.getsid(0) == os.getpid(),
        "notify": os.environ.get("NOTIFY_SOCKET"),
        "kept": getenv(b"KEPT").decode(),
        "blocked": [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    }
    (place / str(life)).write_text(json.dumps(facts))
    if life == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    if life == 1:
        raise RuntimeError("it is broken")
    sys.exit(2)

async def main():
    stop = asyncio.create_task(children.stop_signal())
    await asyncio.sleep(0)
    status = await children.keep("one", children.module("framesrv", *sys.argv[2:]), entry=entry)
    print(json.dumps([status, stop.done()]))

asyncio.run(main())
"""


@pytest.mark.parametrize("words", [("work", "--", "a"), ("work", "x" * 300)])
def test_forked_child_has_what_is_its_own_and_its_parent_hears_how_it_ends(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PARENT, str(place), *words],
        cwd=ROOT,
        env={"NOTIFY_SOCKET": "/nowhere", "KEPT": "k" * 400},
        input="something",
        capture_output=True,
        text=True,
        timeout=100,
        check=True,
    )
    assert json.loads(done.stdout) == [children.USAGE, False]  # the first life's signal is not taken for the parent's
    assert "child died child=one status=-15" in done.stderr
    assert "RuntimeError: it is broken" in done.stderr
    assert "child died child=one status=1" in done.stderr
    lives = [json.loads((place / str(life)).read_text()) for life in range(3)]
    command = " ".join([sys.executable, "-m", "framesrv", *words])
    for facts in lives:
        assert facts == {
            "words": list(words),
            "cmdline": command,
            "files": ["0", "1", "2"],
            "input": "",
            "leads": True,
            "notify": None,
            "kept": "k" * 400,
            "blocked": [],
        }


def test_program_is_started_where_the_kernel_cannot_tell_of_forked_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forked, "possible", lambda: False)
    mark = tmp_path / "mark"

    async def run() -> None:
        command = ["/bin/sh", "-c", f"touch {mark}; exec sleep 60"]
        task = asyncio.create_task(children.keep("cam", command, entry=lambda _: pytest.fail("it was forked")))
        async with asyncio.timeout(20):
            while not mark.exists():
                await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_child_that_nobody_could_hear_of_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would go on beside the one that is started in its place."""

    def refuse(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def entry(_: Sequence[str]) -> None:
        signal.pause()

    async def fork() -> None:
        forked.Forked(entry, [], title=["child"], setup=lambda: None)

    monkeypatch.setattr("framesrv.process.forked.os.pidfd_open", refuse)
    own = Path(f"/proc/self/task/{os.getpid()}/children")
    before = own.read_text()
    with pytest.raises(OSError, match="Too many open files"):
        asyncio.run(fork())
    assert own.read_text() == before
