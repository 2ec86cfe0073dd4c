"""User and password of a camera as keys of their own: put into its source, and never shown."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from framesrv import masking
from framesrv.settings import Settings
from snapd.pages import channel as pages
from snapd.processes import channel as processes
from tests.settings.conftest import CAMERA, enterable

RTSP = '[[camera]]\ncode = "cam"\nsource = "rtsp://192.0.2.1:554/a?b=c"\n'


def source(loaded: Settings) -> str:
    return loaded.cameras[0].source


def test_they_are_put_into_the_source_encoded(load: Callable[..., Settings]) -> None:
    loaded = load(RTSP + 'user = "a@b"\npassword = "#/?%@:摄 x"\n')
    assert source(loaded) == "rtsp://a%40b:%23%2F%3F%25%40%3A%E6%91%84%20x@192.0.2.1:554/a?b=c"
    assert (loaded.cameras[0].user, loaded.cameras[0].password) == ("", "")
    assert source(load(RTSP + 'user = "admin"\n')) == "rtsp://admin:@192.0.2.1:554/a?b=c"
    assert source(load(RTSP)) == "rtsp://192.0.2.1:554/a?b=c"
    at = RTSP.replace("/a?b=c", "/live@1")
    assert source(load(at + 'user = "u"\npassword = "p"\n')) == "rtsp://u:p@192.0.2.1:554/live@1"


def test_those_of_all_cameras_stand_back_where_a_source_has_its_own(load: Callable[..., Settings]) -> None:
    defaults = '[camera_defaults]\nuser = "all"\npassword = "one"\n'
    other = (
        '[[camera]]\ncode = "o"\nsource = "rtsp://u:p@192.0.2.2/"\n[[camera]]\ncode = "t"\nsource = "test:64x48@1"\n'
    )
    loaded = load(defaults + RTSP + other)
    assert [one.source for one in loaded.cameras] == [
        "rtsp://all:one@192.0.2.1:554/a?b=c",
        "rtsp://u:p@192.0.2.2/",
        "test:64x48@1",
    ]
    assert source(load(defaults + RTSP + 'password = "two"\n')).startswith("rtsp://all:two@")


def test_password_of_all_cameras_comes_from_the_environment(load: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "framesrv.env").write_text("FRAMESRV_CAMERA_DEFAULTS__PASSWORD='s3cr#t'\n")
    assert source(load(RTSP, FRAMESRV_CAMERA_DEFAULTS__USER="me")).startswith("rtsp://me:s3cr%23t@")


def test_password_is_the_first_line_of_its_file(load: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "hall").write_text("p@ss\n")
    text = RTSP + 'user = "u"\npassword_file = '
    assert source(load(text + '"hall"\n')).startswith("rtsp://u:p%40ss@")
    assert source(load(text + f'"{tmp_path}/hall"\n')).startswith("rtsp://u:p%40ss@")
    assert source(load('[camera_defaults]\npassword = "other"\n' + text + '"hall"\n')).startswith("rtsp://u:p%40ss@")
    assert load(text + '"absent"\nenabled = false\n').disabled == ("cam",)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (RTSP + "password = 'hunter2'\n", "camera[0].user: expected a value, as there is a password"),
        (RTSP + "user = 'a:b'\n", "camera[0].user: expected one without a colon (line 4"),
        (
            RTSP + "user = 'u'\npassword = 'hunter2'\npassword_file = 'x'\n",
            "camera[0].password_file: expected this or password, not both (line 6",
        ),
        (
            RTSP + "user = 'u'\npassword_file = 'absent'\n",
            "camera[0].password_file: expected a file that can be read, absent: No such file or directory (line 5",
        ),
        (
            RTSP + "user = 'u'\npassword_file = 'empty'\n",
            "camera[0].password_file: expected a file that can be read, empty: it is empty (line 5",
        ),
        (
            RTSP.replace("//", "//u:hunter2@") + "user = 'u'\n",
            "camera[0].user: expected it here or in source, not in both (line 4",
        ),
        (
            CAMERA + "password = 'hunter2'\n",
            "camera[0].password: expected another way: this source is no URL (line 4",
        ),
    ],
)
def test_what_cannot_be_is_one_line(problems: Callable[..., list[str]], tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "empty").write_text("\n")
    (found,) = problems(text)
    assert found.startswith(line)
    assert "hunter2" not in found


def test_they_are_masked_as_written_and_encoded(load: Callable[..., Settings]) -> None:
    loaded = load(RTSP + 'user = "u"\npassword = "hun/ter@2"\n')
    for text in (source(loaded), "hun/ter@2", "hun%2Fter%402"):
        assert "hun" not in masking.mask(f"tried {text} in vain")
    assert "hun" not in repr(loaded)


@pytest.fixture
def open_to_all(tmp_path: Path) -> Path:
    """A directory that everybody may enter, up to the root."""
    enterable(tmp_path)
    return tmp_path


def test_files_with_passwords_that_everybody_may_read_are_named(
    load: Callable[..., Settings], open_to_all: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """There were no pages where such a file was named: its path could not be sent to their process."""
    files = {
        "framesrv.env": "FRAMESRV_STORE__SECRET_KEY=hunter2\n",
        "conf.d/a.toml": '[[camera]]\ncode = "a"\nsource = "rtsp://u:hunter2@192.0.2.2/"\n',
        "conf.d/b.toml": "[snapshot]\nquality = 70\n",
        "password": "hunter2",
    }
    (open_to_all / "conf.d").mkdir(mode=0o755)
    for name, text in files.items():
        (open_to_all / name).write_text(text)
        (open_to_all / name).chmod(0o644)
    text = '[http]\ntoken = "hunter2-hunter2-hunter2"\n' + RTSP + 'user = "u"\npassword_file = "password"\n'
    names = ["framesrv.toml", "conf.d/a.toml", "framesrv.env", "password"]
    assert load(text).exposed == tuple(open_to_all / name for name in names)
    assert [record.getMessage() for record in caplog.records] == [
        f"Everybody on this host can read the passwords in {open_to_all / name}: chmod o-r {open_to_all / name}"
        for name in names
    ]
    assert caplog.records[0].levelno == logging.WARNING
    _told_to_the_other_processes(load(text))
    for name in names:
        (open_to_all / name).chmod(0o640)
    assert load(text).exposed == ()
    (open_to_all / "framesrv.toml").chmod(0o644)
    assert load(CAMERA).exposed == ()
    open_to_all.chmod(0o750)
    assert load(text).exposed == ()


def _told_to_the_other_processes(settings: Settings) -> None:
    """As JSON, to that of the pages and to those that answer requests; none of them reads the files."""
    to_pages = pages.NewConfiguration(pages.shown(settings))
    assert pages.to_pages.decode(pages.line(to_pages)) == to_pages
    to_process = processes.NewConfiguration(processes.own(settings, 1))
    assert processes.to_process.decode(processes.line(to_process)) == to_process
