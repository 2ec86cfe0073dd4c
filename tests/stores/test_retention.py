"""How long pictures stay in a directory: what goes, in which order, and what never does."""

import fcntl
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from snapd.errors import StoreError
from snapd.stores.directory import DirectoryStore
from snapd.stores.retention import DAY, EMPTY_FOR, JPEG, Retention
from snapd.telemetry.counters import Counters
from tests.support.edge import Edge, Running, wait_until

CLIP = b"\0\0\0\x20ftypisom" + b"." * 200_000
PICTURE = JPEG + b"." * 200_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", place], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting takes root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def retention(tmp_path: Path) -> Callable[..., Retention]:
    def make(keep: float = 0.0, min_free: float = 0.0, root: Path = tmp_path / "pictures") -> Retention:
        root.mkdir(exist_ok=True)
        return Retention(root, keep, min_free, counters)

    counters = Counters()
    make.removed = lambda: counters.counts()["removed"]  # type: ignore[attr-defined]
    return make


def picture(path: Path, age: float = 10 * DAY, content: bytes = PICTURE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_pictures_older_than_keep_go_and_are_counted(
    tmp_path: Path, retention: Callable[..., Retention], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    root = tmp_path / "pictures"
    old = [picture(root / name) for name in ("a.jpg", "x/b.jpg", "x/y/摄.png")]
    old.append(picture(root / "x/c.mp4", content=CLIP))
    young = [picture(root / name, age=0.9 * DAY) for name in ("c.jpg", "x/d.jpg")]
    retention(keep=1).tidy()
    assert not any(one.exists() for one in old)
    assert all(one.exists() for one in young)
    assert retention.removed() == {"age": 4}  # type: ignore[attr-defined]
    assert [line for line in caplog.messages if "count=4" in line and "why=age" in line]


def test_nothing_goes_where_nothing_is_said_of_it(tmp_path: Path, retention: Callable[..., Retention]) -> None:
    kept = picture(tmp_path / "pictures/a.jpg", age=3650 * DAY)
    retention().tidy()
    assert kept.exists()


def test_nothing_goes_that_snapd_cannot_have_written(
    tmp_path: Path, retention: Callable[..., Retention], disk: Path
) -> None:
    root, outside = tmp_path / "pictures", tmp_path / "outside"
    root.mkdir()
    kept = [
        picture(outside / "of-others.jpg"),
        picture(root / "notes.txt", content=b"no picture"),
        picture(root / "empty.jpg", content=b""),
        picture(root / "linked.jpg"),
        picture(root / "of-another-user.jpg"),
        picture(root / ".framesrv-0123456789abcdef.tmp"),
    ]
    os.link(root / "linked.jpg", outside / "linked.jpg")
    os.chown(root / "of-another-user.jpg", 12345, 12345)
    (root / "link").symlink_to(outside)
    (root / "link.jpg").symlink_to(outside / "of-others.jpg")
    os.mkfifo(root / "pipe.jpg")
    mounted = root / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", "--bind", disk, mounted], check=True)
    try:
        kept += [picture(mounted / "on-another-disk.jpg")]
        picture(root / "ours.jpg")
        retention(keep=1, min_free=0.999999).tidy()
        assert all(one.exists() for one in kept)
    finally:
        subprocess.run(["umount", "-l", mounted], check=True)
    assert (root / "link.jpg").is_symlink()
    assert (root / "pipe.jpg").exists()
    assert not (root / "ours.jpg").exists()


def test_oldest_go_until_there_is_room(disk: Path, retention: Callable[..., Retention]) -> None:
    pictures = [picture(disk / f"{number % 3}/{number}.jpg", age=(100 - number) * 60) for number in range(18)]
    retention(min_free=0.5, root=disk).tidy()
    there = [one.exists() for one in pictures]
    assert there == sorted(there)  # those that are gone are the oldest
    status = os.statvfs(disk)
    assert 0.5 <= status.f_bavail / status.f_blocks < 0.65
    assert retention.removed() == {"space": there.count(False)}  # type: ignore[attr-defined]


def test_of_several_processes_one_at_a_time_makes_room(disk: Path, retention: Callable[..., Retention]) -> None:
    pictures = [picture(disk / f"{number}.jpg") for number in range(18)]
    other = os.open(disk, os.O_RDONLY)
    fcntl.flock(other, fcntl.LOCK_EX)
    tidy = retention(min_free=0.5, root=disk)
    tidy.tidy()
    assert all(one.exists() for one in pictures)
    os.close(other)
    tidy.tidy()
    assert not all(one.exists() for one in pictures)


def test_room_is_made_behind_what_is_no_picture(
    disk: Path, retention: Callable[..., Retention], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("snapd.stores.retention.BATCH", 2)
    notes = [picture(disk / f"{number}.txt", content=b"." * 200_000) for number in range(7)]
    ours = [picture(disk / f"{number}.jpg", age=60) for number in range(8)]
    tidy = retention(min_free=0.5, root=disk)
    tidy.tidy()
    assert all(one.exists() for one in notes)
    assert 0 < sum(one.exists() for one in ours) < 8
    for _ in range(3):
        picture(disk / "more.txt", content=b"." * 2_000_000)
        tidy.tidy()
    assert not any(one.exists() for one in ours)
    assert len([line for line in caplog.messages if "no picture that snapd has written is left" in line]) == 1


def test_empty_directories_go_after_a_day(tmp_path: Path, retention: Callable[..., Retention]) -> None:
    root = tmp_path / "pictures"
    for name, age in (("old", EMPTY_FOR + 60), ("young", 60.0), ("full", EMPTY_FOR + 60)):
        (root / name).mkdir(parents=True)
        if name == "full":
            picture(root / name / "a.jpg", age=60)
        os.utime(root / name, (time.time() - age,) * 2)
    retention(keep=1).tidy()
    assert sorted(one.name for one in root.iterdir()) == ["full", "young"]


def test_store_makes_room_by_itself_while_pictures_come(disk: Path) -> None:
    counters = Counters()
    store = DirectoryStore(str(disk), min_free=0.4, counters=counters)
    store.begin()
    try:
        for number in range(60):  # three times what there is room for
            store.put(f"cam/{number}.jpg", PICTURE)
            wait_until(lambda: os.statvfs(disk).f_bavail >= 0.4 * os.statvfs(disk).f_blocks, 10)
    finally:
        store.close()
    assert (disk / "cam/59.jpg").exists()
    assert counters.counts()["removed"]["space"] >= 40


def test_full_store_says_so_and_what_to_do(disk: Path) -> None:
    for store, remedy in (
        (DirectoryStore(str(disk)), "set store.keep or store.min_free, or free space"),
        (DirectoryStore(str(disk), min_free=0.1), "raise store.min_free, or free space"),
    ):
        (disk / "filler").write_bytes(b"." * (os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize - 100_000))
        with pytest.raises(StoreError) as caught:
            store.put("a.jpg", PICTURE)
        assert caught.value.cause == "full"
        assert f"no space left in {disk}: 0 MB free; {remedy}" in str(caught.value)
        with pytest.raises(StoreError, match="no space left in"):
            store.check()
        (disk / "filler").unlink()
        store.put("a.jpg", PICTURE)


def test_directory_that_vanishes_under_an_upload_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one is removed between its opening and the writing of the picture."""
    store = DirectoryStore(str(tmp_path / "pictures"))
    sweep = DirectoryStore._sweep

    def remove_first(self: DirectoryStore, directory: int) -> None:
        monkeypatch.setattr(DirectoryStore, "_sweep", sweep)
        (tmp_path / "pictures/cam").rmdir()

    monkeypatch.setattr(DirectoryStore, "_sweep", remove_first)
    store.put("cam/a.jpg", PICTURE)
    assert (tmp_path / "pictures/cam/a.jpg").exists()


def test_service_keeps_to_what_is_configured_and_to_a_change_of_it(edge: Edge, tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    old = picture(root / "old.jpg")
    store = {"kind": "dir", "path": str(root)}
    edge.camera("cam01")
    with Running(edge.settings(store=store)) as running:
        assert edge.ask().status == "ok"
        assert old.exists()
        running.service.reload(edge.settings(store=store | {"keep": 5}))
        wait_until(lambda: not old.exists())
        running.service.reload(edge.settings(store=store | {"keep": 0}))
        young = picture(root / "old.jpg")
        assert edge.ask().status == "ok"
    assert young.exists()
