"""Who is dead, by signs of life: nobody before Redis has answered for a while."""

import time

import pytest

from framesrv.settings import StreamSettings
from snapd.requests import fleet
from snapd.requests.redis import open_client
from snapd.routing.registry import Hosts, Registry
from tests.support.edge import Edge, wait_until
from tests.support.hosts import beat, stream_of


def test_beat_is_read_as_it_was_written_and_rubbish_is_none() -> None:
    assert fleet.Beat.parse(b"edge1:a:b", b"1500 digest") == fleet.Beat("edge1", "a:b", 1.5, "digest")
    for member, text in ((b"edge1", b""), (b"\xff", b"\xff"), (b"", b"x y")):
        assert fleet.Beat.parse(member, text) is None


def test_one_host_of_two_consumers_lives_while_one_of_them_does() -> None:
    beats = [fleet.Beat("a", "1", 0.0, "x"), fleet.Beat("a", "2", 100.0, "y"), fleet.Beat("b", "1", 0.0, "z")]
    codes = {"x": ("old",), "y": ("new",), "z": ("gone",)}
    hosts = Hosts.of(beats, 101.0, lambda one: codes[one.digest], sure=True)
    assert (hosts.live, hosts.dead, hosts.cameras) == (("a",), ("b",), {"new": ("a",)})
    unsure = Hosts.of(beats, 101.0, lambda one: codes[one.digest], sure=False)
    assert (unsure.live, unsure.dead) == (("a", "b"), ())
    assert unsure.host_of("gone") == "b"


def test_a_host_of_which_nothing_is_heard_yields_to_one_that_was() -> None:
    beats = [fleet.Beat("a", "1", 0.0, "x"), fleet.Beat("b", "1", 100.0, "x")]
    assert Hosts.of(beats, 101.0, lambda _: ("cam",), sure=False).cameras == {"cam": ("b", "a")}


def test_nobody_is_dead_before_redis_has_answered_for_as_long(edge: Edge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("snapd.routing.registry.LEASE", 0.5)
    stream = stream_of(edge, "edge0")
    beat(edge, stream, ["cam01"], ago=60.0)
    with open_client(edge.redis_server.url) as client:
        registry = Registry(client, StreamSettings(), time.time)
        assert registry.look().live == ("edge0",)
        wait_until(lambda: registry.look().dead == ("edge0",))
        for gap in (f"{time.time() - 100} {time.time() - 4}", "", "no times"):  # Redis was away, or has forgotten
            edge.redis.set(fleet.watched_key(stream), gap)
            assert registry.look().live == ("edge0",)
            wait_until(lambda: registry.look().dead == ("edge0",))


def test_router_that_has_just_begun_knows_from_others_who_is_dead(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Routers that were started again and again knew of nobody's death, and what dead hosts had left waited."""
    monkeypatch.setattr("snapd.routing.registry.LEASE", 0.5)
    beat(edge, stream_of(edge, "edge0"), ["cam01"], ago=60.0)
    with open_client(edge.redis_server.url) as client:
        first = Registry(client, StreamSettings(), time.time)
        wait_until(lambda: first.look().dead == ("edge0",))
        for ahead in (0.1, 0.0, 0.1, 0.0):  # what each takes for the time of Redis
            router = Registry(client, StreamSettings(), lambda: time.time() + ahead)  # noqa: B023  called at once
            assert router.look().dead == ("edge0",)


def test_changed_cameras_are_read_anew(edge: Edge) -> None:
    stream = stream_of(edge, "edge0")
    with open_client(edge.redis_server.url) as client:
        registry = Registry(client, StreamSettings(), time.time)
        for codes in (["cam01"], ["cam01", "cam02"], []):
            beat(edge, stream, codes, ago=-60.0)
            assert sorted(registry.look().cameras) == codes
