"""Files that appear whole or not at all."""

import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from framesrv.process.atomic import ABANDONED, DRAFT, sweep, write_file
from tests.support.users import READERS, needs_root


def test_file_is_replaced_whole_with_its_permissions(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("before")
    before = os.umask(0o077)
    try:
        write_file(file, b"after", mode=0o644)
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
        write_file(file, b"again")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600  # as the umask has it
    finally:
        os.umask(before)
    assert file.read_bytes() == b"again"
    assert list(tmp_path.iterdir()) == [file]


@needs_root
def test_file_is_its_groups_before_it_has_its_name(tmp_path: Path) -> None:
    write_file(tmp_path / "file", b"content", mode=0o640, group=READERS)
    status = (tmp_path / "file").stat()
    assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (0, READERS, 0o640)


def test_file_that_cannot_be_written_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "place").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_file(tmp_path / "place", b"content")
    assert [path.name for path in tmp_path.iterdir()] == ["place"]


def test_symbolic_link_in_its_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("untouched")
    (tmp_path / "below").mkdir()
    (tmp_path / "below/link").symlink_to(outside)
    directory = os.open(tmp_path / "below", os.O_RDONLY | os.O_DIRECTORY)
    try:
        write_file("link", b"content", directory=directory)
    finally:
        os.close(directory)
    assert outside.read_text() == "untouched"
    assert (tmp_path / "below/link").read_bytes() == b"content"


def test_durable_file_is_synced_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def synced(fd: int) -> None:
        done.append(os.readlink(f"/proc/self/fd/{fd}"))
        fsync(fd)

    def replaced(*names: Any, **keys: Any) -> None:
        done.append("replace")
        replace(*names, **keys)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_file(tmp_path / "file", b"content", durable=True)
    draft, renamed, directory = done
    assert (Path(draft).name.startswith(DRAFT), renamed, directory) == (True, "replace", str(tmp_path))


def test_sweep_removes_drafts_that_nobody_writes_any_more_and_nothing_else(tmp_path: Path) -> None:
    for name, age in (("old.tmp", ABANDONED + 60), ("new.tmp", 0.0), ("old.jpg", ABANDONED + 60)):
        file = tmp_path / f"{DRAFT}{name}"
        file.touch()
        os.utime(file, (time.time() - age,) * 2)
    directory = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert sweep(directory) == 1
    finally:
        os.close(directory)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{DRAFT}new.tmp", f"{DRAFT}old.jpg"]
