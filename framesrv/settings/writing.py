"""A configuration as a file: JSON, which `load` tells from TOML by its first character; and as TOML for people."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from framesrv.settings.sections import SECTIONS, Section, Settings

REMARK = 36  # column where a remark begins, as in the template


def to_json(settings: Settings) -> bytes:
    """A file that `load` makes the same settings of. What is as it is by default is left out."""
    sections = {name: _said(getattr(settings, name)) for name in SECTIONS if name != "camera_defaults"}
    document: dict[str, Any] = {name: keys for name, keys in sections.items() if keys}
    document["camera"] = [_said(camera) for camera in settings.cameras]
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def camera_table(keys: Mapping[str, str | int], remarks: Mapping[str, str]) -> str:
    """A ``[[camera]]`` table of TOML, a line a key.

    Args:
        keys: and their values.
        remarks: what stands behind a key, by that key; behind the heading, by an empty one.
    """
    lines = ["[[camera]]", *(f"{key} = {_value(value)}" for key, value in keys.items())]
    behind = [remarks.get(key, "") for key in ("", *keys)]
    return "\n".join(
        f"{line:{REMARK}} # {remark}" if remark else line for line, remark in zip(lines, behind, strict=True)
    )


def _value(value: str | int) -> str:
    """As TOML has it; a text of it is one of JSON but for one character."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _said(section: Section) -> dict[str, Any]:
    values = {field.name: (getattr(section, field.name), field) for field in msgspec.structs.fields(section)}
    return {name: value for name, (value, field) in values.items() if value != _default(field)}


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
