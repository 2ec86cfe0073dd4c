"""The process that shows the pages: ``python -m snapd.pages LISTENER CHANNEL LOG_FORMAT``, started by snapd.

It ends at a SIGTERM and when the other end of CHANNEL, a socket, is closed, in whatever way snapd has ended.
"""

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import cast

from framesrv import log
from snapd.pages import channel
from snapd.pages.app import Pages
from snapd.pages.follow import Followers
from snapd.pages.metrics import Metrics
from snapd.pages.overview import Overview
from snapd.pages.pictures import Pictures
from snapd.pages.readiness import Readiness
from snapd.pages.server import Server

NICENESS = 10  # when a CPU is short, snapshots and decoders come first
EXPENDABLE = "500"  # and so it is when memory is

logger = logging.getLogger("snapd.pages")


async def serve(listener: socket.socket, snapd: socket.socket) -> None:
    """Shows the pages to those who connect to `listener`, until the socket to `snapd` ends."""
    reader, writer = await asyncio.open_unix_connection(sock=snapd, limit=channel.LONGEST)
    first = channel.to_pages.decode(await reader.readline())
    if not isinstance(first, channel.NewConfiguration):
        raise TypeError(f"expected the configuration first, not {type(first).__name__}")
    overview = Overview(first.settings)
    pages = Pages(
        overview,
        Pictures(first.settings),
        Followers(first.settings.shm),
        Metrics(os.getppid()),
        Readiness(overview, lambda: writer.write(channel.line(channel.AskStore()))),
    )
    server = Server(pages.app(first.settings))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.end.set)
    hearing = asyncio.create_task(_hear(reader, pages))
    hearing.add_done_callback(lambda _: server.end.set())
    await server.run_on(listener)
    if hearing.done():
        hearing.result()


async def _hear(reader: asyncio.StreamReader, pages: Pages) -> None:
    """Takes in what snapd tells."""
    while line := await reader.readline():
        message = channel.to_pages.decode(line)
        match message:
            case channel.NewConfiguration(settings=settings):
                pages.configure(settings)
            case channel.RequestAnswered(trace=trace):
                pages.overview.requests.append(trace)
                pages.metrics.latency.observe(trace)
            case channel.Condition():
                pages.overview.condition = message
                pages.readiness.told()


def main() -> None:
    """The process."""
    listener, snapd = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    log.setup(cast("log.Format", sys.argv[3]), part="pages")
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # it warns of every request that is none
    with suppress(OSError):  # where a unit forbids the call, it shares the CPU like others
        os.nice(NICENESS)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(EXPENDABLE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    status = 0
    try:
        asyncio.run(serve(listener, snapd))
    except ConnectionError:
        pass  # snapd has ended
    except Exception:
        logger.exception("Pages cannot be shown")
        status = 1
    os._exit(status)  # threads that wait for a camera are not waited for


if __name__ == "__main__":
    main()
