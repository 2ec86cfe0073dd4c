"""A packet, and how it came."""

from dataclasses import dataclass
from typing import TypeAlias

import av
from av.video.stream import VideoStream

from framesrv.segment.layout import Clock

Packet: TypeAlias = "av.Packet[VideoStream]"


@dataclass(slots=True)
class Arrival:
    """How a packet came; it goes through the codec with it.

    Attributes:
        monotonic: time in nanoseconds at which the host had its first byte.
        unix: the same by the wall clock.
        captured: Unix nanoseconds by the camera's clock, None where it does not tell.
        whole: nothing of it is missing, as far as is known.
        lost: what it may refer to is missing, as far as is known.
        presented: Unix nanoseconds of capture where packets come out of order and the camera does not tell, see
            `codec.presented`.
    """

    monotonic: int
    unix: int
    captured: int | None = None
    whole: bool = True
    lost: bool = False
    presented: int | None = None

    @property
    def captured_ns(self) -> int:
        """Unix nanoseconds of capture as far as is known, that is of arrival else."""
        return self.captured or self.presented or self.unix

    @property
    def clock(self) -> Clock:
        """Of `captured_ns`."""
        return "camera" if self.captured else "arrival"
