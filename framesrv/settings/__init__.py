"""The configuration: one TOML file, overridden by the environment, checked whole before anything starts.

Both command lines read it through `load`.
"""

from framesrv.settings.loading import READERS, find, load, load_as_reader, load_public
from framesrv.settings.sections import (
    FIXED,
    NOBODY,
    OWN_GROUP,
    SECTIONS,
    Camera,
    CameraDefaults,
    HttpSettings,
    RedisSettings,
    ResultSettings,
    RouteSettings,
    Section,
    Settings,
    ShmSettings,
    SnapshotSettings,
    StoreSettings,
    StreamSettings,
)
from framesrv.settings.writing import to_json

__all__ = [
    "FIXED",
    "NOBODY",
    "OWN_GROUP",
    "READERS",
    "SECTIONS",
    "Camera",
    "CameraDefaults",
    "HttpSettings",
    "RedisSettings",
    "ResultSettings",
    "RouteSettings",
    "Section",
    "Settings",
    "ShmSettings",
    "SnapshotSettings",
    "StoreSettings",
    "StreamSettings",
    "find",
    "load",
    "load_as_reader",
    "load_public",
    "to_json",
]
