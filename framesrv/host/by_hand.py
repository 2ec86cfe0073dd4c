"""What root starts by hand, on a host whose units run a camera as a user of its own: it goes on as that user.

So a segment that it leaves behind is its unit's to take up, and what a camera sends is not parsed by root.
"""

import os
import pwd
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from framesrv import settings
from framesrv.errors import FramesrvError
from framesrv.host.units import applied
from framesrv.segment.owner import service_user
from framesrv.settings import Camera, Settings
from framesrv.settings.variables import is_key


def hand_over(camera: Camera, loaded: Settings, command: Sequence[str]) -> None:
    """Goes on with that command as the camera's user, with its settings alone; returns where there is no such user.

    Args:
        camera: the one.
        loaded: all settings.
        command: its name and options, without the camera's code.

    Raises:
        FramesrvError: that user cannot run this program.
    """
    try:
        user = pwd.getpwnam(service_user(camera.code))
    except KeyError:
        return
    click.echo(f"framesrv: goes on as user {user.pw_name}, as the camera's unit does", err=True)
    _become(user, camera.code, settings.to_json(applied.of_camera(loaded, camera.code)), command)


def _become(user: pwd.struct_passwd, code: str, configuration: bytes, command: Sequence[str]) -> NoReturn:
    # a file without a name that outlives exec; unlike this process, the next one has never seen another's password
    file = os.memfd_create("framesrv", 0)
    os.write(file, configuration)
    words = [*command, "--config", f"/dev/fd/{file}", "--", code]
    variables = {name: value for name, value in os.environ.items() if not is_key(name)}
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    try:
        os.execve(sys.executable, [sys.executable, "-P", "-m", "framesrv", *words], variables)  # noqa: S606
    except OSError as error:
        raise FramesrvError(f"{sys.executable} cannot be run as user {user.pw_name}: {error.strerror}") from error
