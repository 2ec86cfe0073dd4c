"""What the commands for a whole host know of histories: their memory, and what killed decoders left."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from framesrv import settings
from framesrv.history.file import history_path
from framesrv.history.writer import HistoryWriter
from framesrv.host import check
from framesrv.host.units import sweeping
from framesrv.segment.file import segment_path
from tests.support import segment_programs as programs
from tests.support.processes import write_config


def needed(tmp_path: Path, prefix: str, **keys: Any) -> int:
    """Bytes of shared memory that `framesrv check` says are needed for one camera."""
    camera = {"code": "cam", "source": "rtsp://127.0.0.1:9/x", **keys}
    file = write_config(tmp_path / "framesrv.toml", {"shm": {"prefix": prefix}}, [camera])
    match = re.match(r"(\d+) bytes needed for 1 cameras", check._shared_memory(settings.load(file, {})).message)
    assert match
    return int(match[1])


def test_check_counts_the_memory_of_histories(tmp_path: Path, prefix: str) -> None:
    without = needed(tmp_path, prefix)
    assert needed(tmp_path, prefix, history=2.5) == without + 6_500_000
    assert needed(tmp_path, prefix, history=2.5, history_bytes=300_000) == without + 300_000
    assert needed(tmp_path, prefix, history=2.5, source="test:2x2@1") == without  # which gives no packets


def write_and_wait(pipe: Any, prefix: str, code: str) -> None:
    HistoryWriter(code, 1.0, 1_000_000, prefix=prefix)
    pipe.send("ready")
    pipe.recv()


def test_sweep_removes_histories_that_nobody_writes_and_no_other(
    prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = SimpleNamespace(shm=SimpleNamespace(prefix=prefix), streams=())
    monkeypatch.setattr("framesrv.host.units.applied.exists", lambda: True)
    monkeypatch.setattr("framesrv.host.units.applied.last", lambda: last)
    writers = {code: programs.start(write_and_wait, prefix, code) for code in ("lives", "killed")}
    assert [writer.answer() for writer in writers.values()] == ["ready"] * 2
    Path(segment_path(prefix, "rubbish")).write_text("no segment")
    writers["killed"].kill()
    assert sweeping.sweep() == []
    assert not Path(history_path(prefix, "killed")).exists()
    assert not Path(segment_path(prefix, "rubbish")).exists()
    assert Path(history_path(prefix, "lives")).exists()
    writers["lives"].kill()
    assert sweeping.sweep(["lives"]) == []
    assert not Path(history_path(prefix, "lives")).exists()


def test_check_tells_of_what_lies_in_the_place_of_a_history(
    tmp_path: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    find: Callable[[settings.Settings], Any] = check._segments
    file = write_config(
        tmp_path / "framesrv.toml", {"shm": {"prefix": prefix}}, [{"code": "cam", "source": "rtsp://127.0.0.1:9/x"}]
    )
    loaded = settings.load(file, {})
    Path(history_path(prefix, "cam")).touch()
    assert find(loaded) == []
    monkeypatch.setattr(check, "_decoder", lambda *_: 12345)
    (found,) = find(loaded)
    assert found.name == "history of cam"
    assert "is in its place and belongs to" in found.message
    Path(history_path(prefix, "cam")).unlink()
