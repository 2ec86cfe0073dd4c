"""snapd with its pages, for the tests of this room."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.edge import Edge
from tests.support.pages import Shown, shown


@pytest.fixture
def pages(edge: Edge, tmp_path: Path) -> Iterator[Shown]:
    edge.camera("cam01", 640, 480)
    with shown(edge, tmp_path) as program:
        yield program
