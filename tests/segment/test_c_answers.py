"""What a reader in C says: of frames, of frames that do not come, and of files that it does not read."""

import os
import re
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from framesrv import FrameReader, FrameUnavailableError, FrameWriter, Stamp
from framesrv.segment import layout, locks, owner
from framesrv.segment.mapping import Segment
from tests.segment.observing import begin_again_and_again, damage, in_thread, offset_of, wait_until
from tests.support import c_programs as c
from tests.support import segment_programs as programs
from tests.support.segment_programs import HEIGHT, WIDTH, Process, header, path_of, pinned, put
from tests.support.users import BOB, needs_root


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (Stamp(5, 6, 7, "bt709", True, True, "camera", Fraction(4, 3), 90), "5 6 7 1 2 1 1 4 3 90"),
        (Stamp(None, 2**63, 2**62, "bt2020", False, False, "arrival"), f"{-(2**63)} {2**63} {2**62} 9 1 0 0 1 1 0"),
    ],
)
def test_stamp_is_the_one_that_was_written(
    c_reader: Path, writer: FrameWriter, prefix: str, stamp: Stamp, expected: str
) -> None:
    with writer.next() as slot:
        assert slot is not None
        slot.stamp = stamp
    assert c.output(c_reader, "stamp", prefix, "cam") == f"{expected}\n"


@pytest.mark.parametrize("policy", ["all", "fps:1", "keyframes"])
@pytest.mark.parametrize("interval", [0, 400_000_000, 4_000_000_000])
def test_frame_is_fresh_for_as_long_as_in_python(
    c_reader: Path, writer: FrameWriter, camera: FrameReader, prefix: str, policy: str, interval: int
) -> None:
    put(writer, 1)
    with writer.next() as slot:
        assert slot is not None
        now = Stamp.now(HEIGHT)
        slot.stamp = now._replace(arrived_ns=now.arrived_ns - 2_000_000_000)
    damage(prefix, offset_of("interval"), interval.to_bytes(8, "little"))
    damage(prefix, offset_of("decode_policy"), policy.encode().ljust(32, b"\0"))
    answers = []
    for milliseconds in (0, 400, 500, 1000, 1_000_000):
        try:
            camera.latest(max_age=milliseconds / 1000, timeout=0).release()
            expected = c.OK
        except FrameUnavailableError:
            expected = c.STALE
        assert c.output(c_reader, "fresh", prefix, "cam", str(milliseconds)).startswith(f"{expected} ")
        answers.append(expected == c.OK)
    slow = policy == "all" and interval > 500_000_000
    assert answers == [False, False, slow, slow, True]


def test_child_of_a_fork_is_refused_and_takes_no_pin_and_no_demand_from_its_parent(
    c_reader: Path, writer: FrameWriter, prefix: str, start_c: Callable[..., c.Running]
) -> None:
    put(writer, 1)
    running = start_c(c_reader, "fork")
    assert running.line().startswith(f"{c.FORKED} camera cam: the reader was made before fork(2)")
    assert running.line() == "pinned"
    assert len(pinned(prefix, "cam")) == 1
    segment = Segment.attach(path_of(prefix, "cam"))
    assert locks.is_held(segment.fd, layout.DEMAND_BYTE, exclusively=False)
    segment.close()
    running.go_on()
    assert running.end() == (0, "")


def test_reasons_are_those_of_a_reader_in_python(c_reader: Path, prefix: str) -> None:
    assert c.one(c_reader, prefix) == (
        c.ABSENT,
        f"camera cam: there is no /dev/shm/{prefix}.cam: its decoder was never started, or has been stopped",
    )
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        writer.describe(error="the camera refuses the password", cause="unauthorized")
        assert c.one(c_reader, prefix) == (
            c.CONNECTING,
            "camera cam: its decoder has no picture yet (the camera refuses the password)",
        )
        put(writer, 1)
        assert c.one(c_reader, prefix)[0] == c.OK


@pytest.mark.leaves_segment
def test_reasons_of_a_frame_that_does_not_come(
    c_reader: Path, prefix: str, start: Callable[..., Process], start_c: Callable[..., c.Running]
) -> None:
    process = start(programs.write_when_told, prefix, "cam")
    assert process.answer() == "ready"
    process.pipe.send(1)
    wait_until(lambda: header(prefix, "cam", "frames") == 1)
    for code, why in (
        (c.STALE, "no new frame came in time"),
        (c.STALLED, "its stream stands still"),
        (c.DOWN, "its decoder is"),
    ):
        activity = 1 if code == c.STALLED else time.monotonic_ns()
        damage(prefix, offset_of("activity"), activity.to_bytes(8, "little"))
        if code == c.DOWN:
            process.kill()
        running = start_c(c_reader, "wait", "1")
        assert running.line() == "waits"
        line = running.line()
        assert line.startswith(f"{code} camera cam: {why}")
        assert re.search(r"; the newest frame is \d+\.\d s old$", line)


def test_reader_that_is_woken_and_finds_nothing_waits_on(
    writer: FrameWriter, prefix: str, start_c: Callable[..., c.Running], c_reader: Path
) -> None:
    put(writer, 1)
    running = start_c(c_reader, "wait", "1")
    assert running.line() == "waits"
    began = time.monotonic()
    with in_thread(running.line) as told:
        begin_again_and_again(writer, told)
    assert told[0].startswith(f"{c.STALE} camera cam: no new frame came in time")
    assert time.monotonic() - began >= 0.9  # it began to wait a little before it was heard


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("magic", 7, "not a framesrv segment"),
        ("version", layout.VERSION + 1, f"its layout is version {layout.VERSION + 1}, this framesrv.h reads version"),
        ("pixel_format", 3, "pixel format 3"),
        ("slots", 17, "17 slots: expected 2 to 16"),
        ("slots", 1, "1 slots"),
        ("slots", 16, "bytes long"),
        ("width", 16385, "16385x96 pixels: expected 1 to 16384 each way"),
        ("width", 64, "its planes are not those of 64x96"),
        ("slot_size", 4096, "its planes are not those of"),
        ("newest", 2, "its newest slot is 2 of 2"),
    ],
)
def test_damaged_field_is_refused(
    c_reader: Path, writer: FrameWriter, prefix: str, field: str, value: int, said: str
) -> None:
    put(writer, 1)
    damage(prefix, offset_of(field), np.array(value, layout.HEADER[field]).tobytes())
    code, words = c.one(c_reader, prefix)
    assert code == c.FORMAT
    assert said in words


@pytest.mark.parametrize(("field", "value"), [("matrix", 3), ("clock", 2)])
def test_damaged_record_is_refused_and_its_pin_given_back(
    c_reader: Path, writer: FrameWriter, prefix: str, start_c: Callable[..., c.Running], field: str, value: int
) -> None:
    put(writer, 1)
    slot = int(header(prefix, "cam", "newest"))
    damage(prefix, layout.record_offset(slot) + layout.RECORD_OFFSETS[field], value.to_bytes(4, "little"))
    running = start_c(c_reader, "one")
    code, _, words = running.line().partition(" ")
    assert int(code) == c.FORMAT
    assert f"damaged: frame 1 has {'matrix 3' if field == 'matrix' else 'matrix 6, clock 2'}" in words
    assert pinned(prefix, "cam") == []


@pytest.mark.parametrize("value", [0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
def test_no_damaged_word_of_the_header_crashes_a_reader(prefix: str, value: int) -> None:
    program = c.compiled(c.READER, sanitizer="asan")
    path = path_of(prefix, "cam")
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        whole = np.fromfile(path, "<u4", layout.OFFSETS["state"] // 4)
        for word in range(layout.OFFSETS["state"] // 4):
            with open(path, "r+b") as file:
                file.seek(4 * word)
                file.write(value.to_bytes(4, "little"))
            assert c.one(program, prefix)[0] in {c.OK, c.ABSENT, c.CONNECTING, c.DOWN, c.STALE, c.FORMAT}
            with open(path, "r+b") as file:
                file.write(whole.tobytes())


def test_what_is_no_regular_file_is_refused(c_reader: Path, prefix: str) -> None:
    path = path_of(prefix, "cam")
    os.mkfifo(path)
    assert c.one(c_reader, prefix)[0] == c.FORMAT
    os.unlink(path)
    os.symlink("/etc/passwd", path)
    assert c.one(c_reader, prefix)[0] == c.UNREADABLE
    os.unlink(path)


@needs_root
def test_segment_of_a_stranger_is_not_read(c_reader: Path, prefix: str) -> None:
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        os.chown(path_of(prefix, "cam"), BOB, BOB)
        code, words = c.one(c_reader, prefix)
        assert code == c.OWNER
        assert f"who is neither this user nor {owner.service_user('cam')}" in words
        assert c.one(c_reader, prefix, str(BOB))[0] == c.OK
        assert c.one(c_reader, prefix, str(BOB + 1))[0] == c.OWNER
        assert c.one(c_reader, prefix, "nobody-of-that-name") == (
            c.INVALID,
            "there is no user 'nobody-of-that-name' on this host",
        )


@pytest.mark.parametrize("code", ["a", "snapd", "x.y", "a" * 22, "a" * 23, "b" * 55, "b" * 56, "c" * 64])
def test_user_of_a_unit_is_that_of_python(c_reader: Path, code: str) -> None:
    assert c.output(c_reader, "user", code) == f"{owner.service_user(code)}\n"
