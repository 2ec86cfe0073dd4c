"""What a request may say, and the wire form of a result."""

import json

import pytest

from snapd.wire.request import is_path, parse
from snapd.wire.result import Result

FIELDS = {b"request_id": b"r1", b"camera_code": b"cam01", b"cos_path": b"/a/b.jpg"}


def test_request_is_its_fields_and_unknown_ones_are_ignored() -> None:
    request = parse("1700000000123-4", FIELDS | {b"callback_url": b"http://h", b"extra": b"\xff"})
    assert (request.request_id, request.camera_code, request.cos_path) == ("r1", "cam01", "a/b.jpg")
    assert (request.callback_url, request.problem, request.sent_at) == ("http://h", "", 1700000000.123)


def test_everything_wrong_at_once_is_still_a_request() -> None:
    request = parse("1-1", {b"request_id": b"\xff", b"camera_code": b"\xff", b"cos_path": b"\xff"})
    assert (request.request_id, request.problem) == ("", "请求字段编码错误")


@pytest.mark.parametrize(
    "path", ["a", "a/b.jpg", "快照/一.jpg", "a b", "...", ".a/b.", "é", "x" * 850, "快" * 283, "📷"]
)
def test_paths_that_stay_below(path: str) -> None:
    assert is_path(path)


ODD_PATHS = {
    "climbing": ["", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/./b"],
    "controls": ["a\\b", "a\0b", "a\x7f", "a\u0085", "a\n"],
    "invisible": ["a\u200b", "a\u202eb", "a\ufeff", "a\u2028b", "a\u2029b", "a\u00ad"],
    "no characters": ["a\ufdd0", "a\uffff", "a\U0001fffe", "a\ud800"],
    "long": ["x" * 851, "快" * 284],
    "not NFC": ["e\u0301", "\u212b", "\u1100\u1161"],
}


@pytest.mark.parametrize("path", [path for paths in ODD_PATHS.values() for path in paths])
def test_paths_that_climb_or_are_odd(path: str) -> None:
    assert not is_path(path)


@pytest.mark.parametrize("request_id", ["r1", "a b", "请求-1", "../x", "*", "x" * 128, "汉" * 128])
def test_printable_ids_are_kept(request_id: str) -> None:
    request = parse("1-1", FIELDS | {b"request_id": request_id.encode()})
    assert (request.request_id, request.problem) == (request_id, "")


@pytest.mark.parametrize(
    "request_id", ["x" * 129, "a\nb", "a\0", "\x1b[2J", "a\u200b", "a\u202e", "\u2028", "\ufeff"]
)
def test_ids_that_are_no_key_are_none_and_the_problem_says_so(request_id: str) -> None:
    request = parse("1-1", FIELDS | {b"request_id": request_id.encode()})
    assert (request.request_id, request.problem) == ("", "request_id 不合法")


def test_missing_id_is_told_from_an_odd_one() -> None:
    assert parse("1-1", {}).problem == "请求字段不完整"


@pytest.mark.parametrize("prefix", ["snap", "snap/", "/snap", "/snap/"])
def test_prefix_is_a_folder_however_it_is_written(prefix: str) -> None:
    def problem(path: bytes) -> str:
        return parse("1-1", FIELDS | {b"cos_path": path}, key_prefix=prefix).problem

    assert [problem(path) for path in (b"snap/a", b"/snap/a", b"/snap/a/b")] == [""] * 3
    outside = (b"snapshot/a", b"snap", b"snap/", b"a/snap/b", b"//snap/a", b"SNAP/a", b"snap/../a")
    assert {problem(path) for path in outside} == {"cos_path 不合法"}


def test_code_that_no_camera_has_is_cut_off() -> None:
    assert parse("1-1", FIELDS | {b"camera_code": b"c" * 64}).camera_code == "c" * 64
    assert parse("1-1", FIELDS | {b"camera_code": b"c" * 1_000_000}).camera_code == "c" * 64 + "…"


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
    assert [Result.parse(one.to_json(reason=True)) for one in (ok, error)] == [ok, error]
    assert "上传失败".encode() in error.to_json()
