"""The configuration: one TOML file, overridden by the environment, checked whole before anything starts.

Both command lines read it through `load`.
"""

from framesrv.settings.loading import find, load
from framesrv.settings.sections import (
    FIXED,
    SECTIONS,
    Camera,
    CameraDefaults,
    HttpSettings,
    RedisSettings,
    ResultSettings,
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
    "SECTIONS",
    "Camera",
    "CameraDefaults",
    "HttpSettings",
    "RedisSettings",
    "ResultSettings",
    "Section",
    "Settings",
    "ShmSettings",
    "SnapshotSettings",
    "StoreSettings",
    "StreamSettings",
    "find",
    "load",
    "to_json",
]
