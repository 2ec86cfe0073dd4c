"""What the command lines share: ``--log-format`` and what an exit status means.

0 done, 1 could not, 2 wrong usage or configuration.
"""

from collections.abc import Callable
from typing import Any, TypeVar, get_args

import click

from framesrv import log
from framesrv.errors import ConfigError, FramesrvError
from framesrv.process import extras
from framesrv.process.extras import MissingExtraError

Command = TypeVar("Command", bound=Callable[..., Any])


class Group(click.Group):
    """A click group that turns this package's errors, and a missing extra, into a line and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        try:
            return super().invoke(ctx)
        except FramesrvError as error:
            log.complain(str(ctx.info_name), error)
            ctx.exit(2 if isinstance(error, ConfigError) else 1)
        except ModuleNotFoundError as error:
            missing = extras.sentence(error.name or "")
            if not missing:
                raise
            log.complain(str(ctx.info_name), MissingExtraError(missing))
            ctx.exit(1)


def log_format_option(command: Command) -> Command:
    """Adds ``--log-format`` as the parameter `log_format`."""
    return click.option(
        "--log-format",
        type=click.Choice(get_args(log.Format)),
        default="auto",
        envvar="FRAMESRV_LOG_FORMAT",
        show_envvar=True,
        help="Of log lines. auto, the default: with priorities for the journal, short on a terminal, else text.",
    )(command)
