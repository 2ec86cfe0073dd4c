"""Configurations of this room's tests."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from framesrv import ConfigError, settings
from framesrv.settings import Settings

CAMERA = '[[camera]]\ncode = "cam"\nsource = "test:320x240@5"\n'


def enterable(directory: Path) -> None:
    """Lets everybody enter a directory of pytest's."""
    for path in (directory, *directory.parents):
        if path.stat().st_uid == os.geteuid() and path.name.startswith(("pytest-", "popen-", directory.name)):
            path.chmod(0o755)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Settings]:
    """Loads a configuration of this text, and of these variables alone."""

    def from_text(text: str, **environment: str) -> Settings:
        file = tmp_path / "framesrv.toml"
        file.write_text(text, "utf-8")
        return settings.load(file, environment)

    return from_text


@pytest.fixture
def problems(load: Callable[..., Settings], tmp_path: Path) -> Callable[..., list[str]]:
    """The lines that a wrong configuration gives, without the file's name."""

    def of_text(text: str, **environment: str) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            load(text, **environment)
        assert str(caught.value).splitlines() == caught.value.problems
        return [line.removeprefix(f"{tmp_path}/framesrv.toml: ") for line in caught.value.problems]

    return of_text
