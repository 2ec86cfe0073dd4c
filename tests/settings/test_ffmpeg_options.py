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


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("user_agent", '"x\\r\\nX-Secret-Value: 1"', "a text of at most 200 characters, in one line"),
        ("referer", '"secret-value\\u2028"', "a text of at most 200 characters, in one line"),
        ("rtmp_tcurl", f'"secret-value{"x" * 200}"', "a text of at most 200 characters, in one line"),
        ("rtmp_app", '""', "a text of at most 200 characters, in one line"),
        ("probesize", "31", "a whole number from 32 to 100000000"),
        ("probesize", "100000001", "a whole number from 32 to 100000000"),
        ("probesize", '"1e9"', "a whole number from 32 to 100000000"),
        ("probesize", "5000000.0", "a whole number from 32 to 100000000"),
        ("probesize", "inf", "a whole number from 32 to 100000000"),
        ("analyzeduration", "-1", "a whole number from 0 to 60000000"),
        ("fifo_size", f"{10**30}", "a whole number from 0 to 500000"),
        ("rtmp_listen", "2", "true or false"),
        ("reuse", '"yes"', "true or false"),
        ("fflags", '"+nobuffer:probesize=1"', "names of flags, as +nobuffer"),
        ("framerate", "nan", "pictures a second, as 15 or 30000/1001"),
        ("video_size", '"1280x720,"', "a size, as 1280x720"),
        ("input_format", '"../mjpeg"', "a word of letters, digits and _"),
        ("reconnect_on_http_error", '"all"', "statuses, as 4xx,503"),
    ],
)
def test_value_that_its_option_cannot_have_is_refused(
    problems: Callable[..., list[str]], name: str, value: str, words: str
) -> None:
    """A line break in one ended up in the headers of HTTP requests."""
    (line,) = problems(f"{CAMERA}ffmpeg_options = {{ {name} = {value} }}\n")
    assert line.startswith(f"camera[0].ffmpeg_options: {name}: expected {words}")
    assert "ecret-" not in line


def test_values_that_options_can_have_are_taken(load: Callable[..., Settings]) -> None:
    table = """{ probesize = "5000000", fflags = "+nobuffer+genpts", framerate = "30000/1001", reuse = 0,
        video_size = "hd720", user_agent = "Mozilla/5.0 (X11; é)", reconnect_on_http_error = "4xx,503",
        live_start_index = -3, rtmp_live = "live", max_delay = -1, sources = "192.0.2.1,192.0.2.2" }"""
    assert len(load(f"{CAMERA}ffmpeg_options = {' '.join(table.split())}\n").cameras[0].ffmpeg_options) == 11


def test_what_is_no_table_of_options_is_refused(problems: Callable[..., list[str]]) -> None:
    for value in ('"probesize"', "[1]", "{ probesize = [1] }"):
        (line,) = problems(f"{CAMERA}ffmpeg_options = {value}\n")
        assert "camera[0].ffmpeg_options: expected a table of FFmpeg's options" in line


def test_every_option_is_told_of() -> None:
    page = (Path(__file__).parents[2] / "docs/configuration.md").read_text("utf-8")
    assert [name for name in sorted(NAMES) if f"`{name}`" not in page] == []
