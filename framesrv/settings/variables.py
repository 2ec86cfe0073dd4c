"""The environment file beside the configuration, ``framesrv.env``: keys of the configuration, and other variables."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from framesrv.errors import ConfigError

NAME = "framesrv.env"
PREFIX = "FRAMESRV_"


def read(file: Path) -> dict[str, str]:
    """The file as systemd reads it, without its rarest forms (continued lines, escapes); empty if there is none.

    Raises:
        ConfigError: it cannot be read, or a line is no pair.
    """
    return {name: value for name, value, _ in pairs(file)}


def is_key(name: str) -> bool:
    """Whether a variable is a key of the configuration: ``FRAMESRV_SECTION__KEY``."""
    return name.startswith(PREFIX) and "__" in name


def pairs(file: Path) -> Iterator[tuple[str, str, str]]:
    """Name, value and line of each variable. Raises ConfigError as `read`."""
    for number, line in enumerate(_text(file).splitlines(), 1):
        name, is_pair, value = line.strip().partition("=")
        if not name or name[0] in "#;":
            continue
        if not is_pair or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*\s*", name):  # as systemd, which knows no `export`
            raise ConfigError([f"{file}: line {number}: expected FRAMESRV_SECTION__KEY=value"])
        value = value.strip()
        try:
            value = shlex.split(value)[0] if value[:1] in ("'", '"') else value
        except ValueError as error:
            raise ConfigError([f"{file}: line {number}: expected a closing quotation mark"]) from error
        yield name.strip(), value, line


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError([f"{file}: cannot be read: {error.strerror}"]) from error
    except UnicodeDecodeError as error:
        raise ConfigError([f"{file}: not UTF-8"]) from error
