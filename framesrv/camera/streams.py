"""A camera with a substream: a decoder for each of its two streams, and this process, which keeps both.

It reads nothing of what the camera sends. So whatever one stream does to its decoder, be it that it crashes or hangs,
the other goes on.
"""

import asyncio
import signal
from collections.abc import Collection, Sequence

from framesrv.camera.decoder import RETRY
from framesrv.camera.preload import preload
from framesrv.process import children
from framesrv.process.forked import Entry
from framesrv.process.notify import Notifier
from framesrv.segment.status import CameraStatus, camera_status
from framesrv.settings import Camera, Settings

GRACE = 3.0  # s that a decoder gets to end, in which it ends by itself
READY_WITHIN = 30.0  # s that both segments may take
LOOK = 0.1  # s between two looks for them


def run(
    camera: Camera,
    settings: Settings,
    options: Sequence[str],
    files: Collection[int],
    name_taken: int,
    entry: Entry,
) -> int:
    """Keeps both decoders until SIGTERM or SIGINT.

    Args:
        camera: with a substream.
        settings: all of them.
        options: of both commands.
        files: descriptors that those name.
        name_taken: the exit status of a decoder whose segment's name another user has taken.
        entry: of the command line ``framesrv``.

    Returns:
        The exit status: 0; `name_taken`, as root alone can help then; 2 where no decoder can be started.
    """
    signal.signal(RETRY, signal.SIG_IGN)  # is meant for decoders, and comes here where it goes to the whole unit
    preload(stream.source for stream in camera.streams)
    return asyncio.run(_run(camera, settings.shm.prefix, options, files, name_taken, entry))


async def _run(
    camera: Camera, prefix: str, options: Sequence[str], files: Collection[int], name_taken: int, entry: Entry
) -> int:
    codes = [stream.code for stream in camera.streams]
    notifier, final = Notifier(), (children.USAGE, name_taken)
    stopped = asyncio.create_task(children.stop_signal())
    kept = []
    for code in codes:
        command = children.module("framesrv", "decode", "--alone", "--kept", *options, "--", code)
        keeping = children.keep(code, command, grace=GRACE, final=final, files=files, entry=entry)
        kept.append(asyncio.create_task(keeping))
    telling = asyncio.create_task(_tell(notifier, prefix, codes))
    try:
        left = set(kept)
        while left:
            done, _ = await asyncio.wait([stopped, telling, *left], return_when=asyncio.FIRST_COMPLETED)
            if stopped in done:
                return 0
            if telling in done:
                telling.result()  # it never ends but by an error
            if any(one.result() == name_taken for one in done & left):
                return name_taken
            left -= done
        return children.USAGE
    finally:
        notifier.stopping("stopping")
        for task in (stopped, telling, *kept):
            task.cancel()
        await asyncio.gather(stopped, telling, *kept, return_exceptions=True)


async def _tell(notifier: Notifier, prefix: str, codes: Sequence[str]) -> None:
    """Tells the service manager that both have a segment, and from then on how they do."""
    deadline = asyncio.get_running_loop().time() + READY_WITHIN
    while asyncio.get_running_loop().time() < deadline:
        if all(camera_status(prefix, code).pid for code in codes):
            break
        await asyncio.sleep(LOOK)
    notifier.ready(_status(prefix, codes))
    while notifier.interval is not None:
        await asyncio.sleep(notifier.interval)
        notifier.alive(_status(prefix, codes))
    await asyncio.Event().wait()


def _status(prefix: str, codes: Sequence[str]) -> str:
    first, second = (_words(camera_status(prefix, code)) for code in codes)
    return f"{first}; substream {second}"


def _words(now: CameraStatus) -> str:
    size = f" {now.width}x{now.height}" if now.width and now.state == "live" else ""
    return f"{now.state}{size}" + (f": {now.reason}" if now.reason else "")
