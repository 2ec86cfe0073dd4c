"""A history and its readers, for the tests of this room."""

from collections.abc import Callable, Iterator

import pytest

from framesrv import FrameReader, History
from framesrv.history.writer import HistoryWriter


@pytest.fixture
def kept(prefix: str) -> Iterator[Callable[..., HistoryWriter]]:
    """Makes the writer of camera "cam": its seconds, and its bytes."""
    made: list[HistoryWriter] = []

    def make(seconds: float = 10.0, nbytes: int = 8_000_000) -> HistoryWriter:
        made.append(HistoryWriter("cam", seconds, nbytes, prefix=prefix))
        return made[-1]

    yield make
    for writer in made:
        writer.close()


@pytest.fixture
def history(prefix: str) -> Iterator[History]:
    with History("cam", prefix=prefix) as opened:
        yield opened


@pytest.fixture
def camera(prefix: str) -> Iterator[FrameReader]:
    with FrameReader("cam", prefix=prefix) as opened:
        yield opened
