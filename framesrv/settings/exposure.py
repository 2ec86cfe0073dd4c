"""Files with passwords in them that everybody on this host may read."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framesrv.masking import password_of
from framesrv.settings.sections import SECRETS, sentinel_passwords


def is_open(file: Path) -> bool:
    """Whether everybody may read a file: by its own mode, and those of all directories on the way to it."""
    try:
        place = file.resolve(strict=True)
        mode = place.stat().st_mode
        return stat.S_ISREG(mode) and bool(mode & 0o004) and all(one.stat().st_mode & 0o001 for one in place.parents)
    except OSError:
        return False


def has_passwords(tables: Mapping[str, Any]) -> bool:
    """Whether any of these keys, right or wrong, is a password, or a URL with one."""
    sections = {name: table for name, table in tables.items() if isinstance(table, dict)}
    if any(sections.get(name, {}).get(key) for name, keys in SECRETS.items() for key in keys):
        return True
    cameras = tables.get("camera")
    cameras = [one for one in cameras if isinstance(one, dict)] if isinstance(cameras, list) else []
    redis = str(sections.get("redis", {}).get("url", ""))
    urls = [redis, *(str(camera.get(key, "")) for camera in cameras for key in ("source", "substream"))]
    return any(camera.get("password") for camera in cameras) or any(
        password_of(url) or sentinel_passwords(url) for url in urls
    )
