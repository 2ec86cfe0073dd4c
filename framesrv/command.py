"""What the command lines share: the ``--config`` option and what an exit status means.

0 done, 1 could not, 2 wrong usage or configuration.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from framesrv.errors import ConfigError, FramesrvError
from framesrv.log import mask

Command = TypeVar("Command", bound=Callable[..., Any])


class Group(click.Group):
    """A click group that turns this package's errors into a line on standard error and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            for problem in error.problems:
                click.echo(f"{ctx.info_name}: {mask(problem)}", err=True)
            ctx.exit(2)
        except FramesrvError as error:
            click.echo(f"{ctx.info_name}: {mask(str(error))}", err=True)
            ctx.exit(1)


def config_option(command: Command) -> Command:
    """Adds ``--config FILE`` as the parameter `config`."""
    return click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="The configuration. Default: $FRAMESRV_CONFIG, ./framesrv.toml, /etc/framesrv/framesrv.toml.",
    )(command)
