"""Files in shared memory that belong to somebody else: never adopted, never read, and in nobody's way for long."""

import os
import pwd
from collections.abc import Callable, Iterator

import pytest

from framesrv import FrameReader, FrameWriter, SegmentFormatError, SegmentOwnerError, camera_status
from framesrv.segment import locks, owner
from framesrv.segment.layout import PAGE
from framesrv.segment.mapping import Segment
from tests.segment.observing import newest
from tests.support.segment_programs import HEIGHT, WIDTH, path_of, put
from tests.support.users import ALICE, BOB, as_user, needs_root


def forge(path: str) -> None:
    """A segment as a decoder would make it, that anybody may read and write."""
    prefix, _, code = path.rpartition("/")[2].partition(".")
    writer = FrameWriter(code, WIDTH, HEIGHT, "yuv420p", prefix=prefix, mode=0o666)
    put(writer, 1)  # and its process ends, with the segment in place


def write(path: str) -> None:
    with open(path, "wb") as file:
        file.write(b"not a segment")
        os.fchmod(file.fileno(), 0o666)


STRANGERS: dict[str, Callable[[str], object]] = {
    "segment": forge,
    "file": write,
    "directory": lambda path: os.makedirs(f"{path}/full/of/things"),
    "pipe": lambda path: os.mkfifo(path, 0o666),
    "link": lambda path: os.symlink("/etc/passwd", path),
}


@pytest.fixture
def path(prefix: str) -> Iterator[str]:
    """Of a segment whose name BOB has taken."""
    yield path_of(prefix, "cam")
    FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix).close()  # root takes it away


@needs_root
@pytest.mark.parametrize("kind", STRANGERS)
def test_what_a_stranger_made_is_neither_read_nor_adopted_and_root_takes_it_away(
    prefix: str, path: str, kind: str
) -> None:
    as_user(BOB, lambda: STRANGERS[kind](path))

    def read() -> None:
        with FrameReader("cam", prefix=prefix) as reader:
            reader.latest(max_age=None, timeout=0.2)

    def open_writer() -> None:
        FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix)

    for user in (ALICE, 0):
        if kind in ("segment", "file", "pipe"):
            with pytest.raises(
                SegmentOwnerError, match=f"belongs to {BOB}, who is neither this user nor framesrv-cam"
            ):
                as_user(user, read)
        else:
            with pytest.raises(Exception, match=r"cannot be read|belongs to"):
                as_user(user, read)
        status = as_user(user, lambda: camera_status(prefix, "cam"))
        assert (status.state, status.frames) == ("down", 0)
        assert status.error
    with pytest.raises(SegmentOwnerError, match=f"belongs to {BOB}, and only root can take it away"):
        as_user(ALICE, open_writer)
    assert os.lstat(path).st_uid == BOB
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 7)
        with FrameReader("cam", prefix=prefix) as reader:
            assert newest(reader) == (1, 7)
    assert not any(name.startswith((f"{prefix}.", f".{prefix}.")) for name in os.listdir("/dev/shm"))
    assert os.path.isfile("/etc/passwd")


def test_what_a_killed_writer_left_under_a_passing_name_is_removed(prefix: str) -> None:
    path = f"/dev/shm/.{prefix}.cam.0123456789abcdef"
    write(path)
    other = f"/dev/shm/.{prefix}.cam2.0123456789abcdef"
    write(other)
    Segment.remove_abandoned(prefix, "cam")
    assert not os.path.exists(path)
    os.unlink(other)


@needs_root
def test_stranger_that_holds_its_forged_segment_keeps_root_from_nothing(prefix: str, path: str) -> None:
    as_user(BOB, lambda: forge(path))
    held = os.open(path, os.O_RDWR)
    try:
        assert locks.lock_exclusive(held, 0)  # as a live writer does
        with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
            assert put(writer, 1)
    finally:
        os.close(held)


@needs_root
def test_reader_trusts_the_owner_that_it_names_and_no_other(prefix: str, path: str) -> None:
    as_user(BOB, lambda: forge(path))
    for user in (BOB, str(BOB)):
        with FrameReader("cam", prefix=prefix, owner=user) as reader:
            assert newest(reader) == (1, 1)
        assert camera_status(prefix, "cam", owner=user).frames == 1
    with (
        FrameReader("cam", prefix=prefix, owner=ALICE) as reader,
        pytest.raises(SegmentOwnerError, match=f"belongs to {BOB}, not to {ALICE}"),
    ):
        reader.latest(max_age=None)
    with pytest.raises(ValueError, match="no user 'no-such-user'"):
        FrameReader("cam", prefix=prefix, owner="no-such-user")
    assert "no user 'no-such-user'" in camera_status(prefix, "cam", owner="no-such-user").error


@needs_root
def test_reader_trusts_the_user_that_the_cameras_unit_runs_as(
    prefix: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_user(BOB, lambda: forge(path))
    entry = pwd.struct_passwd(("framesrv-cam", "x", BOB, BOB, "", "/", "/bin/false"))
    monkeypatch.setattr("pwd.getpwuid", lambda _: entry)
    with FrameReader("cam", prefix=prefix) as reader:
        assert newest(reader) == (1, 1)
    monkeypatch.setattr("pwd.getpwuid", lambda _: pwd.struct_passwd(("framesrv-other", *entry[1:])))
    with FrameReader("cam", prefix=prefix) as reader, pytest.raises(SegmentOwnerError):
        reader.latest(max_age=None)


def test_each_camera_has_a_user_that_systemd_can_make() -> None:
    codes = ["34020000001320000001", "cam-1", "snapd", "a.b", "x" * 64, "-", "x" * 22, "x" * 23]
    names = [owner.service_user(code) for code in codes]
    assert names[:2] == ["framesrv-34020000001320000001", "framesrv-cam-1"]
    assert len(set(names)) == len(codes)
    assert "framesrv-snapd" not in names
    assert all(len(name) <= 31 and "." not in name for name in names)


def test_segment_whose_space_is_not_reserved_is_not_read(prefix: str) -> None:
    """Its pages would take memory when they are looked at, or end the reader where there is none."""
    path = path_of(prefix, "cam")
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        put(writer, 1)
        with open(path, "rb") as file:
            header = file.read(PAGE)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.ftruncate(fd, 1 << 40)
        os.pwrite(fd, header, 0)
        with FrameReader("cam", prefix=prefix) as reader, pytest.raises(SegmentFormatError, match="4096 bytes long"):
            reader.latest(max_age=None)
        with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
            assert put(writer, 1)
            assert not os.path.samestat(os.fstat(fd), os.stat(path))
    finally:
        os.close(fd)
