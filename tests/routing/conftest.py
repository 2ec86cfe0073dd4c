"""A stream with its group, two cameras, and hosts and routers to be started."""

import pytest

from tests.support.edge import GROUP, STREAM, Edge


@pytest.fixture
def edge(edge: Edge) -> Edge:
    edge.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    edge.camera("cam01")
    edge.camera("cam02")
    return edge


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A router that has just begun knows already who is dead, and nobody waits for long."""
    monkeypatch.setattr("snapd.routing.registry.LEASE", 0.2)
    monkeypatch.setattr("snapd.requests.stream.BLOCK", 0.2)
    monkeypatch.setattr("snapd.requests.stream.RETURN_AFTER", 0.3)
