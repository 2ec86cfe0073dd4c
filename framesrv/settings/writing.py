"""A configuration as a file: JSON, which `load` tells from TOML by its first character."""

from typing import Any

import msgspec

from framesrv.settings.sections import SECTIONS, Section, Settings


def to_json(settings: Settings) -> bytes:
    """A file that `load` makes the same settings of. What is as it is by default is left out."""
    sections = {name: _said(getattr(settings, name)) for name in SECTIONS if name != "camera_defaults"}
    document: dict[str, Any] = {name: keys for name, keys in sections.items() if keys}
    document["camera"] = [_said(camera) for camera in settings.cameras]
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"


def _said(section: Section) -> dict[str, Any]:
    values = {field.name: (getattr(section, field.name), field.default) for field in msgspec.structs.fields(section)}
    return {name: value for name, (value, default) in values.items() if value != default}
