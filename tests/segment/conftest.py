"""A writer and a reader of one camera, for the tests of this room."""

from collections.abc import Callable, Iterator

import pytest

from framesrv import FrameReader, FrameWriter
from tests.support import segment_programs as programs
from tests.support.segment_programs import HEIGHT, WIDTH, Process


@pytest.fixture
def writer(prefix: str) -> Iterator[FrameWriter]:
    with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as opened:
        yield opened


@pytest.fixture
def camera(prefix: str) -> Iterator[FrameReader]:
    with FrameReader("cam", prefix=prefix) as opened:
        yield opened


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """`programs.start`, whose processes are killed at the end of the test."""
    started: list[Process] = []

    def begin(program: Callable[..., None], *arguments: object) -> Process:
        started.append(programs.start(program, *arguments))
        return started[-1]

    yield begin
    for process in started:
        process.kill()
