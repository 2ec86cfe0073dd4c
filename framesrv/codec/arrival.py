"""A packet, and how it came."""

from dataclasses import dataclass
from typing import TypeAlias

import av
from av.video.stream import VideoStream

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
    """

    monotonic: int
    unix: int
    captured: int | None = None
    whole: bool = True
    lost: bool = False
