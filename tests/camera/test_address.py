"""Addresses of RTSP cameras as people write them."""

import pytest

from framesrv.camera.sources.address import WEB, address_of
from framesrv.errors import SourceUsageError


@pytest.mark.parametrize(
    ("source", "url", "host", "port"),
    [
        ("rtsp://cam/live", "rtsp://cam/live", "cam", 554),
        ("RTSP://Cam:8554/Live", "rtsp://Cam:8554/Live", "Cam", 8554),
        ("rtsps://cam", "rtsps://cam", "cam", 322),
        ("rtsp://[2001:db8::1]:8554/a?b=c", "rtsp://[2001:db8::1]:8554/a?b=c", "2001:db8::1", 8554),
        ("rtsp://[fe80::1%eth0]/a", "rtsp://[fe80::1%eth0]/a", "fe80::1%eth0", 554),
        ("rtsp://cam/a b/通道", "rtsp://cam/a%20b/%E9%80%9A%E9%81%93", "cam", 554),
        ("rtsp://cam:554/path@1", "rtsp://cam:554/path@1", "cam", 554),
        ("rtsp://cam/at?who=me@here", "rtsp://cam/at?who=me@here", "cam", 554),
    ],
)
def test_address_without_a_user_is_taken_as_it_is(source: str, url: str, host: str, port: int) -> None:
    address = address_of(source)
    assert (address.url, address.host, address.port) == (url, host, port)
    assert (address.user, address.password) == ("", "")


@pytest.mark.parametrize(
    ("written", "password"),
    [
        ("secret", "secret"),
        ("", ""),
        ("a%40b%23c%2Fd", "a@b#c/d"),
        ("a@b", "a@b"),
        ("a@b@c", "a@b@c"),
        ("a#b", "a#b"),
        ("a/b", "a/b"),
        ("a?b", "a?b"),
        ("a:b:c", "a:b:c"),
        ("100%", "100%"),
        ("50%off", "50%off"),
        ("p/@ss#?:%", "p/@ss#?:%"),
        ("密码", "密码"),
        ("a+b", "a+b"),
        ("a/@b/c", "a/@b/c"),
    ],
)
def test_password_is_what_the_camera_means_raw_or_encoded(written: str, password: str) -> None:
    address = address_of(f"rtsp://ad%6Din:{written}@192.0.2.1:8554/live?x=1")
    assert (address.user, address.password) == ("admin", password)
    assert address.url == "rtsp://192.0.2.1:8554/live?x=1"
    assert (address.host, address.port) == ("192.0.2.1", 8554)


def test_user_and_password_of_their_own_go_before_those_of_the_address() -> None:
    address = address_of("rtsp://old:one@cam/live", "new", "p%41@/")
    assert (address.user, address.password, address.url) == ("new", "p%41@/", "rtsp://cam/live")


@pytest.mark.parametrize("source", ["rtsp://u:a/b", "rtsp://cam:99999/x", "rtsp:///x", "rtsp://[::1/x", "rtsp:cam"])
def test_address_that_cannot_be_taken_apart_is_refused_in_one_sentence(source: str) -> None:
    with pytest.raises(SourceUsageError, match="cannot be opened: ") as caught:
        address_of(source)
    assert "a/b" not in str(caught.value)


def test_address_has_one_of_the_schemes_that_it_may_have() -> None:
    address = address_of("HTTPS://admin:p@ss@192.0.2.1/snap.jpg?channel=1", schemes=WEB)
    assert (address.scheme, address.port, address.secure, address.password) == ("https", 443, True, "p@ss")
    assert address.url == "https://192.0.2.1/snap.jpg?channel=1"
    for source in ("file:///etc/passwd", "/etc/passwd", "rtsp://192.0.2.1/live"):
        with pytest.raises(SourceUsageError, match="no http:// or https:// URL"):
            address_of(source, schemes=WEB)
