"""The environment file of the services: keys of the configuration, and variables for snapd's process."""

from pathlib import Path

from framesrv.host.units import ENVIRONMENT
from framesrv.settings import variables


def read(file: Path = ENVIRONMENT) -> dict[str, str]:
    """All of it. Raises ConfigError: it cannot be read, or a line is no pair."""
    return variables.read(file)


def others(file: Path = ENVIRONMENT) -> str:
    """Its lines that are not of the configuration, as they stand there. Raises ConfigError as `read`."""
    return "".join(f"{line}\n" for name, _, line in variables.pairs(file) if not variables.is_key(name))
