"""Pictures and clips of when it happened, of cameras that keep their last seconds: by request and by command."""

import gc
import json
import time
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests
import simplejpeg

from framesrv.settings import ShmSettings
from snapd.pictures.clips import Clips
from snapd.wire.messages import word_of
from snapd.wire.moment import Moment, Span
from snapd.wire.request import parse
from tests.support.edge import STREAM, Edge, Running, wait_until, write_config
from tests.support.recorded import EXACT, FORGETFUL, FPS, GROUP, H264, HEVC, Recorded, index_of, play, taken_at
from tests.test_snapd_cli import snapd

FIELDS = {b"request_id": b"r1", b"camera_code": b"cam01", b"cos_path": b"a.jpg"}

WRONG = {
    "at": [
        "now",
        "1",
        "-",
        "--1",
        "-1e3",
        "-99999",
        "nan",
        "inf",
        "1e400",
        "2026-11-29",
        "17959000",
        "-٢",
        "+1795900000",
    ],
    "clip": [
        "5",
        "5,",
        ",5",
        "5,5,5",
        "-1,5",
        "0,0",
        "601,0",
        "0,31",
        "nan,1",
        "1e400,1",
        "5;5",
        "5, 5",
        "٥,٥",
        "0,11",
    ],
}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with Recorded(tmp_path_factory.mktemp("recorded"), f"t{time.time_ns() // 1000 % 10**9}m") as cameras:
        yield cameras


@pytest.fixture
def there(edge: Edge, recorded: Recorded) -> Iterator[Edge]:
    """The edge of that host, with one worker: whoever waits must leave it to others."""
    edge.prefix = recorded.prefix
    with Running(edge.settings(snapshot={"max_age": 2.0, "wait": 2.0, "workers": 1}, result={"reason": True})):
        yield edge


@pytest.fixture
def config(edge: Edge, recorded: Recorded, tmp_path: Path) -> Path:
    """The configuration of that host, for commands."""
    edge.prefix = recorded.prefix
    return write_config(edge, tmp_path / "framesrv.toml", snapshot={"max_age": 2.0, "wait": 2.0})


def ask(edge: Edge, code: str = H264, **fields: Any) -> dict[str, Any]:
    """The result, as it is on the wire."""
    sent = edge.fields(code, callback_url=None, **fields)
    edge.send(sent)
    edge.result_by_key(sent)
    found: dict[str, Any] = json.loads(edge.redis.get(f"snap:result:{sent['request_id']}"))  # type: ignore[arg-type]
    return found


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_moment_that_cannot_be_is_told_by_the_fields_name(name: str, value: str) -> None:
    found = parse("1-1", FIELDS | {name.encode(): value.encode()}, longest=10.0)
    assert (found.problem, found.moment, found.clip) == (f"{name} 不合法", None, None)
    assert word_of(found.problem) == f"bad_{name}"


@pytest.mark.parametrize("other", ["width", "quality", "crop", "overlay", "count"])
def test_clip_takes_nothing_that_is_of_pictures(other: str) -> None:
    fields = FIELDS | {b"clip": b"1,1", other.encode(): b"0.0,0,1,1" if other == "crop" else b"1"}
    assert parse("1-1", fields).problem == "clip 不合法"


def test_moment_is_unix_seconds_or_milliseconds_or_before_the_request() -> None:
    for text, moment in (
        ("1795900000", 1795900000.0),
        ("1795900000.25", 1795900000.25),
        ("1795900000250", 1795900000.25),
        ("-2.5", 997.5),
        ("-0", 1000.0),
    ):
        assert Moment.parse(text).unix(1000.0) == moment
        assert parse("1-1", FIELDS | {b"at": text.encode()}).moment == Moment.parse(text)
    assert parse("1-1", FIELDS | {b"clip": b"2.5,0"}).clip == Span(2.5, 0.0)
    assert parse("1-1", FIELDS | {b"at": b"", b"clip": b""}).is_of_now


def sent_at(edge: Edge, fields: dict[Any, Any]) -> float:
    """When a request came to the stream."""
    entries: Any = edge.redis.xrange(STREAM)
    (found,) = [entry for entry, sent in entries if sent[b"request_id"].decode() == fields["request_id"]]
    return int(found.partition(b"-")[0]) / 1000


@pytest.mark.parametrize("code", [H264, HEVC])
def test_picture_is_the_one_shown_at_that_moment(there: Edge, recorded: Recorded, code: str) -> None:
    """By each way to say a moment; the result is as ever."""
    base, shown = time.time() - 2.0, []
    for name, at in (("s", f"{base:.6f}"), ("ms", f"{(base + 0.4) * 1000:.3f}"), ("before", "-1.25")):
        fields = there.fields(code, callback_url=None, at=at, cos_path=f"{name}.jpg", width="320")
        there.send(fields)
        assert there.result_by_key(fields).status == "ok"
        moment = {"s": base, "ms": base + 0.4, "before": sent_at(there, fields) - 1.25}[name]
        stored = there.cos.objects[f"{name}.jpg"]
        taken = taken_at(stored.body)
        assert simplejpeg.decode_jpeg_header(stored.body)[:2] == (180, 320)
        assert abs(float(stored.about["captured-at"]) - taken) < EXACT
        # The clock of Redis is known to a few milliseconds.
        slack = 0.005 if name == "before" else 0.0
        expected = [recorded.shown_at(code, moment + one) for one in (-slack, slack)]
        assert any(abs(taken - one) < EXACT for one in expected)
        shown.append((index_of(simplejpeg.decode_jpeg(stored.body, "BGR")), taken))
    (first, first_taken), (second, second_taken), _ = shown
    assert (second - first) % 100 == recorded.pictures_between(code, first_taken, second_taken) > 0


@pytest.mark.parametrize("code", [H264, HEVC])
def test_clip_has_the_pictures_around_its_moment_as_they_came(there: Edge, recorded: Recorded, code: str) -> None:
    moment = time.time() - 1.0
    result = ask(there, code, clip="1.5,2", at=f"{moment:.6f}", cos_path="a.mp4")
    assert set(result) == {"request_id", "camera_code", "status", "url"}
    stored = there.cos.objects["a.mp4"]
    assert stored.content_type == "video/mp4"
    assert requests.get(result["url"], timeout=5).content == stored.body
    shown = play(stored.body, code)
    # From a key frame on, the last one before, without a gap, to what was shown at the end.
    assert shown.indices[0] % GROUP == 0
    assert all((after - before) % 100 == 1 for before, after in pairwise(shown.indices))
    assert all(abs(after - before - 1 / FPS) < 0.001 for before, after in pairwise(shown.times))
    begin = float(stored.about["captured-at"])
    assert abs(begin - recorded.key_at(code, moment - 1.5)) < EXACT
    last = recorded.pictures_between(code, begin, recorded.shown_at(code, moment + 2))
    assert last <= len(shown.indices) - 1 <= last + 3  # more where pictures come out of order


def test_clip_waits_for_what_is_to_come_and_keeps_no_worker(there: Edge, recorded: Recorded) -> None:
    fields = there.fields(H264, callback_url=None, clip="0.5,4", cos_path="a.mp4")
    there.send(fields)
    assert ask(there, cos_path="b.jpg")["status"] == "ok"
    assert "a.mp4" not in there.cos.objects
    assert there.result_by_key(fields).status == "ok"
    stored = there.cos.objects["a.mp4"]
    count = len(play(stored.body, H264).indices)
    end = recorded.shown_at(H264, sent_at(there, fields) + 4)
    last = recorded.pictures_between(H264, float(stored.about["captured-at"]), end)
    assert last - 1 <= count - 1 <= last + 3


def test_burst_of_the_past_has_a_picture_of_each_moment(there: Edge, recorded: Recorded) -> None:
    base = time.time() - 2
    result = ask(there, at=f"{base:.6f}", count="4", interval="0.2", cos_path="{n}.jpg")
    assert len(result["urls"]) == 4
    for number in range(4):
        taken = taken_at(there.cos.objects[f"{number + 1}.jpg"].body)
        assert abs(taken - recorded.shown_at(H264, base + number * 0.2)) < EXACT


def test_histories_are_let_go_with_the_configuration_that_they_were_opened_for(recorded: Recorded) -> None:
    def is_mapped() -> bool:
        return f"{recorded.prefix}+history.{H264}" in Path("/proc/self/maps").read_text()

    clips = Clips(ShmSettings(prefix=recorded.prefix), 2.0)
    assert clips.make(H264, time.time() - 1, Span(0.1, 0.0)).frames > 0
    assert is_mapped()
    del clips
    gc.collect()
    assert not is_mapped()


def test_moment_that_is_not_there_is_told_apart(there: Edge) -> None:
    gone, not_there = "该时刻不在历史中: cam01", "摄像头未保留历史: cam03"
    for code, fields, message, reason in (
        (H264, {"at": "-3600"}, gone, "history_before"),
        (H264, {"at": f"{time.time() + 3600:.0f}"}, gone, "history_after"),
        (H264, {"clip": "300,1"}, gone, "history_before"),
        (H264, {"clip": "1,1", "at": f"{time.time() + 3600:.0f}"}, gone, "history_after"),
        (H264, {"count": "2", "at": "-3600", "cos_path": "{n}"}, gone, "history_before"),
        (FORGETFUL, {"at": "-1"}, not_there, "no_history"),
        (FORGETFUL, {"clip": "1,0"}, not_there, "no_history"),
        ("down", {"at": "-1"}, "摄像头流未连接: down", "absent"),
        ("nosuch", {"at": "-1"}, "摄像头流未连接: nosuch", "not_configured"),
        (H264, {"at": "-1", "crop": "600,0,100,100"}, "crop 超出画面", "crop_outside"),
    ):
        result = ask(there, code, **fields)
        assert (result["message"], result["reason"]) == (message, reason), (code, fields)
    assert there.cos.objects == {}
    wait_until(lambda: there.pending == 0)


def test_grab_takes_what_was_shown_at_a_moment(config: Path, recorded: Recorded, tmp_path: Path) -> None:
    base, out = time.time() - 2, tmp_path / "a.jpg"
    iso = datetime.fromtimestamp(base + 0.4)
    for value, moment in ((f"{base:.6f}", base), (iso.isoformat(), iso.timestamp())):
        done = snapd("grab", H264, "-o", out, "--at", value, "--config", config)
        assert done.returncode == 0, done.stderr
        assert abs(taken_at(out.read_bytes()) - recorded.shown_at(H264, moment)) < EXACT
    before = time.time()
    assert snapd("grab", H264, "-o", out, "--ago", 1, "--config", config).returncode == 0
    assert before - 1.5 < taken_at(out.read_bytes()) <= time.time() - 1


@pytest.mark.parametrize("code", [H264, HEVC])
def test_clip_saves_the_seconds_around_a_moment(config: Path, tmp_path: Path, code: str) -> None:
    out = tmp_path / "a.mp4"
    done = snapd("clip", code, "-o", out, "--before", 1, "--after", 0.5, "--config", config)
    assert done.returncode == 0, done.stderr
    found = play(out.read_bytes(), code)
    assert f"{out}: " in done.stdout.decode()
    assert f" s, {len(found.indices)} pictures, {out.stat().st_size} bytes" in done.stdout.decode()
    assert found.times[-1] > 1.3


def test_moment_that_cannot_be_or_is_not_there_is_told(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "a"
    for words, status, told in (
        (("grab", H264, "--at", "yesterday"), 2, "expected Unix seconds or milliseconds, or a time as 2026-11-29T05"),
        (("grab", H264, "--at", "1795900000", "--ago", 1), 2, "--at and --ago say the same"),
        (("grab", H264, "--ago", 3600), 1, H264),
        (("grab", FORGETFUL, "--ago", 1), 1, FORGETFUL),
        (("clip", H264, "--before", 0), 2, "expected --before or --after above 0"),
        (("clip", H264, "--at", "9999999999"), 1, "to come"),
        (("clip", H264, "--before", 500), 1, H264),
        (("clip", "../a", "--before", 1), 2, "CODE"),
    ):
        done = snapd(*words, "-o", out, "--config", config)
        assert (done.returncode, done.stdout) == (status, b""), (words, done.stderr)
        assert told in done.stderr.decode()
        assert b"Traceback" not in done.stderr
    assert not out.exists()
