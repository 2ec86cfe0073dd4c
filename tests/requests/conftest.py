"""A host whose stream has its group, with one camera, for the tests of this room."""

import pytest

from tests.support.edge import GROUP, STREAM, Edge


@pytest.fixture
def edge(edge: Edge) -> Edge:
    edge.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    edge.camera("cam01")
    return edge
