"""The store's credentials, permanent or temporary, read again when the file they come from changes.

They stand in the section ``[store]`` of the configuration (or in the environment, which then wins), or in a file of
their own that ``store.credentials_file`` names: TOML or ``KEY=VALUE`` lines with ``secret_id``, ``secret_key`` and,
for temporary ones, ``token``.
"""

import logging
import os
import threading
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framesrv import ConfigError
from framesrv.settings import Store as StoreSettings
from framesrv.settings import load

logger = logging.getLogger(__name__)

LOOK = 1.0  # s between looks at the files
KEYS = ("secret_id", "secret_key", "token")

Version = tuple[tuple[int, int, int] | None, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Who uploads; `token` is empty for permanent ones."""

    secret_id: str
    secret_key: str
    token: str = ""


class CredentialSource:
    """Gives the credentials in force; for several threads.

    Args:
        settings: the section ``[store]`` as it was read.
        file: the configuration file it was read from; None: it is not read again.

    Raises:
        ConfigError: the file of credentials cannot be read, or lacks some.
    """

    def __init__(self, settings: StoreSettings, file: Path | None = None) -> None:
        self._settings = settings
        self._file = file
        self._lock = threading.Lock()
        self._look_at = 0.0
        self._problem = ""
        self._version = self._stat()
        self._current = _credentials(settings)

    def current(self, *, now: bool = False) -> Credentials:
        """The credentials; after a change to a wrong file, those from before it.

        Args:
            now: looks at the files even if it did so within the last second.
        """
        if (now or time.monotonic() >= self._look_at) and self._lock.acquire(blocking=now):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._current

    def _look(self) -> None:
        self._look_at = time.monotonic() + LOOK
        version = self._stat()
        if version == self._version:
            return
        self._version = version
        try:
            settings = load(self._file).store if self._file else self._settings
            settings.check()
            found = _credentials(settings)
        except ConfigError as error:
            problem = "; ".join(error.problems)
            if problem != self._problem:
                logger.error("Changed credentials cannot be read, the old ones stay reason=%r", problem)  # noqa: TRY400
            self._problem = problem
            return
        self._problem = ""
        self._settings = settings
        if found != self._current:
            self._current = found
            logger.info("Credentials changed secret_id=%r temporary=%s", found.secret_id, bool(found.token))

    def _stat(self) -> Version:
        own = Path(self._settings.credentials_file) if self._settings.credentials_file else None
        return tuple(_version(file) for file in (self._file, own))


def _version(file: Path | None) -> tuple[int, int, int] | None:
    """What changes when `file` does."""
    if file is None:
        return None
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def _credentials(settings: StoreSettings) -> Credentials:
    found = {key: getattr(settings, key) for key in KEYS}
    if settings.credentials_file:
        found |= dict.fromkeys(KEYS, "") | _read(Path(settings.credentials_file))
        missing = [key for key in ("secret_id", "secret_key") if not found[key]]
        if missing:
            raise ConfigError([f"{settings.credentials_file}: {key}: expected a value" for key in missing])
    return Credentials(**found)


def _read(file: Path) -> dict[str, str]:
    """The credentials of a file. Its content is never in an error."""
    try:
        text = file.read_text("utf-8")
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: not UTF-8"]) from error
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        pairs = (line.partition("=") for line in text.splitlines() if line.strip() and line.strip()[0] != "#")
        values = {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}
    found = {key.lower(): value for key, value in values.items()}
    wrong = [key for key in KEYS if not isinstance(found.get(key, ""), str)]
    if wrong:
        raise ConfigError([f"{file}: {key}: expected a text" for key in wrong])
    return {key: found[key] for key in KEYS if key in found}
