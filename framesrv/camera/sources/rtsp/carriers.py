"""How packets come from a camera: in the RTSP connection, or as datagrams."""

import re
from collections.abc import Callable, Iterator
from typing import Protocol

from framesrv.camera.sources.rtsp.connection import Connection, Incoming
from framesrv.camera.sources.rtsp.description import Track

RTP, RTCP = 0, 1  # channels, as carriers number them
LAST = 255  # channel

_INTERLEAVED = re.compile(r"interleaved\s*=\s*(\d{1,9})(?:\s*-\s*(\d{1,9}))?", re.IGNORECASE)


class Carrier(Protocol):
    """One way of packets."""

    @property
    def wanted(self) -> str:
        """The value of ``Transport`` that asks the camera for it."""

    @property
    def rtp(self) -> int:
        """The channel of RTP."""

    @property
    def rtcp(self) -> int:
        """The channel of RTCP."""

    def agreed(self, transport: str) -> bool:
        """Takes what the camera answers to `wanted`; False if that is another way."""

    def incoming(self) -> Iterator[Incoming]:
        """What comes, in turns as long as `patience` says; see `Connection.incoming`."""

    def patience(self, seconds: float) -> None:
        """The longest wait of one turn."""

    def gather(self, may_wait: Callable[[], bool] | None) -> None:
        """Lets what comes wait for more; see `Connection.gather`."""

    @property
    def newest(self) -> int:
        """When the newest of what has been taken in arrived, in monotonic ns; 0 where nothing waits."""

    def report(self, data: bytes) -> None:
        """Sends a packet of RTCP."""

    def close(self) -> None:
        """Gives back what it has of its own."""


class Interleaved:
    """Packets in the RTSP connection."""

    def __init__(self, connection: Connection, track: Track) -> None:
        self._connection = connection
        self.wanted = f"{track.profile}/TCP;unicast;interleaved=0-1"
        self.rtp, self.rtcp = RTP, RTCP

    def agreed(self, transport: str) -> bool:
        """See `Carrier.agreed`."""
        if match := _INTERLEAVED.search(transport):
            self.rtp = int(match[1])
            self.rtcp = int(match[2] or self.rtp + 1)
            return max(self.rtp, self.rtcp) <= LAST
        return "/tcp" in transport.lower() or not transport

    def incoming(self) -> Iterator[Incoming]:
        """See `Carrier.incoming`."""
        return self._connection.incoming

    def patience(self, seconds: float) -> None:
        """See `Carrier.patience`."""
        self._connection.patience(seconds)

    def gather(self, may_wait: Callable[[], bool] | None) -> None:
        """See `Carrier.gather`."""
        self._connection.gather(may_wait)

    @property
    def newest(self) -> int:
        """See `Carrier.newest`."""
        return self._connection.newest

    def report(self, data: bytes) -> None:
        """See `Carrier.report`."""
        self._connection.packet(self.rtcp, data)

    def close(self) -> None:
        """Has nothing of its own."""
