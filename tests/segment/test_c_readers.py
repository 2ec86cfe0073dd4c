"""Readers in C, under sanitizers, against writers and decoders that are real, killed, and change their size."""

import json
import os
import random
import re
import signal
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framesrv import FrameReader, FrameWriter, Stamp, camera_status
from framesrv.segment import layout, locks, owner
from framesrv.segment.layout import PAGE
from framesrv.segment.mapping import Segment
from tests.segment.observing import damage, offset_of, wait_until
from tests.support import c_programs as c
from tests.support import processes
from tests.support import segment_programs as programs
from tests.support.segment_programs import HEIGHT, WIDTH, Process, header, path_of, pinned, put
from tests.support.users import BOB, needs_root

FRAMES = int(os.environ.get("C_READER_FRAMES", "2500"))  # that each thread takes
SOURCES = 25
OK, ABSENT, DOWN, CONNECTING, STALLED, STALE, GONE, FORMAT, OWNER, UNREADABLE, INVALID, FORKED, _ = range(13)

sanitized = pytest.mark.parametrize("sanitizer", ["asan", "tsan"])
everywhere = pytest.mark.parametrize("sanitizer", ["plain", "asan", "tsan"])


@pytest.fixture
def reader(sanitizer: str) -> Path:
    return c.compiled(c.READER, sanitizer=sanitizer)


@pytest.fixture
def plain() -> Path:
    return c.compiled(c.READER)


@pytest.fixture
def started(prefix: str) -> Iterator[Callable[..., c.Running]]:
    """Programs on camera "cam", killed at the end of the test."""
    running: list[c.Running] = []

    def begin(program: Path, mode: str, *words: str) -> c.Running:
        running.append(c.Running(program, mode, prefix, "cam", *words))
        return running[-1]

    yield begin
    for program in running:
        program.__exit__()


def one(program: Path, prefix: str, *words: str) -> tuple[int, str]:
    """The code and the rest of the line that a reader says of the newest frame."""
    with c.Running(program, "one", prefix, "cam", *words) as running:
        code, _, rest = running.line().partition(" ")
        status, errors = running.end()
        assert (status, errors) == (int(code) != OK, "")
        return int(code), rest


def seen(running: c.Running, timeout: float) -> dict[str, Any]:
    counts: dict[str, Any] = json.loads(running.line(timeout))
    assert running.end() == (0, "")
    return counts


@sanitized
@pytest.mark.leaves_segment
def test_four_threads_of_one_reader_see_no_torn_frame(
    reader: Path, prefix: str, start: Callable[..., Process], started: Callable[..., c.Running]
) -> None:
    running = started(reader, "look", str(FRAMES))
    assert running.line() == "ready"
    writer = start(programs.write_forever, prefix, "cam", 0, False)
    counts = seen(running, 100 + FRAMES / 100)
    assert (counts["torn"], counts["disordered"], counts["errors"]) == (0, 0, 0)
    assert counts["frames"] == 4 * FRAMES
    writer.kill()
    assert pinned(prefix, "cam") == []


@sanitized
@pytest.mark.parametrize("resizing", [False, True], ids=["same size", "resizing"])
@pytest.mark.leaves_segment
def test_readers_outlive_killed_writers(
    reader: Path, prefix: str, start: Callable[..., Process], started: Callable[..., c.Running], resizing: bool
) -> None:
    chance = random.Random(SOURCES)
    running = started(reader, "follow", str(SOURCES))
    assert running.line() == "ready"
    for source in range(SOURCES):
        writer = start(programs.write_forever, prefix, "cam", source, resizing)
        time.sleep(chance.uniform(0.02, 0.08))  # the instant is what is random here
        writer.kill()
    start(programs.write_forever, prefix, "cam", SOURCES, resizing)
    counts = seen(running, 100)
    assert (counts["torn"], counts["errors"]) == (0, 0)
    assert resizing or counts["disordered"] == 0
    assert counts["sources"] > SOURCES / 5, "hardly a writer lived long enough to be seen"


@everywhere
@pytest.mark.parametrize("length", [0, PAGE, 3 * PAGE])
def test_reader_survives_and_is_told_that_its_frame_is_gone(
    reader: Path, writer: FrameWriter, prefix: str, started: Callable[..., c.Running], length: int
) -> None:
    put(writer, 1)
    running = started(reader, "hold")
    assert running.line() == f"0 1 {WIDTH}x{HEIGHT} 1 whole"
    os.truncate(path_of(prefix, "cam"), length)
    running.go_on()
    assert running.line() == f"other {GONE}"
    assert running.line() == "the frame is gone: its segment was cut short while it was pinned"
    assert int(running.line().split()[0]) == (FORMAT if length else ABSENT)
    assert running.end() == (0, "")


@everywhere
def test_waiting_reader_survives_the_loss_of_the_word_that_it_waits_on(
    reader: Path, writer: FrameWriter, prefix: str, started: Callable[..., c.Running]
) -> None:
    put(writer, 1)
    running = started(reader, "wait")
    assert running.line() == "waits"
    wait_until(lambda: writer.demanded)
    os.truncate(path_of(prefix, "cam"), 0)
    put(writer, 2)  # to nowhere
    assert writer.keep_name()
    put(writer, 3)
    assert running.line().startswith("0 3 ")
    assert running.end() == (0, "")


def test_other_mappings_end_a_program_as_they_did(
    plain: Path, writer: FrameWriter, started: Callable[..., c.Running]
) -> None:
    put(writer, 1)
    running = started(plain, "touch")
    assert running.line() == "touches"
    assert running.end()[0] == -signal.SIGBUS


@sanitized
def test_pinned_frame_is_constant_and_its_pin_ends_with_the_reader(
    reader: Path, writer: FrameWriter, prefix: str, started: Callable[..., c.Running]
) -> None:
    put(writer, 1)
    running = started(reader, "hold")
    assert running.line() == f"0 1 {WIDTH}x{HEIGHT} 1 whole"
    for number in range(2, 50):
        assert put(writer, number)
    assert len(pinned(prefix, "cam")) == 1
    running.go_on()
    assert running.line() == f"whole {OK}"
    assert running.line() == "all is well"
    assert running.line().startswith("0 49 ")
    wait_until(lambda: pinned(prefix, "cam") == [])
    running.end()
    put(writer, 50)
    other = started(reader, "hold")
    assert other.line().startswith("0 50 ")
    other.process.kill()
    other.end()
    assert pinned(prefix, "cam") == []


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        (Stamp(5, 6, 7, "bt709", True, True, "camera", Fraction(4, 3), 90), "5 6 7 1 2 1 1 4 3 90"),
        (Stamp(None, 2**63, 2**62, "bt2020", False, False, "arrival"), f"{-(2**63)} {2**63} {2**62} 9 1 0 0 1 1 0"),
    ],
)
def test_stamp_is_the_one_that_was_written(
    plain: Path, writer: FrameWriter, prefix: str, stamp: Stamp, expected: str
) -> None:
    with writer.next() as slot:
        assert slot is not None
        slot.stamp = stamp
    assert c.output(plain, "stamp", prefix, "cam") == f"{expected}\n"


@sanitized
def test_waiting_reader_asks_for_frames_and_follows_a_new_segment(
    reader: Path, writer: FrameWriter, started: Callable[..., c.Running]
) -> None:
    put(writer, 1)
    running = started(reader, "wait")
    assert running.line() == "waits"
    wait_until(lambda: writer.demanded)
    writer.resize(WIDTH + 64, HEIGHT, "bgr24")
    wait_until(lambda: writer.demanded)
    with writer.next() as slot:
        assert slot is not None
        slot.planes[0][:] = 7
    assert running.line() == f"0 2 {WIDTH + 64}x{HEIGHT} 2 other"
    wait_until(lambda: not writer.demanded)
    assert running.end() == (0, "")


def test_waiting_reader_leaves_a_segment_that_lost_its_name(
    plain: Path, writer: FrameWriter, prefix: str, started: Callable[..., c.Running]
) -> None:
    put(writer, 1)
    running = started(plain, "wait")
    assert running.line() == "waits"
    wait_until(lambda: writer.demanded)
    os.unlink(path_of(prefix, "cam"))
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as other:
        wait_until(lambda: other.demanded)
        put(other, 7)
        assert running.line().startswith(f"0 1 {WIDTH}x{HEIGHT} 1 whole")


def test_reader_waits_for_a_camera_that_is_not_there_yet(
    plain: Path, prefix: str, started: Callable[..., c.Running]
) -> None:
    running = started(plain, "wait")
    assert running.line() == "waits"
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        wait_until(lambda: writer.demanded)
        put(writer, 1)
        assert running.line().startswith("0 1 ")


def test_child_of_a_fork_is_refused_and_takes_no_pin_and_no_demand_from_its_parent(
    plain: Path, writer: FrameWriter, prefix: str, started: Callable[..., c.Running]
) -> None:
    put(writer, 1)
    running = started(plain, "fork")
    assert running.line().startswith(f"{FORKED} camera cam: the reader was made before fork(2)")
    assert running.line() == "pinned"
    assert len(pinned(prefix, "cam")) == 1
    segment = Segment.attach(path_of(prefix, "cam"))
    assert locks.is_held(segment.fd, layout.DEMAND_BYTE, exclusively=False)
    segment.close()
    running.go_on()
    assert running.end() == (0, "")


def test_reasons_are_those_of_a_reader_in_python(plain: Path, prefix: str) -> None:
    assert one(plain, prefix) == (
        ABSENT,
        f"camera cam: there is no /dev/shm/{prefix}.cam: its decoder was never started, or has been stopped",
    )
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        writer.describe(error="the camera refuses the password", cause="unauthorized")
        assert one(plain, prefix) == (
            CONNECTING,
            "camera cam: its decoder has no picture yet (the camera refuses the password)",
        )
        put(writer, 1)
        assert one(plain, prefix)[0] == OK


@pytest.mark.leaves_segment
def test_reasons_of_a_frame_that_does_not_come(
    plain: Path, prefix: str, start: Callable[..., Process], started: Callable[..., c.Running]
) -> None:
    process = start(programs.write_when_told, prefix, "cam")
    assert process.answer() == "ready"
    process.pipe.send(1)
    wait_until(lambda: header(prefix, "cam", "frames") == 1)
    for code, why in (
        (STALE, "no new frame came in time"),
        (STALLED, "its stream stands still"),
        (DOWN, "its decoder is"),
    ):
        activity = 1 if code == STALLED else time.monotonic_ns()
        damage(prefix, offset_of("activity"), activity.to_bytes(8, "little"))
        if code == DOWN:
            process.kill()
        running = started(plain, "wait", "1")
        assert running.line() == "waits"
        line = running.line()
        assert line.startswith(f"{code} camera cam: {why}")
        assert re.search(r"; the newest frame is \d+\.\d s old$", line)


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
    plain: Path, writer: FrameWriter, prefix: str, field: str, value: int, said: str
) -> None:
    put(writer, 1)
    damage(prefix, offset_of(field), np.array(value, layout.HEADER[field]).tobytes())
    code, words = one(plain, prefix)
    assert code == FORMAT
    assert said in words


@pytest.mark.parametrize(("field", "value"), [("matrix", 3), ("clock", 2)])
def test_damaged_record_is_refused_and_its_pin_given_back(
    plain: Path, writer: FrameWriter, prefix: str, started: Callable[..., c.Running], field: str, value: int
) -> None:
    put(writer, 1)
    slot = int(header(prefix, "cam", "newest"))
    damage(prefix, layout.record_offset(slot) + layout.RECORD_OFFSETS[field], value.to_bytes(4, "little"))
    running = started(plain, "one")
    code, _, words = running.line().partition(" ")
    assert int(code) == FORMAT
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
            assert one(program, prefix)[0] in {OK, ABSENT, CONNECTING, DOWN, STALE, FORMAT}
            with open(path, "r+b") as file:
                file.write(whole.tobytes())


def test_what_is_no_regular_file_is_refused(plain: Path, prefix: str) -> None:
    path = path_of(prefix, "cam")
    os.mkfifo(path)
    assert one(plain, prefix)[0] == FORMAT
    os.unlink(path)
    os.symlink("/etc/passwd", path)
    assert one(plain, prefix)[0] == UNREADABLE
    os.unlink(path)


@needs_root
def test_segment_of_a_stranger_is_not_read(plain: Path, prefix: str) -> None:
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        os.chown(path_of(prefix, "cam"), BOB, BOB)
        code, words = one(plain, prefix)
        assert code == OWNER
        assert f"who is neither this user nor {owner.service_user('cam')}" in words
        assert one(plain, prefix, str(BOB))[0] == OK
        assert one(plain, prefix, str(BOB + 1))[0] == OWNER
        assert one(plain, prefix, "nobody-of-that-name") == (
            INVALID,
            "there is no user 'nobody-of-that-name' on this host",
        )


@pytest.mark.parametrize("code", ["a", "snapd", "x.y", "a" * 22, "a" * 23, "b" * 55, "b" * 56, "c" * 64])
def test_user_of_a_unit_is_that_of_python(plain: Path, code: str) -> None:
    assert c.output(plain, "user", code) == f"{owner.service_user(code)}\n"


@pytest.mark.leaves_segment
def test_frames_of_a_decoder_are_read_after_it_was_killed_and_after_its_camera_changed_size(
    prefix: str, tmp_path: Path
) -> None:
    program = c.compiled(c.READER, sanitizer="asan")
    for source, size in (
        ("test:160x120@25", "160x120"),
        ("test:160x120@25", "160x120"),
        ("test:320x240@25", "320x240"),
    ):
        cameras = [{"code": "cam", "source": source}]
        config = processes.write_config(tmp_path / "framesrv.toml", {"shm": {"prefix": prefix}}, cameras)
        with (
            processes.Program("framesrv", "decode", "cam", "--config", config, log=tmp_path / "log") as decoder,
            c.Running(program, "wait", prefix, "cam") as running,
        ):
            assert running.line() == "waits"
            words = running.line().split()
            assert (words[0], words[2]) == ("0", size)
            assert running.end() == (0, "")
            with FrameReader("cam", prefix=prefix) as camera, camera.latest(timeout=20) as frame:
                assert frame.seq >= int(words[1])
            decoder.stop(signal.SIGKILL)
        assert one(program, prefix)[0] in {OK, DOWN}
        assert camera_status(prefix, "cam").state == "down"
        assert header(prefix, "cam", "frames") > 0
