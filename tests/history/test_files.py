"""A history's file: gone on with, replaced, removed, cut short, damaged and overtaken; its readers notice."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from framesrv import (
    History,
    HistoryUnavailableError,
    SegmentFormatError,
    SegmentSpaceError,
)
from framesrv.history import layout
from framesrv.history.abandoned import remove_abandoned
from framesrv.history.file import HistoryFile, history_path
from framesrv.history.writer import HistoryWriter
from framesrv.segment.layout import Clock
from tests.history.test_ring import moment, numbers, put
from tests.support.segment_programs import Process


def test_the_next_writer_goes_on_with_what_a_killed_one_left(
    kept: Callable[..., HistoryWriter], history: History, start: Callable[..., Process], prefix: str
) -> None:
    dying = start(write_some, prefix)
    assert dying.answer() == 15
    dying.kill()
    assert numbers(history, moment(0)) == list(range(15))  # and until then it can be read
    writer = kept()
    put(writer, 20)
    found = history.packets(moment(0))
    assert [packet.number for packet in found] == list(range(1, 17))
    assert found[-1].stream == found[0].stream + 1
    other = kept  # another extent is made anew
    writer.close()
    other(seconds=3.0)
    with pytest.raises(HistoryUnavailableError):
        history.span()


def write_some(pipe: Any, prefix: str) -> None:
    writer = HistoryWriter("cam", 10.0, 8_000_000, prefix=prefix)
    for number in range(15):
        put(writer, number)
    pipe.send(15)
    pipe.recv()


def test_readers_attach_anew_where_a_history_was_replaced_or_removed(
    kept: Callable[..., HistoryWriter], history: History, prefix: str
) -> None:
    writer = kept()
    put(writer, 0)
    assert numbers(history, moment(0)) == [0]
    Path(history_path(prefix, "cam")).unlink()
    with pytest.raises(HistoryUnavailableError):
        history.span()
    writer.keep_name()
    put(writer, 10)
    assert numbers(history, moment(10)) == [10]
    writer.close()
    with pytest.raises(HistoryUnavailableError):
        history.span()
    put(kept(), 20)
    assert numbers(history, moment(20)) == [20]


def test_a_history_that_is_cut_short_is_an_error_and_kills_nobody(
    kept: Callable[..., HistoryWriter], history: History, prefix: str
) -> None:
    writer = kept()
    for number in range(20):
        put(writer, number, nbytes=50_000)
    file = history._file()
    os.truncate(history_path(prefix, "cam"), 8192)
    with pytest.raises(SegmentFormatError, match="damaged"):
        history.copied(lambda records: range(len(records)))
    assert file.cut
    put(writer, 20, nbytes=50_000)  # nor its writer, which makes it anew
    writer.keep_name()
    put(writer, 30)
    assert numbers(history, moment(30)) == [30]


@pytest.mark.parametrize("before", [1, 2, 3, 4])
def test_a_history_that_is_written_over_while_it_is_read_is_not_taken_for_damaged(
    before: int, kept: Callable[..., HistoryWriter], history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = kept(seconds=1.0)
    for number in range(20):
        put(writer, number)
    calls, look = 0, HistoryFile.look

    def overtaken(self: HistoryFile) -> None:
        nonlocal calls
        calls += 1
        if calls == before:
            for number in range(20, 2000):  # several times all that there is room for
                put(writer, number)
        look(self)

    monkeypatch.setattr(HistoryFile, "look", overtaken)
    found = history.copied(lambda records: range(len(records)))
    assert found[0].key
    for packet in found:
        assert set(packet.data) == {(packet.pts or 0) // 9000 % 256}


@pytest.mark.parametrize("field", ["magic", "version", "records", "data_offset", "first", "next"])
def test_a_damaged_history_is_an_error_for_readers_and_made_anew_by_the_next_writer(
    field: str, start: Callable[..., Process], kept: Callable[..., HistoryWriter], history: History, prefix: str
) -> None:
    dying = start(write_some, prefix)
    assert dying.answer() == 15
    dying.kill()
    with open(history_path(prefix, "cam"), "r+b") as file:
        file.seek(layout.OFFSETS[field])
        file.write(b"\x63\x63\x63")
    with pytest.raises((SegmentFormatError, HistoryUnavailableError)):
        history.span()
    writer = kept()
    put(writer, 0)
    assert numbers(history, moment(0)) == [0]


def test_what_does_not_fit_into_shared_memory_says_how_to_need_less(
    monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(SegmentSpaceError, match=r"\+history.cam needs .* or lower history or history_bytes"):
        HistoryWriter("cam", 10.0, 8_000_000, prefix=prefix)


def test_what_a_killed_decoder_left_is_removed_and_what_lives_is_not(
    kept: Callable[..., HistoryWriter], start: Callable[..., Process], prefix: str
) -> None:
    dying = start(write_some, prefix)
    assert dying.answer() == 15
    remove_abandoned(prefix, "cam")
    assert Path(history_path(prefix, "cam")).exists()
    dying.kill()
    remove_abandoned(prefix, "cam")
    assert not Path(history_path(prefix, "cam")).exists()


def test_readers_only_read(kept: Callable[..., HistoryWriter], prefix: str) -> None:
    put(kept(), 0)
    file = HistoryFile.attach(history_path(prefix, "cam"))
    with pytest.raises(TypeError, match="read-only"):
        file.data[0] = 1
    file.close()


@pytest.mark.parametrize("clock", ["arrival", "camera"])
def test_a_reader_may_be_forked_and_pickled(
    clock: Clock, kept: Callable[..., HistoryWriter], history: History
) -> None:
    import pickle

    put(kept(), 0, clock=clock)
    assert history.packets(moment(0))[0].clock == clock
    with pickle.loads(pickle.dumps(history)) as other:  # noqa: S301  our own
        assert numbers(other, moment(0)) == [0]
    child = os.fork()
    if not child:
        os._exit(0 if numbers(history, moment(0)) == [0] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert numbers(history, moment(0)) == [0]
