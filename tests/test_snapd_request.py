"""What a request may say, and the wire form of a result."""

import json
from pathlib import Path

import pytest
import simplejpeg

from snapd.capture import Captures
from snapd.directory import DirectoryStore
from snapd.encoder import Encoder
from snapd.errors import EncoderError, StoreError
from snapd.request import is_path, parse
from snapd.result import Result

FIELDS = {b"request_id": b"r1", b"camera_code": b"cam01", b"cos_path": b"/a/b.jpg"}


def test_request_is_its_fields_and_unknown_ones_are_ignored() -> None:
    request = parse("1700000000123-4", FIELDS | {b"callback_url": b"http://h", b"extra": b"\xff"})
    assert (request.request_id, request.camera_code, request.cos_path) == ("r1", "cam01", "a/b.jpg")
    assert (request.callback_url, request.problem, request.sent_at) == ("http://h", "", 1700000000.123)


def test_everything_wrong_at_once_is_still_a_request() -> None:
    request = parse("1-1", {b"request_id": b"\xff", b"camera_code": b"\xff", b"cos_path": b"\xff"})
    assert (request.request_id, request.problem) == ("", "请求字段编码错误")


@pytest.mark.parametrize("path", ["a", "a/b.jpg", "快照/一.jpg", "a b", "...", ".a/b.", "x" * 850])
def test_paths_that_stay_below(path: str) -> None:
    assert is_path(path)


@pytest.mark.parametrize(
    "path",
    ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/./b", "a\\b", "a\0b", "a\x7f", "a\u0085", "x" * 851],
)
def test_paths_that_climb_or_are_odd(path: str) -> None:
    assert not is_path(path)


def test_result_has_its_four_fields_and_no_other() -> None:
    ok = Result.ok("r1", "cam01", "https://x/y?a=1&b=2")
    assert json.loads(ok.to_json()) == {
        "request_id": "r1",
        "camera_code": "cam01",
        "status": "ok",
        "url": "https://x/y?a=1&b=2",
    }
    error = Result.error("r1", "cam01", "COS 上传失败")
    assert json.loads(error.to_json()) == {
        "request_id": "r1",
        "camera_code": "cam01",
        "status": "error",
        "message": "COS 上传失败",
    }
    assert [Result.parse(one.to_json()) for one in (ok, error)] == [ok, error]
    assert "上传失败".encode() in error.to_json()


def test_capture_that_has_begun_is_not_joined() -> None:
    captures = Captures(Encoder(), prefix="nosuch", max_age=1, wait=0)
    first = captures.join("cam01")
    assert captures.join("cam01") is first
    assert captures.join("cam02") is not first
    captures.close_to_others(first)
    second = captures.join("cam01")
    assert second is not first
    captures.close_to_others(first)
    assert captures.join("cam01") is second


def test_encoder_that_is_not_here_is_named() -> None:
    try:
        import turbojpeg

        turbojpeg.TurboJPEG()
    except (ImportError, RuntimeError, OSError):
        with pytest.raises(EncoderError, match="turbojpeg"):
            Encoder("turbojpeg")
    else:
        import numpy as np

        jpeg = Encoder("turbojpeg")._encode(np.zeros((48, 64, 3), np.uint8), 85)
        assert simplejpeg.decode_jpeg_header(jpeg)[:4] == (48, 64, "YCbCr", "420")


def test_directory_store_writes_below_its_path_and_gives_urls(tmp_path: Path) -> None:
    store = DirectoryStore(str(tmp_path / "new"), "http://host/base/")
    assert store.put("a b/摄+?.jpg", b"1") == "http://host/base/a%20b/%E6%91%84%2B%3F.jpg"
    assert (tmp_path / "new/a b/摄+?.jpg").read_bytes() == b"1"
    store.put("a b/摄+?.jpg", b"2")
    assert [file.read_bytes() for file in (tmp_path / "new").rglob("*") if file.is_file()] == [b"2"]
    url = DirectoryStore(str(tmp_path / "new")).put("c.jpg", b"3")
    assert url == (tmp_path / "new/c.jpg").as_uri()


def test_directory_store_cannot_be_left_by_links_or_names(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "kept").write_bytes(b"kept")
    (root / "link").symlink_to(outside)
    (root / "file.jpg").symlink_to(outside / "kept")
    (root / "plain").write_bytes(b"")
    (root / "dir").mkdir()
    store = DirectoryStore(str(root))
    for key in ("link/a.jpg", "link/sub/a.jpg", "../outside/a.jpg", "/etc/a", "plain/a.jpg", "dir", "x" * 300):
        with pytest.raises(StoreError):
            store.put(key, b"jpeg")
    store.put("file.jpg", b"jpeg")  # replaces the link, not what it points to
    assert [file.name for file in outside.iterdir()] == ["kept"]
    assert (outside / "kept").read_bytes() == b"kept"
    assert (root / "file.jpg").read_bytes() == b"jpeg"
    assert sorted(file.name for file in root.iterdir()) == ["dir", "file.jpg", "link", "plain"]
