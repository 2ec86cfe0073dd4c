"""Options of FFmpeg's: those that lead nowhere else, and no others."""

from collections.abc import Callable
from pathlib import Path

import pytest

from framesrv import settings
from framesrv.settings import Settings
from framesrv.settings.ffmpeg_options import NAMES, as_texts

CAMERA = '[[camera]]\ncode = "cam"\nsource = "udp://127.0.0.1:1"\n'


def test_options_are_taken_and_written_again(load: Callable[..., Settings], tmp_path: Path) -> None:
    table = '{ fifo_size = 1000, user_agent = "x", framerate = 7.5, reuse = true }'
    loaded = load(f"{CAMERA}ffmpeg_options = {table}\n")
    options = loaded.cameras[0].ffmpeg_options
    assert as_texts(options) == {"fifo_size": "1000", "user_agent": "x", "framerate": "7.5", "reuse": "1"}
    copy = tmp_path / "copy.json"
    copy.write_bytes(settings.to_json(loaded))
    assert settings.load(copy, {}).cameras[0] == loaded.cameras[0]
    assert b"ffmpeg_options" not in settings.to_json(load(CAMERA))


def test_options_of_all_cameras_are_those_of_the_defaults(load: Callable[..., Settings]) -> None:
    loaded = load(f"[camera_defaults]\nffmpeg_options = {{ reuse = 1 }}\n{CAMERA}")
    assert loaded.cameras[0].ffmpeg_options == {"reuse": 1}


@pytest.mark.parametrize(
    "name",
    [
        *("protocol_whitelist", "protocol_blacklist", "format_whitelist", "max_pixels", "timeout", "rw_timeout"),
        *("tls_verify", "ca_file", "cert_file", "key_file", "http_proxy", "headers", "cookies", "listen"),
        *("allowed_extensions", "extension_picky", "rtmp_swfverify", "method", "post_data", "no such option"),
    ],
)
def test_option_that_may_break_out_is_refused(problems: Callable[..., list[str]], name: str) -> None:
    (line,) = problems(f'{CAMERA}ffmpeg_options = {{ "{name}" = "secret-value" }}\n')
    assert line.startswith(f"camera[0].ffmpeg_options: {name} may not be set; expected one of analyzeduration, ")
    assert "secret-value" not in line


def test_what_is_no_table_of_options_is_refused(problems: Callable[..., list[str]]) -> None:
    for value in ('"probesize"', "[1]", "{ probesize = [1] }"):
        (line,) = problems(f"{CAMERA}ffmpeg_options = {value}\n")
        assert "camera[0].ffmpeg_options: expected a table of FFmpeg's options" in line


def test_every_option_is_told_of() -> None:
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text("utf-8")
    assert [name for name in sorted(NAMES) if f"`{name}`" not in page] == []
