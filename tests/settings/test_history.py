"""How much of the past a camera keeps, as the configuration has it."""

from collections.abc import Callable

import pytest

from framesrv.errors import ConfigError
from framesrv.settings import Settings

CAMERA = '[[camera]]\ncode = "cam"\nsource = "rtsp://192.0.2.1/1"\nsubstream = "rtsp://192.0.2.1/2"\n'


def test_a_camera_keeps_none_unless_it_is_told(load: Callable[..., Settings]) -> None:
    (camera,) = load(CAMERA).cameras
    assert (camera.history, camera.history_room) == (0.0, 0)


@pytest.mark.parametrize(
    ("keys", "room"), [("history = 10.0\n", 14_000_000), ("history = 1\nhistory_bytes = 300000\n", 300_000)]
)
def test_its_bytes_are_those_told_or_go_by_its_seconds(keys: str, room: int, load: Callable[..., Settings]) -> None:
    first, second = load(CAMERA + keys).streams
    assert first.history_room == room
    assert second.history_room == 0  # a second stream keeps none


@pytest.mark.parametrize(
    "line",
    ["history = -1.0", "history = 301.0", "history_bytes = 1000", "history_bytes = 600000000", 'history_bytes = "x"'],
)
def test_what_is_out_of_range_is_refused_by_name(line: str, load: Callable[..., Settings]) -> None:
    with pytest.raises(ConfigError, match=line.partition(" ")[0]):
        load(CAMERA + line + "\n")


def test_defaults_may_come_from_the_environment(load: Callable[..., Settings]) -> None:
    given = {"FRAMESRV_CAMERA_DEFAULTS__HISTORY": "5", "FRAMESRV_CAMERA_DEFAULTS__HISTORY_BYTES": "1000000"}
    (camera,) = load(CAMERA, **given).cameras
    assert (camera.history, camera.history_room) == (5.0, 1_000_000)
