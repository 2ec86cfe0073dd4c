"""The ways by which packets come, and which of them is taken."""

import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from framesrv.camera.sources.experience import LOSSES, Experience
from framesrv.camera.sources.rtsp.session import Session
from framesrv.errors import SourceError
from framesrv.settings import Camera
from tests.support.footage import footage
from tests.support.odd_camera import OddCamera, OddClient
from tests.support.odd_clients import NothingOverTcp, answering, asked_for
from tests.support.rtsp_server import UdpCarrier
from tests.support.rtsp_track import Track
from tests.support.rtsp_tunnel import RtspTunnel

GROUP = "239.255.77.1"


@pytest.fixture(scope="module")
def video() -> Path:
    return footage(width=640, height=360, gop=25, number=5)


@pytest.fixture(scope="module")
def dense() -> Path:
    """Of as many packets as another of four times its length."""
    return footage(width=640, height=360, gop=25, number=5, noisy=True)


def camera_of(url: str, **keys: Any) -> Camera:
    return Camera(code="cam", source=url, **({"timeout": 5.0} | keys))


def numbers(session: Session, count: int = 100) -> Iterator[int]:
    """The sequence numbers of so many packets of RTP."""
    for one in session.packets():
        for data in one[1] if one is not None and not one[0] else ():
            yield int.from_bytes(data[2:4], "big")
            count -= 1
            if not count:
                return


def missing(session: Session, count: int = 100) -> int:
    """How many of so many packets are not followed by the next."""
    return sum(after != before + 1 & 0xFFFF for before, after in pairwise(numbers(session, count)))


class OverUdpWhateverIsAsked(OddClient):
    """Answers a request for TCP with UDP."""

    def _set_up(self, transport: str) -> str | None:
        answer = "RTP/AVP;unicast;client_port=5000-5001;server_port=6000-6001"
        return answer if "interleaved" in transport else super()._set_up(transport)


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_packets_come_in_order_by_each_way(host: str, transport: str, dense: Path) -> None:
    with OddCamera(dense, host=host) as camera, Session(camera_of(camera.url(), transport=transport)) as session:
        assert session.transport == transport
        assert missing(session) == 0
    assert camera.methods()[-1] == "TEARDOWN"


@pytest.mark.parametrize(
    "kind",
    [
        *(
            answering(status, ways=("tcp",))
            for status in ("461 Unsupported Transport", "406 Not Acceptable", "400 Bad Request", "500 Error")
        ),
        OverUdpWhateverIsAsked,
    ],
    ids=["461", "406", "400", "500", "other"],
)
def test_camera_that_refuses_tcp_is_played_over_udp_and_that_is_remembered(
    kind: type[OddClient], video: Path
) -> None:
    with OddCamera(video, kind) as odd:
        camera = camera_of(odd.url())
        experience = Experience(camera)
        for _ in range(2):
            with Session(camera, experience) as session:
                assert session.transport == "udp"
                assert missing(session, 20) == 0
        assert asked_for(odd) == ["tcp", "udp", "udp"]


def test_camera_that_refuses_every_transport_says_what_it_answers(video: Path) -> None:
    words = "over TCP it answers 461 Unsupported Transport to SETUP; over UDP it answers 461"
    with (
        OddCamera(video, answering("461 Unsupported Transport")) as odd,
        pytest.raises(SourceError, match=words) as caught,
        Session(camera_of(odd.url())),
    ):
        pass
    assert caught.value.cause == "refused"
    assert str(caught.value).count("cannot be opened") == 1


def test_transport_that_is_configured_is_the_only_one(video: Path) -> None:
    with (
        OddCamera(video, answering("461 Unsupported Transport", ways=("tcp",))) as odd,
        pytest.raises(SourceError, match="over TCP it answers 461"),
        Session(camera_of(odd.url(), transport="tcp")),
    ):
        pass
    assert asked_for(odd) == ["tcp"]


def test_camera_that_sends_nothing_over_tcp_is_tried_over_udp(video: Path) -> None:
    with OddCamera(video, NothingOverTcp) as odd:
        camera = camera_of(odd.url(), timeout=1.0)
        experience = Experience(camera)
        with Session(camera, experience) as session, pytest.raises(SourceError, match="for 1 s; UDP is tried"):
            list(numbers(session))
        with Session(camera, experience) as session:
            assert missing(session, 20) == 0
        assert asked_for(odd) == ["tcp", "udp"]


def test_silence_of_a_camera_that_has_sent_over_tcp_does_not_change_the_transport(video: Path) -> None:
    with OddCamera(video) as odd:
        camera = camera_of(odd.url(), timeout=1.0)
        experience = Experience(camera)
        with Session(camera, experience) as session:
            list(numbers(session, 10))
        odd.mode("stall")
        with Session(camera, experience) as session, pytest.raises(SourceError, match=r"no packet for 1 s\Z"):
            list(numbers(session))
        odd.mode("run")
        with Session(camera, experience) as session:
            assert missing(session, 10) == 0
        assert asked_for(odd) == ["tcp", "tcp", "tcp"]


def test_udp_that_loses_packets_is_given_up_for_tcp_once(video: Path) -> None:
    with OddCamera(video, answering("461 Unsupported Transport", ways=("tcp",))) as odd:
        camera = camera_of(odd.url())
        experience = Experience(camera)
        with Session(camera, experience) as session:
            for _ in range(LOSSES - 1):
                session.missed()
            with pytest.raises(SourceError, match="lost: packets are lost over UDP, TCP is tried"):
                session.missed()
        assert experience.ways == ["tcp", "udp"]
        with Session(camera, experience) as session:  # TCP is still refused
            for _ in range(3 * LOSSES):
                session.missed()


def test_burst_of_a_key_frame_over_udp_loses_nothing() -> None:
    class AtOnce(OddClient):
        def _set_up(self, transport: str) -> str | None:
            answer = super()._set_up(transport)
            assert isinstance(self._carrier, UdpCarrier)
            self._carrier.burst = 10_000
            return answer

    large = footage(width=1920, height=1080, frames=50, gop=10, noisy=True, number=5)
    sizes = [sum(len(payload) for payload, _ in unit.payloads) for unit in Track(large).units if unit.key]
    assert max(sizes) > 400_000
    with OddCamera(large, AtOnce) as odd, Session(camera_of(odd.url(), transport="udp")) as session:
        assert missing(session, 5000) == 0


def test_kernel_that_keeps_too_little_is_told_of_once(
    video: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("framesrv.camera.sources.rtsp.datagrams.BUFFER", 1 << 30)
    with OddCamera(video) as odd:
        camera = camera_of(odd.url(), transport="udp")
        experience = Experience(camera)
        for _ in range(2):
            with Session(camera, experience) as session:
                assert missing(session, 5) == 0
    assert caplog.text.count("sysctl net.core.rmem_max=") == 1


def test_datagrams_of_a_stranger_are_left_out(video: Path) -> None:
    class Late(OddClient):
        """Sends its own only after those of the stranger."""

        def _set_up(self, transport: str) -> str | None:
            answer = super()._set_up(transport)
            port = int(transport.partition("client_port=")[2].partition("-")[0])
            with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as stranger:
                stranger.bind(("127.0.0.2", 0))
                for number in range(10):
                    stranger.sendto(struct.pack(">BBHII", 0x80, 96, 50_000 + number, 0, 0), ("127.0.0.1", port))
            return answer

    with OddCamera(video, Late) as odd, Session(camera_of(odd.url(), transport="udp")) as session:
        assert missing(session, 50) == 0


class ToAGroup(OddClient):
    """Sends to a multicast group."""

    says = f"RTP/AVP;multicast;destination={GROUP};port={{0}}-{{1}};ttl=1"

    def _set_up(self, transport: str) -> str | None:
        if "multicast" not in transport:
            return None
        carrier = UdpCarrier("127.0.0.1", 0)
        port = carrier.port + 2
        for one in carrier._sockets:
            one.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        carrier._targets = ((GROUP, port), (GROUP, port + 1))
        self._carrier = carrier
        return self.says.format(port, port + 1)


class Silently(ToAGroup):
    """Names the group nowhere."""

    says = "RTP/AVP;multicast"


def test_group_is_joined_where_that_is_configured(video: Path) -> None:
    with OddCamera(video, ToAGroup) as odd, Session(camera_of(odd.url(), transport="multicast")) as session:
        assert session.transport == "multicast"
        assert missing(session, 50) == 0


def test_two_sessions_have_the_same_group(video: Path) -> None:
    with (
        OddCamera(video, ToAGroup) as odd,
        Session(camera_of(odd.url(), transport="multicast")) as one,
        Session(camera_of(odd.url(), transport="multicast")) as another,
    ):
        assert missing(one, 20) == 0
        assert missing(another, 20) == 0


def test_group_that_nobody_names_is_said_to_be_missing(video: Path) -> None:
    with (
        OddCamera(video, Silently) as odd,
        pytest.raises(SourceError, match="over MULTICAST it answers with another transport"),
        Session(camera_of(odd.url(), transport="multicast")),
    ):
        pass


def test_camera_behind_http_is_played_through_it(dense: Path) -> None:
    with OddCamera(dense) as odd, RtspTunnel(odd.port) as tunnel:
        camera = camera_of(f"rtsp://127.0.0.1:{tunnel.port}/cam?x=1", transport="http")
        with Session(camera) as session:
            assert session.transport == "http"
            assert missing(session, 300) == 0
            session.report(b"\x80\xc9\x00\x01abcd")
        assert odd.methods() == ["OPTIONS", "DESCRIBE", "SETUP", "PLAY", "TEARDOWN"]
        assert [head.partition(b" HTTP")[0] for head in tunnel.heads] == [b"GET /cam?x=1", b"POST /cam?x=1"]


@pytest.mark.parametrize("status", ["404 Not Found", "501 Not Implemented"])
def test_camera_without_a_tunnel_is_said_to_have_none(status: str, video: Path) -> None:
    with (
        OddCamera(video) as odd,
        RtspTunnel(odd.port, status) as tunnel,
        pytest.raises(SourceError, match=f"over HTTP it answers {status} to GET"),
        Session(camera_of(f"rtsp://127.0.0.1:{tunnel.port}/cam", transport="http")),
    ):
        pass
