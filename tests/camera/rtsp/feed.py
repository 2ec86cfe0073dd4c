"""Feeds a stream of ours with RTP packets by hand, without a network: each fault exactly where it is wanted."""

import io
import struct
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np

from framesrv.camera.policy import Policy
from framesrv.camera.sources.decoding import Decoding
from framesrv.camera.sources.rtsp.rtp import parse
from framesrv.camera.sources.rtsp.stream import Stream
from framesrv.camera.sources.rtsp.unit import AccessUnit, Assembly, Payload
from framesrv.codec.arrival import Packet
from framesrv.codec.damage import Damage
from framesrv.codec.presentation import Presentation
from framesrv.codec.questions import Questions
from framesrv.codec.trial import Trial
from framesrv.segment import colour
from framesrv.segment.layout import Pixels
from tests.support.rtsp_track import split_nals
from tests.support.sink import Counts

STEP = 3600  # ticks of a picture
MTU = 1400

Picture = list[bytes]  # its NAL units


def coded(
    codec: str, frames: int = 30, size: tuple[int, int] = (320, 240), *, corner: bool = False, **options: str
) -> list[Picture]:
    """Moving pictures, each as its NAL units, the first with its parameter sets; `corner`: all else is flat."""
    file = io.BytesIO()
    name = {"h264": "libx264", "hevc": "libx265"}[codec]
    with av.open(file, "w", format=codec) as container:
        stream: Any = container.add_stream(
            name, rate=25, options={"tune": "zerolatency", "preset": "ultrafast", **options}
        )
        stream.width, stream.height = size
        stream.pix_fmt, stream.gop_size, stream.time_base = "yuv420p", 1000, Fraction(1, 25)
        random = np.random.default_rng(1)
        texture = random.integers(40, 200, (size[1] * 2, size[0] * 2), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
        packets = []
        for index in range(frames):
            luma = texture[index * 3 : index * 3 + size[1], index * 5 : index * 5 + size[0]]
            if corner:
                luma = luma.copy()
                luma[:-64], luma[:, :-64] = 90, 90
            yuv = np.concatenate([luma, np.full((size[1] // 2, size[0]), 128, np.uint8)])
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(yuv), "yuv420p")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            packets += stream.encode(frame)
        packets += stream.encode()
    return [split_nals(bytes(packet)) for packet in packets]


def fragments(nal: bytes, codec: str, size: int = MTU) -> list[bytes]:
    """A NAL unit as payloads of fragmentation units."""
    hevc = codec == "hevc"
    kind, head = (nal[0] >> 1 & 63, 2) if hevc else (nal[0] & 31, 1)
    front = bytes([nal[0] & 0x81 | 49 << 1, nal[1]]) if hevc else bytes([nal[0] & 0xE0 | 28])
    starts = range(head, len(nal), size)
    flags = [(0x80 * (start == head)) | (0x40 * (start + size >= len(nal))) for start in starts]
    return [
        front + bytes([flag | kind]) + nal[start : start + size] for flag, start in zip(flags, starts, strict=True)
    ]


def payloads(picture: Picture, codec: str) -> list[bytes]:
    """The payloads of a picture, large NAL units in fragments."""
    return [one for nal in picture for one in (fragments(nal, codec) if len(nal) > MTU else [nal])]


@dataclass
class Track:
    """As a session description has it."""

    codec: str
    payload_type: int = 96
    clock_rate: int = 90_000
    parameters: dict[str, str] = field(default_factory=dict)
    feedback: bool = False
    size: tuple[int, int] | None = None


def packets(pictures: Iterable[list[bytes]], marks: str = "last", start: int = 65_000) -> Iterator[bytes]:
    """RTP packets of pictures, each a list of payloads; `marks`: the ``last`` packet, ``each`` or ``none``."""
    sequence = start
    for index, picture in enumerate(pictures):
        for number, payload in enumerate(picture, 1):
            marked = marks == "each" or (marks == "last" and number == len(picture))
            stamp = 0xFFFF_0000 + index * STEP & 0xFFFF_FFFF
            yield struct.pack(">BBHII", 0x80, 96 | marked << 7, sequence & 0xFFFF, stamp, 77) + payload
            sequence += 1


def units(payload: Payload, sent: Iterable[bytes]) -> list[AccessUnit]:
    """The access units that are complete, as they come."""
    assembly = Assembly(payload)
    found = []
    for data in sent:
        packet = parse(memoryview(data), time.monotonic_ns())
        assert packet is not None
        found += assembly.add(packet)
    return found


class Counting(Questions):
    """Questions that count how many they are. What is late, as this host is busy, is tried all the same."""

    count = 0

    def asked(self, packet: Packet, damage: Damage, arrived: int) -> tuple[Packet, int, bool]:
        found = super().asked(packet, damage, time.monotonic_ns())
        self.count += found[1]
        return found


class Play:
    """What becomes of a stream.

    Attributes:
        shown: luma of the pictures that are given, by index.
        counts: as the source counts.
        complaints: of the decoder.
    """

    def __init__(
        self, codec: str, policy: str = "all", *, asks: bool = True, tries: bool = True, **track: Any
    ) -> None:
        self.counts = Counts()
        self.shown: dict[int, Pixels] = {}
        self.complaints: list[str] = []
        self._stream = Stream(Track(codec, **track), keeps_order=True)  # type: ignore[arg-type]
        self._codec: Any = av.CodecContext.create(codec, "r")
        self._policy = policy
        self.questions = Counting(Trial({}) if tries else None) if codec == "hevc" and asks else None

    def feed(self, sent: Iterable[bytes]) -> "Play":
        with Damage() as damage:
            decoding = Decoding(
                self._codec, Presentation(), Policy(self._policy), damage, self.counts, self.questions
            )
            for data in sent:
                for packet, arrival in self._stream.take([memoryview(data)], time.monotonic_ns(), is_rtcp=False):
                    for frame, _ in decoding.frames(packet, arrival):
                        assert frame.pts is not None
                        self.shown[frame.pts // STEP] = colour.planes_of(frame)[0].copy()
                    if damage.complaint:
                        self.complaints.append(damage.complaint)
        return self
