"""How user and password are told to a camera; the figures are those of the RFCs' own examples."""

import re

import pytest

from framesrv.camera.sources.authentication import TRIES, Authentication, challenges

# RFC 7616, 3.9.1
NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
OPAQUE = "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
OFFER = f'Digest realm="http-auth@example.org", qop="auth, auth-int", nonce="{NONCE}", opaque="{OPAQUE}"'


def part(header: str, name: str) -> str:
    match = re.search(rf'\b{name}="?([^",]*)', header)
    assert match is not None, header
    return match[1]


def answered(offers: list[str], user: str = "Mufasa", password: str = "Circle of Life") -> str:  # noqa: S107
    one = Authentication(user, password)
    assert one.challenged(offers)
    return one.header("GET", "/dir/index.html")


@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("md5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_digest_is_that_of_the_rfc(monkeypatch: pytest.MonkeyPatch, algorithm: str, digest: str) -> None:
    nonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
    monkeypatch.setattr("framesrv.camera.sources.authentication._nonce", lambda: nonce)
    header = answered([f"{OFFER}, algorithm={algorithm}"])
    assert part(header, "response") == digest
    assert part(header, "algorithm") == algorithm, "as the camera writes it"
    assert (part(header, "nc"), part(header, "qop"), part(header, "opaque")) == ("00000001", "auth", OPAQUE)


def test_digest_without_qop_is_that_of_rfc_2069() -> None:
    header = answered(
        ['Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'], password="CircleOfLife"
    )
    assert part(header, "response") == "1949323746fe6a43ef61f9606e7febea"
    assert "qop" not in header
    assert "algorithm" not in header


@pytest.mark.parametrize("algorithm", ["MD5-sess", "SHA-256-sess", "SHA-512-256", "SHA256"])
def test_other_algorithms_are_known(algorithm: str) -> None:
    header = answered([f'Digest realm="r", nonce="n", qop="auth", algorithm={algorithm}'])
    assert len(part(header, "response")) == (32 if "MD5" in algorithm else 64)


def test_basic_is_that_of_the_rfc() -> None:
    assert answered(['Basic realm="WallyWorld"'], "Aladdin", "open sesame") == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="


def test_strongest_of_several_is_taken_in_one_header_or_in_many() -> None:
    offers = ['Basic realm="r"', 'Digest realm="r", nonce="1"', 'Digest realm="r", nonce="2", algorithm="SHA-256"']
    for headers in (offers, offers[::-1], [", ".join(offers)]):
        assert part(answered(headers), "nonce") == "2"
    assert [one.name for one in challenges([", ".join(offers)])] == ["Basic", "Digest", "Digest SHA-256"]


def test_weaker_way_is_tried_when_a_stronger_one_fails_and_then_no_other() -> None:
    offers = [f'Digest realm="r", nonce="n", algorithm={name}' for name in ("MD5", "SHA-256", "SHA-512-256")]
    one = Authentication("u", "p")
    tried = []
    while one.challenged(offers):
        tried.append(part(one.header("DESCRIBE", "rtsp://h/"), "algorithm"))
    assert tried == ["SHA-512-256", "SHA-256"]
    assert len(tried) == TRIES
    assert one.refusal()[0] == "unauthorized"
    assert "refuses the user or the password" in one.refusal()[1]


def test_nonce_that_is_too_old_is_no_wrong_password() -> None:
    one = Authentication("u", "p")
    assert one.challenged(['Digest realm="r", nonce="1"'])
    one.header("DESCRIBE", "rtsp://h/")
    one.accepted()
    assert one.challenged(['Digest realm="r", nonce="2"'])
    assert part(one.header("SETUP", "rtsp://h/"), "nonce") == "2"
    assert one.challenged(['Digest realm="r", nonce="3", stale=TRUE'])
    assert not one.challenged(['Digest realm="r", nonce="4"']), "which was not accepted before"


def test_nonce_is_counted() -> None:
    one = Authentication("u", "p")
    assert one.challenged(['Digest realm="r", nonce="1", qop="auth"'])
    assert [part(one.header("OPTIONS", "rtsp://h/"), "nc") for _ in range(2)] == ["00000001", "00000002"]


@pytest.mark.parametrize("offer", ['Digest realm="r", nonce="n", algorithm=SHA-3', "Negotiate", "Bearer realm=x"])
def test_password_is_not_blamed_for_what_we_do_not_know(offer: str) -> None:
    one = Authentication("u", "p")
    assert not one.challenged([offer])
    cause, words = one.refusal()
    assert cause == "protocol"
    assert offer.partition(" ")[0] in words
    assert "password" not in words


def test_want_of_a_user_is_said() -> None:
    one = Authentication("", "")
    assert not one.challenged(['Basic realm="r"'])
    assert one.refusal() == (
        "unauthorized",
        "the camera asks for a user and a password (401 Unauthorized), and its source has none",
    )


def test_quotes_in_names_do_not_end_them() -> None:
    header = answered([r'Digest realm="a \"b\" c", nonce="n"'], user='x"y')
    assert r'username="x\"y"' in header
    assert r'realm="a \"b\" c"' in header
