"""Files that appear whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from framesrv.process.atomic import write_file


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
