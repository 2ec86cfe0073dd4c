"""Of a backlog the fewest frames are decoded that give the newest one, which is the same as if all had been."""

import io
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import cache
from typing import NamedTuple, cast

import av
import numpy as np
import pytest
from av.video.codeccontext import VideoCodecContext

from framesrv.camera.policy import Policy
from framesrv.camera.sources.decoding import Decoding
from framesrv.codec.arrival import Arrival, Packet
from framesrv.codec.damage import Damage
from framesrv.codec.h265_sets import LAST_SLICE
from framesrv.codec.intact import Decoded, IntactDecoder
from framesrv.codec.presentation import Presentation
from framesrv.codec.questions import Questions
from framesrv.codec.sublayers import UNKNOWN, SubLayers
from framesrv.segment import colour
from tests.support.rtsp_track import split_nals
from tests.support.sink import Counts

SIZE, COUNT, BACKLOGS = (320, 240), 41, range(38, 42)  # packets; of backlogs all that begin a group otherwise
START = b"\0\0\0\1"
REFERENCE, NO_REFERENCE = 3, 2  # TSA_R and TSA_N (ITU-T H.265, table 7-1)
STEP = 40_000_000  # ns between packets


class Kind(NamedTuple):
    """How pictures refer to each other, and how many of `COUNT` are decoded for the newest, at most.

    Attributes:
        lower: those of lower sub-layers that only higher ones refer to are marked so.
    """

    codec: str
    options: str
    decoded: int
    lower: bool = False


KINDS = {
    "h264, each is referred to": Kind("h264", "bframes=0", COUNT),
    "h264, two of three are not": Kind("h264", "bframes=2:b-pyramid=none", 16),
    "h264, every second is not": Kind("h264", "bframes=3:b-pyramid=normal", 22),
    "hevc, each is referred to": Kind("hevc", "bframes=0", COUNT),
    "hevc, two of three are not": Kind("hevc", "bframes=2:b-pyramid=0", 16),
    "hevc, sub-layers": Kind("hevc", "bframes=3:temporal-layers=3", 22),
    "hevc, lower sub-layers are referred to": Kind("hevc", "bframes=3:temporal-layers=3", 22, lower=True),
}


@cache
def stream(kind: Kind) -> list[bytes]:
    """Its pictures in the order they come, each as a byte stream."""
    name = {"h264": "x264", "hevc": "x265"}[kind.codec]
    codec = cast(VideoCodecContext, av.CodecContext.create(f"lib{name}", "w"))
    (codec.width, codec.height), codec.pix_fmt = SIZE, "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, 25), Fraction(25)
    options = f"keyint=100:min-keyint=100:scenecut=0:b-adapt=0:ref=3:rc-lookahead=20:{kind.options}"
    quiet = "log-level=none:" if kind.codec == "hevc" else ""
    codec.options = {"preset": "ultrafast", f"{name}-params": quiet + options}
    ground = np.random.default_rng(3).integers(60, 180, (SIZE[1] * 3 // 2, SIZE[0]), np.uint8)
    packets: list[bytes] = []
    for index in range(COUNT):
        frame = av.VideoFrame.from_ndarray(np.roll(ground, 2 * index, 1), format="yuv420p")
        frame.pts, frame.time_base = index, Fraction(1, 25)
        packets += [bytes(packet) for packet in codec.encode(frame)]
    packets += [bytes(packet) for packet in codec.encode(None)]
    return [b"".join(START + _marked(nal, kind) for nal in split_nals(packet)) for packet in packets]


def _marked(nal: bytes, kind: Kind) -> bytes:
    if kind.lower and nal[0] >> 1 & 63 == REFERENCE:
        return bytes([NO_REFERENCE << 1]) + nal[1:]
    return nal


def packets_of(kind: Kind, count: int) -> Iterator[Packet]:
    for number, data in enumerate(stream(kind)[:count]):
        packet = cast(Packet, av.Packet(data))
        packet.pts, packet.time_base, packet.is_keyframe = number, Fraction(1, 25), number == 0
        yield packet


def a_codec(kind: Kind) -> VideoCodecContext:
    codec = cast(VideoCodecContext, av.CodecContext.create(kind.codec, "r"))
    codec.thread_count = 1
    return codec


def newest_of_all(kind: Kind, count: int) -> av.VideoFrame:
    codec = a_codec(kind)
    return [frame for packet in packets_of(kind, count) for frame in codec.decode(packet)][-1]


def in_a_file(kind: Kind) -> io.BytesIO:
    """The same in a file, where its units have lengths, and parameter sets stand apart."""
    raw, file = io.BytesIO(b"".join(stream(kind))), io.BytesIO()
    with av.open(raw, "r", format=kind.codec) as source, av.open(file, "w", format="mp4") as target:
        track = target.add_stream_from_template(source.streams.video[0])
        for number, unit in enumerate(one for one in source.demux(video=0) if one.size):
            slices = [nal for nal in split_nals(bytes(unit)) if nal[0] >> 1 & 63 <= LAST_SLICE]
            packet = cast(Packet, av.Packet(b"".join(START + nal for nal in slices)))
            packet.is_keyframe = unit.is_keyframe
            packet.pts, packet.dts, packet.duration = number, number, 1
            packet.time_base, packet.stream = Fraction(1, 25), track
            target.mux(packet)
    file.seek(0)
    return file


@pytest.fixture
def came_out(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames each packet gave that was decoded."""
    counts: list[int] = []
    decode = IntactDecoder.decode

    def counting(self: IntactDecoder, packet: Packet, arrival: Arrival, *, alone: bool = False) -> Decoded:
        frames = decode(self, packet, arrival, alone=alone)
        counts.append(len(frames))
        return frames

    monkeypatch.setattr(IntactDecoder, "decode", counting)
    return counts


def asked_at_last(kind: Kind, codec: VideoCodecContext, packets: list[Packet]) -> av.VideoFrame:
    """The frame that a reader is given who asks when the last of them comes."""
    counts = Counts()
    questions = Questions() if kind.codec == "hevc" and not codec.extradata else None
    with Damage() as damage:
        decoding = Decoding(codec, Presentation(), Policy("demand"), damage, counts, questions)
        for packet in packets:
            counts.demanded = packet is packets[-1]
            frames = decoding.frames(packet, Arrival(time.monotonic_ns(), time.time_ns()))
            assert counts.demanded or not frames
    assert counts.counters["corrupt"] == 0
    assert len(frames) == 1, "no other is converted"
    return frames[0][0]


def same(one: av.VideoFrame, other: av.VideoFrame) -> bool:
    planes = zip(colour.planes_of(one), colour.planes_of(other), strict=True)
    return all(np.array_equal(ours, theirs) for ours, theirs in planes)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_newest_frame_is_the_same_by_the_fewest_frames(kind: Kind, came_out: list[int]) -> None:
    for count in BACKLOGS:
        came_out.clear()
        frame = asked_at_last(kind, a_codec(kind), list(packets_of(kind, count)))
        assert same(frame, newest_of_all(kind, count)), count
        assert sum(came_out) <= kind.decoded


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.codec == "hevc"])
def test_sub_layers_are_known_in_a_file_as_well(kind: Kind, came_out: list[int]) -> None:
    for count in BACKLOGS:
        came_out.clear()
        with av.open(in_a_file(kind), "r") as container:
            track = container.streams.video[0]
            packets = [packet for packet in container.demux(track) if packet.size][:count]
            frame = asked_at_last(kind, track.codec_context, packets)
        assert same(frame, newest_of_all(kind, count)), count
        assert sum(came_out) <= kind.decoded


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_some_frames_a_second_are_whole_however_pictures_refer_to_each_other(kind: Kind) -> None:
    counts = Counts()
    with Damage() as damage:
        decoding = Decoding(a_codec(kind), Presentation(), Policy("fps:5"), damage, counts)
        given = [
            decoding.frames(packet, Arrival(number * STEP, number * STEP))
            for number, packet in enumerate(packets_of(kind, COUNT), 1)
        ]
    assert counts.counters["corrupt"] == 0
    assert sum(map(len, given)) >= COUNT // 5 - 1


@pytest.mark.parametrize("extradata", [None, b"", b"\1", b"\1" + b"\0" * 22, b"\0\0\1", START + b"\x42"])
def test_nothing_is_left_out_where_no_sub_layer_is_told(extradata: bytes | None) -> None:
    layers = SubLayers(extradata)
    for data in (b"\0", START, START + b"\2", START + b"\0\7", b"\0\0\0\2\0\7", b"\xff" * 9):
        assert not layers.is_of_highest(cast(Packet, av.Packet(data)))
    assert layers._highest == UNKNOWN
