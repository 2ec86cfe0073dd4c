"""A writer and a reader of one camera, for the tests of this room."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from framesrv import FrameReader, FrameWriter
from tests.support import c_programs as c
from tests.support.segment_programs import HEIGHT, WIDTH


@pytest.fixture
def writer(prefix: str) -> Iterator[FrameWriter]:
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as opened:
        yield opened


@pytest.fixture
def camera(prefix: str) -> Iterator[FrameReader]:
    with FrameReader("cam", prefix=prefix) as opened:
        yield opened


@pytest.fixture
def c_reader() -> Path:
    return c.compiled(c.READER)


@pytest.fixture
def start_c(prefix: str) -> Iterator[Callable[..., c.Running]]:
    """Programs on camera "cam", killed at the end of the test."""
    running: list[c.Running] = []

    def begin(program: Path, mode: str, *words: str) -> c.Running:
        running.append(c.Running(program, mode, prefix, "cam", *words))
        return running[-1]

    yield begin
    for program in running:
        program.__exit__()
