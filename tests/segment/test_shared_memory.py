"""Shared memory that others may not use, or that is too small."""

import errno
import grp
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from framesrv import FrameWriter, SegmentError
from framesrv.segment.layout import Geometry
from framesrv.segment.mapping import Segment
from tests.support import segment_programs as programs
from tests.support.segment_programs import HEIGHT, WIDTH, Process, path_of, put

ROOT = os.geteuid() == 0
STRANGER = 65534  # a user that is neither root nor in any group of the tests'


@pytest.mark.skipif(not ROOT, reason="becoming another user needs root")
def test_only_members_of_the_group_may_read_and_they_may_not_write(
    prefix: str, start: Callable[..., Process]
) -> None:
    group = next(one for one in grp.getgrall() if one.gr_gid not in (0, STRANGER))
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix, mode=0o640, group=group.gr_name) as writer:
        put(writer, 1)
        status = os.stat(path_of(prefix, "cam"))
        assert (status.st_mode & 0o777, status.st_gid) == (0o640, group.gr_gid)

        outside = start(programs.read_as, prefix, "cam", STRANGER, [])
        refused = outside.answer()
        assert refused.endswith("cannot be read: Permission denied; readers must be in the segment's group")
        assert "belongs to root, and only root can take it away" in outside.answer()

        inside = start(programs.read_as, prefix, "cam", STRANGER, [group.gr_gid])
        assert inside.answer() == 1
        assert "belongs to root, and only root can take it away" in inside.answer()


def test_writer_that_cannot_admit_its_readers_lets_another_one_try(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failed attempt once kept its lock for as long as the process lived."""
    left = Segment.make(path_of(prefix, "cam"), Geometry(WIDTH, HEIGHT, "yuv420p", 2), 0o600, None)
    left.close()
    with monkeypatch.context() as patched:
        patched.setattr("framesrv.segment.access.admit", refuse)
        with pytest.raises(SegmentError, match="cannot be given to group 1"):
            FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix, group=grp.getgrgid(1).gr_name)
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
        assert put(writer, 1)


def refuse(*_: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _in_four_megabytes(*command: str) -> subprocess.CompletedProcess[str]:
    """Runs a command that sees a /dev/shm of 4 MB of its own."""
    mount = "mount -t tmpfs -o size=4m tmpfs /dev/shm && exec"
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{mount} "$@"', "sh", *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def _no_mounts() -> str:
    """Why no file system can be mounted here; empty if one can."""
    if not ROOT:
        return "a private /dev/shm needs root"
    tried = _in_four_megabytes("true")
    return f"no /dev/shm of 4 MB can be mounted: {tried.stderr.strip()}" if tried.returncode else ""


NO_MOUNTS = _no_mounts()
needs_mounts = pytest.mark.skipif(bool(NO_MOUNTS), reason=NO_MOUNTS)


@needs_mounts
def test_writer_in_too_small_a_shm_names_the_bytes_needed_and_free(prefix: str) -> None:
    program = f"""
        import os
        from framesrv import FrameWriter, SegmentSpaceError
        try:
            FrameWriter("cam", 1920, 1080, "yuv420p", prefix="{prefix}")
        except SegmentSpaceError as error:
            print(error)
        print(os.listdir("/dev/shm"))
        with FrameWriter("cam", 640, 480, "yuv420p", prefix="{prefix}") as writer:
            try:
                writer.resize(1920, 1080, "yuv420p")
            except SegmentSpaceError as error:
                print(error)
        with FrameWriter("cam", 640, 480, "yuv420p", prefix="{prefix}") as writer:
            with writer.next() as slot:
                slot.planes[0][:] = 1
            print(writer.frames)
        print(os.listdir("/dev/shm"))
    """
    run = _in_four_megabytes(sys.executable, "-c", textwrap.dedent(program))
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    needed = Geometry(1920, 1080, "yuv420p", 2).nbytes
    assert f"{prefix}.cam needs {needed} bytes of shared memory, /dev/shm has {4 << 20} bytes free" in lines[0]
    assert lines[1] == "[]"
    assert f"needs {needed} bytes" in lines[2]
    assert lines[3:] == ["1", "[]"]


@needs_mounts
def test_decoder_in_too_small_a_shm_says_so_and_goes_on_when_there_is_room(prefix: str, tmp_path: Path) -> None:
    config = tmp_path / "framesrv.toml"
    config.write_text(f'[shm]\nprefix = "{prefix}"\n[[camera]]\ncode = "cam"\nsource = "test:1920x1080@5"\n', "utf-8")
    program = f"""
        import subprocess, sys, time
        from pathlib import Path
        from framesrv import camera_status
        def wait_for(what):
            deadline = time.monotonic() + 30
            while not what(camera_status("{prefix}", "cam")):
                assert time.monotonic() < deadline, camera_status("{prefix}", "cam")
                time.sleep(0.05)
        command = [sys.executable, "-m", "framesrv", "decode", "cam", "--config", {str(config)!r}]
        with subprocess.Popen(command) as decoder:
            wait_for(lambda status: status.error)
            status = camera_status("{prefix}", "cam")
            print(status.state, status.error)
            maps = Path(f"/proc/{{decoder.pid}}/maps")  # each attempt left a segment mapped, and its file open
            wait_for(lambda status: status.attempts >= 2 and maps.read_text().count(" /dev/shm/") == 1)
            subprocess.run(["mount", "-o", "remount,size=16m", "/dev/shm"], check=True)
            wait_for(lambda status: status.state == "live")
            decoder.terminate()
        print(decoder.returncode)
    """
    run = _in_four_megabytes(sys.executable, "-c", textwrap.dedent(program))
    assert run.returncode == 0, run.stderr
    said, status = run.stdout.splitlines()
    assert said.startswith(f"connecting {prefix}.cam needs ")
    assert " bytes of shared memory, /dev/shm has " in said
    assert status == "0"
    assert f"{prefix}.cam needs " in run.stderr
    assert "Traceback" not in run.stderr
