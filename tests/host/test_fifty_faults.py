"""Fifty configurations with one fault each: health names it, nothing else is touched, mending and a sync heal."""

from collections.abc import Iterator

import pytest

from tests.support.fault_trial import attempt, booted, surroundings
from tests.support.faults import Case, World, cases
from tests.support.site import Site
from tests.support.systemd import obstacle

OBSTACLE = obstacle()
pytestmark = [
    pytest.mark.skipif(bool(OBSTACLE), reason=f"no systemd can be booted here: {OBSTACLE}"),
    pytest.mark.timeout(180),
]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with booted(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with surroundings() as found:
        yield found


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.id)
def test_fault_is_named_first_touches_nothing_else_and_heals(host: Site, world: World, case: Case) -> None:
    attempt(host, world, case)


def test_there_are_fifty_and_each_kind_is_among_them() -> None:
    assert len(cases()) == 50
    assert [case.id for case in cases()] == [case.id for case in cases()], "the seed is fixed"
    assert len({case.kind.name for case in cases()}) > 40
