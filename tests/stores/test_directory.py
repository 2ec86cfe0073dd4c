"""Pictures in a directory, which no request can leave."""

import os
import re
import resource
import time
from pathlib import Path

import pytest

from framesrv.process.atomic import ABANDONED, DRAFT
from snapd.errors import StoreError
from snapd.stores.directory import DirectoryStore


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


def test_directory_store_replaces_whatever_stands_in_the_place_of_a_picture(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "kept"
    root.mkdir()
    outside.write_bytes(b"kept")
    os.link(outside, root / "hard.jpg")
    os.mkfifo(root / "fifo.jpg")
    (root / "dangling.jpg").symlink_to(tmp_path / "nowhere")
    (root / "read-only.jpg").touch(0o400)
    store = DirectoryStore(str(root))
    for name in ("hard.jpg", "fifo.jpg", "dangling.jpg", "read-only.jpg"):
        store.put(name, b"jpeg")
        assert (root / name).read_bytes() == b"jpeg"
        assert not (root / name).is_symlink()
    assert outside.read_bytes() == b"kept"
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize(
    "key", ["fifo/a.jpg", "sub", "x" * 256, "快" * 86, "a/" + "x" * 256, "dangling/a", "a\ud800", "a\0"]
)
def test_directory_store_says_no_to_what_cannot_be_written(tmp_path: Path, key: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "sub").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(StoreError):
        DirectoryStore(str(tmp_path)).put(key, b"jpeg")
    assert sorted(file for file in tmp_path.iterdir() if file.name != "a") == before


@pytest.mark.parametrize("key", ["x" * 255, "快" * 85, "/".join("a" * 425), "a.tmp"])
def test_directory_store_takes_names_as_long_as_there_may_be(tmp_path: Path, key: str) -> None:
    DirectoryStore(str(tmp_path)).put(key, b"jpeg")
    assert (tmp_path / key).read_bytes() == b"jpeg"


def test_directory_store_removes_what_a_killed_snapd_has_left_half_written(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    abandoned = tmp_path / "a" / f"{DRAFT}0123456789abcdef.tmp"
    abandoned.touch()
    os.utime(abandoned, (time.time() - ABANDONED - 60,) * 2)
    DirectoryStore(str(tmp_path)).put("a/b.jpg", b"1")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.jpg"]


def test_disk_that_has_room_for_names_alone_cannot_be_written(tmp_path: Path) -> None:
    """An empty file finds room on a full disk, a picture does not; stood in for by the limit of a file's size."""
    store = DirectoryStore(str(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StoreError, match=f"{tmp_path} cannot be written: File too large"):
            store.check()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    assert re.search(r"can be written, [0-9]+ bytes free$", store.check())
