"""``framesrv up``: every camera's decoder and snapd as children of one process in the foreground."""

import asyncio
import logging
import os
from importlib import import_module

from framesrv.camera.preload import preload
from framesrv.errors import SegmentError
from framesrv.history.abandoned import remove_abandoned
from framesrv.log import Format
from framesrv.process import children, extras
from framesrv.process.forked import Entry
from framesrv.settings import Settings

DRAIN = 30.0  # s that snapd gets for the requests it has in hand

logger = logging.getLogger(__name__)


def run(settings: Settings, log_format: Format, entry: Entry) -> None:
    """Keeps a decoder for every camera, and snapd, until SIGTERM or SIGINT; then nothing of them is left.

    Args:
        settings: all of them.
        log_format: of all of them.
        entry: of the command line ``framesrv``.
    """
    extras.require("snapd")
    preload(stream.source for stream in settings.streams)
    if os.geteuid() == 0:
        import_module("framesrv.host.by_hand")  # which a decoder of root's asks
    asyncio.run(_run(settings, log_format, entry))


async def _run(settings: Settings, log_format: Format, entry: Entry) -> None:
    options = ["--log-format", log_format, *(["--config", str(settings.file)] if settings.file else [])]
    tasks = []
    for camera in settings.cameras:
        command = children.module("framesrv", "decode", "--kept", *options, "--", camera.code)
        tasks.append(asyncio.create_task(children.keep(camera.code, command, entry=entry)))
    snapd = children.keep("snapd", children.module("snapd", "run", *options), grace=DRAIN)
    tasks.append(asyncio.create_task(snapd))
    logger.info("started cameras=%d", len(settings.cameras))
    try:
        await children.stop_signal()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for camera in settings.streams:  # one that had to be killed left its segment
            try:
                remove_abandoned(settings.shm.prefix, camera.code)
            except (SegmentError, OSError) as error:
                logger.error("segment not removed camera=%s: %s", camera.code, error)  # noqa: TRY400
        logger.info("ended")
