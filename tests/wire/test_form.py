"""How a picture may be wanted: what is taken, what is refused, and where a part lies."""

import pytest

from snapd.wire.form import AS_IT_IS, Crop, Form
from snapd.wire.messages import word_of
from snapd.wire.request import Request, parse

FIELDS = {b"request_id": b"r1", b"camera_code": b"cam01", b"cos_path": b"a.jpg"}

WRONG = {
    "width": [
        "0",
        "-1",
        "16385",
        "1e3",
        "640.0",
        " 640",
        "640 ",
        "640\n",
        "六百",
        "٦٤٠",
        "nan",
        "1e400",
        "0x10",
        "+1",
    ],
    "quality": ["0", "101", "85.5", "high", "-85", "1" * 5000],
    "crop": [
        "1,2,3",
        "1,2,3,4,5",
        "0,0,0,10",
        "0,0,10,0",
        "0.0,0.0,0.0,0.5",
        "-1,0,10,10",
        "0.5,0,0.6,1.0",
        "0,0.1,0.5,1",
        "nan,0,1,1",
        "0,0,1e400,1.0",
        "inf,0,0.5,0.5",
        "0,0,1.5,0.5",
        "0,0,16385,1",
        "16384,0,1,1",
        "0;0;10;10",
        "0, 0, 10, 10",
        "0,0,10,10\n",
        "left,top,10,10",
        "0,0,٣,٣",
        "," * 4000,
        "0,0,99999999999999999999,1",
    ],
    "overlay": ["2", "true", "yes", "-0", "01"],
}


def request(**fields: str) -> Request:
    return parse("1-1", FIELDS | {name.encode(): value.encode() for name, value in fields.items()})


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_value_that_cannot_be_is_told_by_the_fields_name(name: str, value: str) -> None:
    found = request(**{name: value})
    assert (found.request_id, found.problem, found.form) == ("r1", f"{name} 不合法", AS_IT_IS)
    assert word_of(found.problem) == f"bad_{name}"


def test_bytes_that_are_no_text_are_a_wrong_value() -> None:
    assert parse("1-1", FIELDS | {b"width": b"\xff\xfe"}).problem == "width 不合法"


def test_form_is_what_the_fields_say_and_an_empty_one_says_nothing() -> None:
    assert request().form == request(width="", quality="", crop="", overlay="").form == AS_IT_IS
    found = request(width="640", quality="50", crop="10,20,300,200", overlay="1")
    assert found.problem == ""
    assert found.form == Form(640, 50, Crop.parse("10,20,300,200"), True)
    assert request(overlay="0").form.overlay is False


def test_other_trouble_is_told_first() -> None:
    assert parse("1-1", FIELDS | {b"cos_path": b"../a", b"width": b"x"}).problem == "cos_path 不合法"


@pytest.mark.parametrize(
    ("text", "rectangle"),
    [
        ("0,0,640,480", (0, 0, 640, 480)),
        ("639,479,1,1", (639, 479, 1, 1)),
        ("640,0,1,1", None),
        ("0,0,641,480", None),
        ("0,0,1,1", (0, 0, 1, 1)),
        ("0,0,1.0,1", (0, 0, 640, 480)),
        ("0.25,0.5,0.5,0.5", (160, 240, 320, 240)),
        (".5,.5,.5,.5", (320, 240, 320, 240)),
        ("0.7,0.1,0.3,0.9", (448, 48, 192, 432)),
        ("0.999999999,0.0,0.000000001,0.000000001", (639, 0, 1, 1)),
    ],
)
def test_part_lies_where_it_says(text: str, rectangle: tuple[int, int, int, int] | None) -> None:
    assert Crop.parse(text).within(640, 480) == rectangle


def test_thirds_fit_together() -> None:
    lefts = [
        Crop.parse(f"{left},0,{width},1")
        for left, width in (("0.0", "0.333"), ("0.333", "0.333"), ("0.666", "0.334"))
    ]
    found = [part.within(641, 480) for part in lefts]
    assert sum(one[2] for one in found if one) == 641
    assert [one[0] for one in found if one] == [0, found[0][2] if found[0] else 0, 427]
