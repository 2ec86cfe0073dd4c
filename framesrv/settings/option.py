"""The option ``--config`` of both command lines."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from framesrv.settings.loading import PLACES, outranked

Command = TypeVar("Command", bound=Callable[..., Any])


def config_option(command: Command) -> Command:
    """Adds ``--config FILE`` as the parameter `config`; says where a file that is found hides another one."""
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        callback=_told,
        help=f"The configuration. Default: $FRAMESRV_CONFIG, ./{PLACES[0]}, {PLACES[1]}.",
    )(command)


def _told(context: click.Context, _parameter: click.Parameter, file: Path | None) -> Path | None:
    hidden = outranked(file)
    if hidden is not None and not context.resilient_parsing:
        program = context.find_root().info_name
        click.echo(f"{program}: ./{PLACES[0]} is used, not {hidden}: --config {hidden} takes that one", err=True)
    return file
