"""Files that are no segment, or a damaged one: refused by readers, replaced by a writer."""

import os
import socket
import threading
from pathlib import Path

import numpy as np
import pytest

from framesrv import (
    FrameReader,
    FrameUnavailableError,
    FrameWriter,
    SegmentError,
    SegmentFormatError,
    camera_statuses,
)
from framesrv.segment import layout
from framesrv.segment.file import layout_version
from framesrv.segment.layout import PAGE, Geometry
from framesrv.segment.mapping import Segment
from tests.segment.observing import damage, in_thread, leave, newest, numbers, offset_of, unavailable
from tests.support.segment_programs import HEIGHT, WIDTH, path_of, pinned, put


def test_half_made_segment_is_waited_for(prefix: str, camera: FrameReader) -> None:
    leave(prefix, magic=0)
    assert unavailable(camera, None, 0.1).reason == "absent"
    with in_thread(lambda: numbers(camera.latest(max_age=None, timeout=10))) as outcome:
        damage(prefix, 0, b"FRAMESRV")
    assert outcome == [(1, 1)]
    os.unlink(path_of(prefix, "cam"))


def test_magic_number_of_a_new_segment_is_there_with_its_name(prefix: str, camera: FrameReader) -> None:
    """Whoever can open a segment that this writer makes, and remakes, finds it whole."""
    stop = threading.Event()

    def look() -> int:
        looks = 0
        while not stop.is_set():
            try:
                Segment.attach(path_of(prefix, "cam")).close()
                looks += 1
            except FileNotFoundError:
                pass
        return looks

    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer, in_thread(look) as outcome:
        for number in range(200):
            writer.resize(WIDTH + 16 * (number % 2), HEIGHT, "yuv420p")
        stop.set()
    assert isinstance(outcome[0], int), outcome[0]
    assert outcome[0] > 0


@pytest.mark.parametrize("length", [0, 1, 7, 4095])
def test_file_shorter_than_a_header_is_one_that_is_being_made(prefix: str, camera: FrameReader, length: int) -> None:
    Path(path_of(prefix, "cam")).write_bytes(b"x" * length)
    assert unavailable(camera, None, 0).reason == "absent"
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        assert newest(camera) == (1, 1)


@pytest.mark.parametrize("length", [4096, 5001, 100_000])
def test_garbage_is_refused_by_readers_and_replaced_by_a_writer(
    prefix: str, camera: FrameReader, length: int
) -> None:
    Path(path_of(prefix, "cam")).write_bytes(np.random.default_rng(length).bytes(length))
    with pytest.raises(SegmentFormatError, match=rf"{prefix}\.cam: not a framesrv segment"):
        camera.latest()
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        assert newest(camera) == (1, 1)


def test_segment_of_another_version_is_refused_and_a_writer_retires_it(prefix: str, camera: FrameReader) -> None:
    """Its readers, who have it mapped and wait on its sequence, are woken and told, where all versions have it."""
    leave(prefix)
    theirs = Segment.attach(path_of(prefix, "cam"))
    damage(prefix, 8, (99).to_bytes(4, "little"))
    with pytest.raises(SegmentFormatError, match="layout is version 99, this framesrv reads version 1"):
        camera.latest()
    sequence = theirs.sequence
    with (
        in_thread(lambda: theirs.wait(sequence, 20)) as woken,
        FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer,
    ):
        put(writer, 1)
        assert theirs.retired
        assert theirs.sequence != sequence
        assert newest(camera) == (1, 1)
    assert woken == [True]
    theirs.close()


def test_segment_of_an_older_version_that_is_still_understood_is_read_and_no_writer_adopts_it(
    prefix: str, camera: FrameReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that readers can change before writers; see `layout.OLDEST`."""
    leave(prefix)
    monkeypatch.setattr(layout, "VERSION", layout.VERSION + 1)
    old = Segment.attach(path_of(prefix, "cam"))
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        assert old.retired
        assert newest(camera) == (1, 1)
        assert layout_version(path_of(prefix, "cam")) == layout.VERSION
        monkeypatch.setattr(layout, "OLDEST", layout.VERSION + 1)
        monkeypatch.setattr(layout, "VERSION", layout.VERSION + 1)
        with (
            FrameReader("cam", prefix=prefix) as newer,
            pytest.raises(SegmentFormatError, match="layout is version 2"),
        ):
            newer.latest()
    old.close()


@pytest.mark.parametrize("kind", ["fifo", "directory", "socket", "link to a segment", "dangling link"])
def test_what_is_no_regular_file_is_refused(prefix: str, camera: FrameReader, kind: str) -> None:
    path = Path(path_of(prefix, "cam"))
    with FrameWriter("other", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as other:
        put(other, 1)
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "directory":
            path.mkdir()
        elif kind == "socket":
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))
        else:
            path.symlink_to(path_of(prefix, "other" if "segment" in kind else "nothing"))
        with in_thread(lambda: camera.latest(timeout=1)) as outcome:
            pass
        assert isinstance(outcome[0], SegmentError)
        assert str(path) in str(outcome[0])
        try:
            FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix).close()
        except SegmentError as error:
            assert str(path) in str(error)  # noqa: PT017  a writer may replace it or refuse it
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        assert other.frames == 1


WRONG = {
    "slots": (0, 1, 3, 17, 0xFFFFFFFF),
    "pixel_format": (0, 2, 3, 0xFFFFFFFF),
    "width": (0, 1, 130, 0x10000, 0xFFFFFFFF),
    "height": (0, 1, 98, 0xFFFFFFFF),
    "slot_offset": (0, 4095, 1 << 63, (1 << 64) - 1),
    "slot_size": (0, 4096, 1 << 40, (1 << 64) - 1),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_damaged_field_is_refused_by_readers_and_replaced_by_a_writer(
    prefix: str, camera: FrameReader, field: str, value: int
) -> None:
    leave(prefix, **{field: value})
    with pytest.raises(SegmentFormatError, match=rf"^{path_of(prefix, 'cam')}: damaged"):
        camera.latest()
    assert camera_statuses(prefix, {})[0].state == "down"
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        assert newest(camera)[1] == 1


@pytest.mark.parametrize("width", [1 << 31, (1 << 32) - 1])
@pytest.mark.parametrize("pixel_format", [1, 2])
def test_damaged_size_of_a_segment_whose_size_is_not_known_is_refused(
    prefix: str, camera: FrameReader, width: int, pixel_format: int
) -> None:
    """Sizes that overflow the header once ended in an OverflowError."""
    leave(prefix, slots=0, width=width, height=width, pixel_format=pixel_format)
    with pytest.raises(SegmentFormatError, match="damaged"):
        camera.latest()
    os.unlink(path_of(prefix, "cam"))


@pytest.mark.parametrize("plane", range(3))
@pytest.mark.parametrize("word", range(6))
def test_damaged_plane_is_refused(prefix: str, camera: FrameReader, plane: int, word: int) -> None:
    leave(prefix)
    damage(prefix, offset_of("planes") + plane * 24 + word * 4, (0x10001).to_bytes(4, "little"))
    with pytest.raises(SegmentFormatError, match="damaged: planes"):
        camera.latest()
    os.unlink(path_of(prefix, "cam"))


@pytest.mark.parametrize("value", [2, 15, 16, 0xFFFFFFFE])
def test_damaged_newest_is_refused_until_a_writer_mends_it(prefix: str, camera: FrameReader, value: int) -> None:
    leave(prefix)
    assert newest(camera) == (1, 1)
    damage(prefix, offset_of("newest"), value.to_bytes(4, "little"))
    with pytest.raises(SegmentFormatError, match=rf"\.cam: damaged: its newest slot is {value} of 2"):
        camera.latest()
    assert camera_statuses(prefix, {})[0].age_s is None
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 2)
        assert newest(camera) == (2, 2)


@pytest.mark.parametrize(("word", "value"), [(32, 0), (32, 7), (44, 2), (44, 0xFFFFFFFF)])
def test_damaged_record_is_refused_and_its_pin_given_back(
    prefix: str, camera: FrameReader, word: int, value: int
) -> None:
    leave(prefix)
    damage(prefix, 2048 + word, value.to_bytes(4, "little"))
    with pytest.raises(SegmentFormatError, match=r"\.cam: damaged: frame 1 has matrix"):
        camera.latest(max_age=None)
    assert pinned(prefix, "cam") == []
    os.unlink(path_of(prefix, "cam"))


@pytest.mark.parametrize("length", [PAGE, PAGE + 1, PAGE + 4, Geometry(WIDTH, HEIGHT, "yuv420p", 2).nbytes - 1])
def test_truncated_segment_is_refused_and_replaced(prefix: str, camera: FrameReader, length: int) -> None:
    leave(prefix)
    os.truncate(path_of(prefix, "cam"), length)
    with pytest.raises(SegmentFormatError, match=f"{length} bytes long"):
        camera.latest()
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        assert newest(camera) == (1, 1)


@pytest.mark.parametrize("offset", range(0, 512, 4))
def test_no_damaged_word_of_the_header_crashes_a_reader(prefix: str, camera: FrameReader, offset: int) -> None:
    for value in (b"\xff\xff\xff\xff", b"\0\0\0\x80", b"\0\0\0\0"):
        leave(prefix)
        damage(prefix, offset, value)
        try:
            camera.latest(timeout=0).release()
        except (SegmentFormatError, FrameUnavailableError) as error:
            assert str(error)  # noqa: PT017  either may be right; nothing else may come
        camera_statuses(prefix, {})
        os.unlink(path_of(prefix, "cam"))


def test_error_text_that_is_no_utf8_is_shown_all_the_same(prefix: str) -> None:
    leave(prefix)
    damage(prefix, offset_of("error"), b"\xff" * 256)
    assert camera_statuses(prefix, {})[0].error
    os.unlink(path_of(prefix, "cam"))


def test_long_error_text_is_cut_between_characters(writer: FrameWriter, camera: FrameReader) -> None:
    writer.describe(error="x" + "像" * 100)
    assert f"({'x' + '像' * 85})" in str(unavailable(camera, None, 0))


@pytest.mark.parametrize("field", ["seq", "frames"])
def test_damaged_counter_that_no_writer_could_go_on_from_is_started_anew(prefix: str, field: str) -> None:
    with FrameWriter("cam", 64, 48, "yuv420p", prefix=prefix) as first:
        first._segment.header[field] = 2**64 - 1
        first._segment.close()  # as if it had been killed
        with FrameWriter("cam", 64, 48, "yuv420p", prefix=prefix) as second:
            assert second.write([np.zeros(view.shape, np.uint8) for view in second._segment.planes[0]])
            assert second.frames == 1
        first._closed = True
