"""The store's credentials, permanent or temporary.

They stand in the section ``[store]`` (or in the environment, which wins), and then change when the configuration is
loaded again. Or they stand in a file of their own, ``store.credentials_file``: TOML with `secret_id`, `secret_key`
and, for temporary ones, `token`. That file is read again by itself when it has changed, for whoever renews them.
"""

import logging
import os
import threading
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from framesrv import ConfigError
from framesrv.log import protect
from framesrv.settings import StoreSettings

logger = logging.getLogger(__name__)

LOOK = 1.0  # s between looks at the file
KEYS = ("secret_id", "secret_key", "token")

Version = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Who uploads; `token` is empty for permanent ones."""

    secret_id: str
    secret_key: str
    token: str = ""


class CredentialSource:
    """Gives the credentials in force; for several threads.

    Args:
        settings: the section ``[store]``.

    Raises:
        ConfigError: the file of credentials cannot be read, or lacks some.
    """

    def __init__(self, settings: StoreSettings) -> None:
        self._file = Path(settings.credentials_file) if settings.credentials_file else None
        self._lock = threading.Lock()
        self._look_at = 0.0
        self._problem = ""
        self._version = _version(self._file) if self._file else None
        own = Credentials(settings.secret_id, settings.secret_key, settings.token)
        self._current = _read(self._file) if self._file else own

    def current(self, *, now: bool = False) -> Credentials:
        """The credentials; after a change to a wrong file, those from before it.

        Args:
            now: looks at the file even if it did so within the last second.
        """
        if self._file and (now or time.monotonic() >= self._look_at) and self._lock.acquire(blocking=now):
            try:
                self._look(self._file)
            finally:
                self._lock.release()
        return self._current

    def _look(self, file: Path) -> None:
        self._look_at = time.monotonic() + LOOK
        version = _version(file)
        if version == self._version:
            return
        self._version = version
        try:
            found = _read(file)
        except ConfigError as error:
            problem = "; ".join(error.problems)
            if problem != self._problem:
                logger.error("Changed credentials cannot be read, the old ones stay reason=%r", problem)  # noqa: TRY400
            self._problem = problem
            return
        self._problem = ""
        if found != self._current:
            self._current = found
            logger.info("Credentials changed secret_id=%r temporary=%s", found.secret_id, bool(found.token))


def _version(file: Path) -> Version:
    """What changes when `file` does."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _read(file: Path) -> Credentials:
    """The credentials of a file. Its content is never in an error."""
    try:
        values = tomllib.loads(file.read_text("utf-8-sig"))
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: not UTF-8"]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([f'{file}: not TOML: expected secret_id = "..." and secret_key = "..."']) from error
    found = {key: values.get(key, "") for key in KEYS}
    problems = [f"{file}: {key}: expected a text" for key in KEYS if not isinstance(found[key], str)]
    problems += [f"{file}: {key}: expected a value" for key in KEYS[:2] if found[key] == ""]
    problems += [
        f"{file}: {key}: no such key; expected one of {', '.join(KEYS)}" for key in values if key not in KEYS
    ]
    if problems:
        raise ConfigError(problems)
    protect([found["secret_key"], found["token"]])
    return Credentials(**found)
