"""A camera's user and password as keys of their own, or in a file: put into the URL of its source, encoded.

So they may be written as they are, and whoever opens or masks a source knows of the URL alone.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from framesrv.masking import password_of, user_info

KEYS = ("user", "password", "password_file")

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def fill(values: dict[str, Any], own: Mapping[str, object], directory: Path) -> str:
    """Takes user and password of a camera out of `values`, and puts them into its source.

    What its table does not say is that of all cameras, and stands back where the source has a user, or is no URL.

    Args:
        values: of the camera's keys, with the defaults.
        own: its table.
        directory: that of the configuration, from which a relative path leads.

    Returns:
        The key that is wrong, and what is expected; empty if nothing is wrong.
    """
    user, password, file = (str(values.pop(key, "")) for key in KEYS)
    given = [key for key in KEYS if own.get(key)]
    source = values["source"]
    url = _URL.match(source)
    if url is None or _has_user(source):
        other = "another way: this source is no URL" if url is None else "it here or in source, not in both"
        return f"{given[0]}: expected {other}" if given else ""
    if "password" in given and "password_file" in given:
        return "password_file: expected this or password, not both"
    if "password" in given:
        file = ""
    if not user:
        return "user: expected a value, as there is a password" if password or file else ""
    if ":" in user:
        return "user: expected one without a colon"
    if file:
        try:
            password = read(directory / file)
        except (OSError, ValueError) as error:
            return f"password_file: expected a file that can be read, {file}: {_why(error)}"
    for key in ("source", "substream"):
        place = values.get(key, "")
        if (url := _URL.match(place)) and not _has_user(place):
            # the colon also where there is no password: without it FFmpeg tells nobody's name
            values[key] = f"{url[0]}{quote(user, safe='')}:{quote(password, safe='')}@{place[url.end() :]}"
    return ""


def parted(source: str) -> tuple[str, str]:
    """A source without user and password, and the user, as `fill` takes them; an empty user where it has none."""
    url = _URL.match(source)
    said = user_info(source) or source.partition("://")[2].partition("@")[0] if url and _has_user(source) else ""
    if url is None or not said:
        return source, ""
    return url[0] + source[url.end() :].removeprefix(f"{said}@"), unquote(said.partition(":")[0])


def read(file: Path) -> str:
    """The password in a file, its first line. Raises OSError or ValueError: it cannot be read, or is empty."""
    lines = file.read_text("utf-8-sig").splitlines()
    if not lines or not lines[0]:
        raise ValueError("it is empty")
    return lines[0]


def _has_user(source: str) -> bool:
    authority = re.split(r"[/?#]", source.partition("://")[2], maxsplit=1)[0]
    return "@" in authority or bool(password_of(source))


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return str(error.strerror) if isinstance(error, OSError) else str(error)
