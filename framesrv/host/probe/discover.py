"""``framesrv discover``: the ONVIF cameras of the local network, as tables to fill in."""

import json
from dataclasses import asdict

import click

from framesrv.errors import FramesrvError
from framesrv.host.probe.discovery import Device, discover
from framesrv.log import shown
from framesrv.settings.writing import camera_table

REMARKS = {
    "code": "as requests name it",
    "source": "its path is in the camera's manual, or on its own page",
    "user": "of the camera",
}


def show(seconds: float, interface: str, *, as_json: bool) -> None:
    """Prints the cameras that answer.

    Raises:
        FramesrvError: none does.
    """
    found = discover(seconds, interface)
    if as_json:
        click.echo(json.dumps([asdict(device) for device in found]))
    else:
        click.echo("\n\n".join(map(_table, found)), nl=bool(found))
    if not found:
        raise FramesrvError(
            f"no ONVIF camera has answered within {seconds:g} s: it may be in another network, have ONVIF turned off "
            "in its settings, or its answers be stopped by a firewall (UDP from port 3702)"
        )


def _table(device: Device) -> str:
    words = [" ".join(filter(None, (device.name, device.hardware))), device.location, device.service]
    keys = {"code": "", "source": f"rtsp://{device.host}/", "user": "", "password": ""}
    return f"# {shown(', '.join(filter(None, words)) or device.host)}\n{camera_table(keys, REMARKS)}"
