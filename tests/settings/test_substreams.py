"""Cameras with two streams, as the configuration has them: two codes, one user, and no password shown."""

from collections.abc import Callable
from pathlib import Path

from framesrv.host.units import applied
from framesrv.masking import mask
from framesrv.segment.owner import service_user
from framesrv.settings import Settings, exposure
from framesrv.settings.writing import to_json
from snapd.pages.channel import shown

LARGE, SMALL = "rtsp://192.0.2.1/1", "rtsp://192.0.2.1/2"
BOTH = f'[[camera]]\ncode = "cam"\nsource = "{LARGE}"\nsubstream = "{SMALL}"\n'


def test_each_stream_is_as_a_camera_of_its_own(load: Callable[..., Settings]) -> None:
    loaded = load(BOTH + 'decode = "demand"\nsubstream_decode = "fps:5"\ntimeout = 3.0\n')
    assert [(one.code, one.source, one.decode, one.timeout, one.substream) for one in loaded.streams] == [
        ("cam", LARGE, "demand", 3.0, ""),
        ("cam.sub", SMALL, "fps:5", 3.0, ""),
    ]
    assert loaded.policies == {"cam": "demand", "cam.sub": "fps:5"}
    assert [one.code for one in loaded.cameras] == ["cam"]
    assert loaded.stream_of("cam.sub") == loaded.streams[1]
    assert (loaded.camera("cam.sub"), loaded.stream_of("cam.sub.sub")) == (None, None)
    assert service_user("cam.sub") == service_user("cam")


def test_user_and_password_are_put_into_both(load: Callable[..., Settings]) -> None:
    camera = load(BOTH + 'user = "u"\npassword = "a@b"\n').cameras[0]
    assert (camera.source, camera.substream) == ("rtsp://u:a%40b@192.0.2.1/1", "rtsp://u:a%40b@192.0.2.1/2")
    own = load(BOTH.replace(SMALL, "rtsp://v:w@192.0.2.1/2") + 'user = "u"\npassword = "p"\n').cameras[0]
    assert (own.source, own.substream) == ("rtsp://u:p@192.0.2.1/1", "rtsp://v:w@192.0.2.1/2")


def test_password_of_a_substream_is_masked_and_told_to_nobody(load: Callable[..., Settings], tmp_path: Path) -> None:
    loaded = load(BOTH.replace(SMALL, "rtsp://u:s3cret9@192.0.2.1/2"))
    assert "s3cret9" not in mask("it said s3cret9")
    for copy in (applied.of_snapd(loaded), applied.of_readers(loaded), shown(loaded)):
        assert b"s3cret9" not in to_json(copy)
    assert list(applied.of_snapd(loaded).policies) == ["cam", "cam.sub"]
    assert b"s3cret9" in to_json(applied.of_camera(loaded, "cam"))
    assert applied.of_camera(loaded, "cam.sub") == applied.of_camera(loaded, "cam")
    assert exposure.has_passwords({"camera": [{"substream": "rtsp://u:s3cret9@192.0.2.1/2"}]})
    assert not exposure.has_passwords({"camera": [{"substream": SMALL}]})


def test_code_leaves_room_for_that_of_the_substream(problems: Callable[..., list[str]]) -> None:
    assert problems(BOTH.replace('"cam"', '"cam.sub"')) == [
        "camera[0].code: expected one that does not end in .sub, as those of substreams do (line 2, camera cam.sub)"
    ]
    long = "c" * 61
    assert problems(BOTH.replace('"cam"', f'"{long}"')) == [
        f"camera[0].code: expected at most 60 characters, as its substream is {long}.sub (line 2, camera {long})"
    ]
