"""What several test modules share: names for segments that nobody else uses, and nothing left behind."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import segment_programs as programs
from tests.support.cos import CosServer
from tests.support.edge import Edge
from tests.support.held_up import HeldUp
from tests.support.redis_server import RedisServer
from tests.support.segment_programs import Process
from tests.support.wvp import WvpServer

SHM = Path("/dev/shm")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "leaves_segment: the test may leave a segment behind; it is removed")


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> Iterator[str]:
    """A prefix of segment names for this test alone; a segment left behind fails the test."""
    unique = f"t{uuid.uuid4().hex[:12]}"
    yield unique
    left = sorted([*SHM.glob(f"{unique}[.+]*"), *SHM.glob(f".{unique}[.+]*")])
    for path in left:
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    if left and request.node.get_closest_marker("leaves_segment") is None:
        pytest.fail(f"left behind: {', '.join(map(str, left))}")


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


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A Redis for all tests of a module."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def edge(redis_server: RedisServer) -> Iterator[Edge]:
    """A host's surroundings, its Redis empty."""
    with CosServer() as cos, WvpServer("/base") as wvp, Edge(redis_server, cos, wvp) as surroundings:
        surroundings.redis.flushall()
        yield surroundings


@pytest.fixture
def held_up() -> Iterator[HeldUp]:
    """How long the machine keeps this test waiting, for assertions about when something comes."""
    with HeldUp() as measured:
        yield measured
