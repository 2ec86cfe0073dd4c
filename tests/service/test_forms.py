"""What a request may say of its picture, from the stream to the store."""

import io
import json
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import simplejpeg
from PIL import ExifTags, Image

from framesrv import FrameReader
from tests.support.edge import Edge, Running


@pytest.fixture
def running(edge: Edge) -> Iterator[Running]:
    edge.camera("cam01", 640, 480)
    with Running(edge.settings(result={"reason": True})) as service:
        yield service


def size(jpeg: bytes) -> tuple[int, int]:
    height, width = simplejpeg.decode_jpeg_header(jpeg)[:2]
    return width, height


def asked(edge: Edge, **fields: str) -> dict[str, Any]:
    """The result as it is on the wire."""
    sent = edge.fields(callback_url=None, **fields)
    edge.send(sent)
    edge.result_by_key(sent)
    found: dict[str, Any] = json.loads(edge.redis.get(f"snap:result:{sent['request_id']}"))  # type: ignore[arg-type]
    return found


def test_picture_is_as_the_request_wants_it_and_its_result_as_ever(edge: Edge, running: Running) -> None:
    for fields, expected in (
        ({}, (640, 480)),
        ({"width": "320"}, (320, 240)),
        ({"width": "9999", "quality": ""}, (640, 480)),
        ({"crop": "0.5,0.5,0.25,0.5"}, (160, 240)),
        ({"crop": "10,20,300,200", "width": "150", "quality": "30", "overlay": "1"}, (150, 100)),
    ):
        result = asked(edge, cos_path="a.jpg", **fields)
        assert set(result) == {"request_id", "camera_code", "status", "url"}
        assert result["status"] == "ok"
        assert size(edge.cos.objects["a.jpg"].body) == expected


def test_bad_values_are_answered_and_store_nothing(edge: Edge, running: Running) -> None:
    for fields, message, reason in (
        ({"width": "0"}, "width 不合法", "bad_width"),
        ({"quality": "1e400"}, "quality 不合法", "bad_quality"),
        ({"crop": "nan,0,1,1"}, "crop 不合法", "bad_crop"),
        ({"crop": "0,0,641,480"}, "crop 超出画面", "crop_outside"),
        ({"overlay": "yes"}, "overlay 不合法", "bad_overlay"),
    ):
        result = asked(edge, **fields)
        assert (result["status"], result["message"], result["reason"]) == ("error", message, reason)
    assert edge.cos.objects == {}
    assert asked(edge)["status"] == "ok"


def test_requests_of_one_form_share_a_picture_and_others_do_not(edge: Edge) -> None:
    edge.camera("cam01", 640, 480)
    edge.redis.xgroup_create("edge_snap_request", "edge_snap_group", "0", mkstream=True)
    wanted = [{"width": "320"}, {}, {"width": "320"}, {"width": "160"}, {}, {"width": "320"}]
    sent = [edge.fields(callback_url=None, cos_path=f"{number}.jpg", **one) for number, one in enumerate(wanted)]
    edge.send(*sent)
    with Running(edge.settings(snapshot={"workers": 8})) as running:
        assert {edge.result_by_key(fields).status for fields in sent} == {"ok"}
        assert running.encoder.count == 3
    widths = [size(edge.cos.objects[f"{number}.jpg"].body)[0] for number in range(6)]
    assert widths == [320, 640, 320, 160, 640, 320]


def test_object_and_picture_say_when_and_by_which_camera(edge: Edge, running: Running) -> None:
    """The store verifies the signature, which these headers are part of."""
    assert asked(edge, cos_path="a.jpg")["status"] == "ok"
    stored = edge.cos.objects["a.jpg"]
    with FrameReader("cam01", prefix=edge.prefix) as camera, camera.latest(max_age=None) as frame:
        captured_ns = frame.stamp.captured_ns
    assert stored.about == {"captured-at": f"{captured_ns / 1e9:.6f}", "camera": "cam01"}
    with Image.open(io.BytesIO(stored.body)) as picture:
        exif = picture.getexif()
    assert exif[ExifTags.Base.ImageDescription] == "cam01"
    taken = exif.get_ifd(ExifTags.IFD.Exif)
    assert taken[ExifTags.Base.SubsecTimeOriginal] == f"{captured_ns // 1000 % 1_000_000:06}"


def test_picture_says_nothing_of_itself_where_that_is_not_wanted(edge: Edge) -> None:
    edge.camera("cam01")
    with Running(edge.settings(snapshot={"exif": False})):
        assert edge.ask(cos_path="a.jpg").status == "ok"
    body = edge.cos.objects["a.jpg"].body
    assert b"Exif" not in body
    assert body[2:4] == b"\xff\xe0"


def test_overlay_is_the_requests_word_or_the_configurations(edge: Edge) -> None:
    edge.camera("cam01")
    for configured in (False, True):
        with Running(edge.settings(snapshot={"overlay": configured, "exif": False})):
            for number, field in enumerate(("", "1", "0")):
                assert edge.ask(cos_path=f"{configured}{number}.jpg", overlay=field).status == "ok"
    # Grey all over: whatever is drawn makes the picture larger.
    drawn = {key: len(stored.body) for key, stored in edge.cos.objects.items()}
    plain = drawn["False0.jpg"]
    assert [key for key, length in drawn.items() if length > plain] == ["False1.jpg", "True0.jpg", "True1.jpg"]
    assert drawn["False2.jpg"] == drawn["True2.jpg"] == plain


def test_overlay_without_its_library_is_answered(
    edge: Edge, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    from snapd.pictures import overlay

    overlay._font.cache_clear()
    result = asked(edge, overlay="1")
    assert (result["message"], result["reason"]) == ("overlay 不可用", "no_overlay")


def test_request_that_is_dated_ahead_gets_its_picture(edge: Edge, running: Running) -> None:
    """It was told that its moment is to come, where the clock of Redis was ahead of the host's."""
    fields = edge.fields(callback_url=None)
    edge.redis.xadd("edge_snap_request", fields, id=f"{int((time.time() + 3600) * 1000)}-0")
    assert edge.result_by_key(fields).status == "ok"
