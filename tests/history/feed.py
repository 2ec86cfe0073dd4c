"""A camera of the past: its RTP packets go into a history at once, each as if it had come at its own time."""

import random
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av

from framesrv.camera.policy import Policy
from framesrv.camera.sources.decoding import Decoding
from framesrv.camera.sources.rtsp.stream import Stream
from framesrv.codec.damage import Damage
from framesrv.codec.presentation import Presentation
from framesrv.history.writer import HistoryWriter
from tests.camera.rtsp.feed import Track as Described
from tests.support.rtsp_track import TICKS, Track
from tests.support.sink import Counts

NTP_EPOCH = 2_208_988_800  # 1970 in seconds since 1900
START = 0xFFF0_0000  # of time stamps, which soon begin anew


@dataclass
class Fed:
    """What was fed.

    Attributes:
        lost: packets of RTP that were left out.
        packets: of RTP, all.
        step: ticks from one picture to the next.
    """

    lost: int
    packets: int
    step: int

    def index(self, pts: int) -> int:
        """The picture's number in its video."""
        return pts // self.step


def feed(
    writer: HistoryWriter,
    video: Path,
    *,
    loss: float = 0.0,
    clock: bool = False,
    policy: str = "demand",
    presentation: Presentation | None = None,
    rounds: int = 1,
    seed: int = 1,
) -> Fed:
    """Feeds a video, whose last picture has just come.

    Args:
        writer: of the history.
        video: file.
        loss: share of the RTP packets that is left out, never one of the first picture.
        clock: the camera tells its own, by a sender report before the first picture.
        policy: what of it is decoded meanwhile.
        presentation: see `Keeping`.
        rounds: how often it is played.
        seed: of the loss.
    """
    track = Track(video)
    chance, sequence, lost, total = random.Random(seed), 65_000, 0, 0
    codec: Any = av.CodecContext.create(track.codec, "r")
    stream = Stream(Described(track.codec), keeps_order=True)  # type: ignore[arg-type]
    units = track.units * rounds
    begin = time.monotonic_ns() - int(len(units) * track.interval * 1e9)
    with Damage() as damage:
        decoding = Decoding(codec, presentation or Presentation(), Policy(policy), damage, Counts(), None, writer)
        if clock:
            report = _report(time.time() - (time.monotonic_ns() - begin) / 1e9)
            list(stream.take([memoryview(report)], begin, is_rtcp=True))
        for number, unit in enumerate(units):
            arrived = begin + int(number * track.interval * 1e9)
            stamp = START + number * track.step + unit.shift & 0xFFFF_FFFF
            for payload, last in unit.payloads:
                data = struct.pack(">BBHII", 0x80, 96 | last << 7, sequence & 0xFFFF, stamp, 77) + payload
                sequence, total = sequence + 1, total + 1
                if number and chance.random() < loss:
                    lost += 1
                    continue
                for packet, arrival in stream.take([memoryview(data)], arrived, is_rtcp=False):
                    if stream.size != decoding.size:
                        decoding.size = stream.size
                    decoding.frames(packet, arrival)
    return Fed(lost, total, track.step)


def _report(unix: float) -> bytes:
    """A sender report (RFC 3550, 6.4.1): the time stamp of the first picture was that of `unix`."""
    return struct.pack(">BBHIIIIII", 0x80, 200, 6, 77, int(unix) + NTP_EPOCH, int(unix % 1 * 2**32), START, 1, 1)


assert Described("h264").clock_rate == TICKS
