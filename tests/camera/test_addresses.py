"""Addresses as people write them: what FFmpeg is given, and what nobody is shown."""

import itertools
from urllib.parse import quote

import pytest

from framesrv.camera.sources import address as rtsp
from framesrv.camera.sources.ffmpeg.address import address_of
from framesrv.errors import SourceUsageError
from framesrv.masking import mask

MARKS = "#/?%@:"


@pytest.mark.parametrize(
    ("written", "given"),
    [
        ("RTSP://Host/X", "rtsp://Host/X"),
        ("rtsp://host:554/a?b=1@2", "rtsp://host:554/a?b=1@2"),
        ("rtsp://u:p@host/x", "rtsp://u:p@host/x"),
        ("rtsp://u:p%40ss@host/x", "rtsp://u:p%40ss@host/x"),
        ("rtsp://u:100%@host/x", "rtsp://u:100%25@host/x"),
        ("http://u:a/b?c#d@e:f@host/x?y=1", "http://u:a%2Fb%3Fc%23d%40e%3Af@host/x?y=1"),
        ("/recordings/a:b@c.mp4", "/recordings/a:b@c.mp4"),
        ("relative.mp4", "relative.mp4"),
    ],
)
def test_address_is_encoded_where_ffmpeg_needs_that(written: str, given: str) -> None:
    assert address_of(written) == given


@pytest.mark.parametrize("place", ["192.0.2.1", "192.0.2.1:554", "camera.example", "[2001:db8::1]:554"])
def test_password_that_a_camera_is_given_is_never_shown(place: str) -> None:
    """Whatever stands in it: both clients, and what masks, agree on where it ends."""
    for first, second in itertools.product(MARKS, repeat=2):
        for password in (f"se{first}cr{second}et", f"12{first}34{second}56"):
            for path in ("/", "/a?b=1&c=2"):
                url = f"rtsp://admin:{password}@{place}{path}"
                assert password not in mask(url), url
                try:
                    found = rtsp.address_of(url).password
                except SourceUsageError:
                    continue
                assert not found or found not in mask(url).replace("***", ""), url
                if found == password and not password[:2].isdigit():
                    assert address_of(url) == f"rtsp://admin:{quote(password, safe='')}@{place}{path}"
