"""What is known of a host's cameras, whatever its configuration says just now: for ``ls``, ``top`` and ``status``.

Where systemd runs them, the file that people edit may be wrong, or not for everybody to read, while all is well.
"""

from pathlib import Path

from framesrv import settings
from framesrv.errors import ConfigError
from framesrv.host.units import CONFIG, applied, configuration, environment
from framesrv.settings import Settings

SEGMENTS = "shown is what is in shared memory"
EDITED = f"{CONFIG} or a file beside it is edited, not applied: framesrv units sync"


def known(config: Path | None) -> tuple[Settings, str]:
    """The configuration, and a sentence about it where that is not what the units run with.

    Raises:
        ConfigError: it is wrong, and it is not that of the units, or nothing was applied yet.
    """
    path = settings.find(config)
    if path != CONFIG or not applied.exists():
        loaded, hidden = settings.load_as_reader(config)
        return loaded, f"{hidden}; {SEGMENTS}" if hidden else ""
    try:
        loaded = configuration.load()
    except ConfigError as error:
        return _last(error)
    try:
        return loaded, "" if applied.is_all(loaded, environment.others()) else EDITED
    except OSError as error:
        return loaded, f"{error.filename}, what was applied last, cannot be read: {error.strerror}"


def _last(wrong: ConfigError) -> tuple[Settings, str]:
    more = f" (and {len(wrong.problems) - 1} more)" if len(wrong.problems) > 1 else ""
    said = f"{wrong.problems[0]}{more}"
    try:
        return applied.last(), f"{said}; shown is what was applied last"
    except ConfigError as error:  # as for a reader of frames, who may read neither
        return settings.load_public(), f"{said}; {error.problems[0]}; {SEGMENTS}"
