"""``framesrv retry``: decoders try their cameras again at once."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from framesrv.camera.decoder import RETRY
from framesrv.log import shown
from framesrv.segment.status import camera_status
from framesrv.settings import Settings


def retry(settings: Settings, codes: Sequence[str]) -> None:
    """Tells the decoder of each camera; exit status 1 if one could not be told."""
    cameras = filter(None, map(settings.camera, codes))
    streams = [stream.code for camera in cameras for stream in camera.streams]
    problems = [problem for code in dict.fromkeys([*codes, *streams]) if (problem := _tell(settings, code))]
    for problem in problems:
        click.echo(f"framesrv: {shown(problem)}", err=True)
    if problems:
        sys.exit(1)


def _tell(settings: Settings, code: str) -> str:
    """Tells one decoder; a sentence if that could not be done."""
    camera = camera_status(settings.shm.prefix, code, owner=settings.shm.owner)
    if camera.pid is None:
        return f"camera {code} has no decoder: {camera.reason}"
    try:
        # the number may be that of another process here, as of a decoder in a container
        arguments = re.split(rb"[\0 ]", Path(f"/proc/{camera.pid}/cmdline").read_bytes())  # of forked ones by spaces
        if not {b"decode", code.encode()} <= set(arguments):
            return (
                f"camera {code}: its decoder (pid {camera.pid}) is not a process of this host, as far as can be seen"
            )
        os.kill(camera.pid, RETRY)
    except OSError as error:
        return f"camera {code}: its decoder (pid {camera.pid}) cannot be told: {error.strerror}"
    click.echo(f"camera {code}: tried again now")
    return ""
