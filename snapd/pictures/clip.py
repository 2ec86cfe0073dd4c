"""An MP4 of a camera's packets as they came: nothing is decoded, nothing encoded again.

It begins with the key frame at or before the moment that is asked for. What is damaged, or refers to what is, is left
out: the picture before it stands. Its times are those of the stream, from 0 on. H.265 is tagged ``hvc1``, as browsers
want it: the parameter sets stand before the pictures.
"""

import io
import math
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fractions import Fraction
from itertools import accumulate, pairwise, takewhile
from typing import cast

import av
from av.container import InputContainer

from framesrv import CodecParameters, HistoryPacket
from snapd.errors import ClipError
from snapd.pictures.nal import byte_stream, own_sets, parameter_sets

CLOCK = 90_000  # units a second
MOST_BYTES = 32 * 1024 * 1024
CODECS = ("h264", "hevc")
MATRIX = "DISPLAYMATRIX"  # of a decoded frame's side data
NANOSECONDS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Clip:
    """An MP4, and what it shows.

    Attributes:
        content: the file.
        captured_at: Unix seconds of its first picture.
        seconds: from that to its end.
        frames: how many it has.
    """

    content: bytes
    captured_at: float
    seconds: float
    frames: int


def make_clip(code: str, packets: Sequence[HistoryPacket], moment: float, end: float = math.inf) -> Clip:
    """The clip of these packets, which begin with a key frame; of one format, the one at `moment`.

    Args:
        code: the camera's.
        packets: in decoding order.
        moment: Unix seconds; the clip begins there at the latest.
        end: Unix seconds, with which it ends, or a few pictures later where pictures come out of order; else with
            the last packet.

    Raises:
        ClipError: it cannot be made of them.
    """
    codec = packets[0].parameters.codec
    if codec not in CODECS:
        raise ClipError("format", f"a clip of camera {code} cannot be made: its codec is {codec}, not H.264 or H.265")
    if sum(len(packet.data) for packet in packets) > MOST_BYTES:
        raise ClipError("large", f"a clip of camera {code} would have more than {MOST_BYTES} bytes: ask for less")
    whole = _whole(_until(_of_one_format(packets, moment), end))
    if not whole or whole[0].captured_at > moment:
        raise ClipError("damaged", f"camera {code} has no whole picture of that moment")
    times = _times(whole)
    units = [byte_stream(packet.data, packet.parameters.extradata, codec) for packet in whole]
    lengths = sorted(after - before for before, after in pairwise(sorted(times)))
    last = lengths[len(lengths) // 2] if lengths else CLOCK // 25
    content = _mux(code, whole, units, times, last)
    return Clip(content, whole[0].captured_at, (max(times) + last) / CLOCK, len(whole))


def _of_one_format(packets: Sequence[HistoryPacket], moment: float) -> list[HistoryPacket]:
    """Those from the last change of format at or before `moment` to the next one."""
    runs: list[list[HistoryPacket]] = []
    known: object = None
    for packet in packets:
        if packet.key and (form := (packet.parameters, _sets(packet))) != known:
            known = form
            if runs and packet.captured_at > moment:
                break
            runs.append([])
        if runs:
            runs[-1].append(packet)
    return runs[-1] if runs else []


def _until(packets: Sequence[HistoryPacket], end: float) -> Sequence[HistoryPacket]:
    """Those up to `end`, so that none is missing that is shown between them: they come in decoding order."""
    if end == math.inf:
        return packets
    captured = [packet.captured_ns for packet in packets]
    wanted = sum(1 for _ in takewhile(lambda one: one / NANOSECONDS > end, reversed(captured)))
    latest = list(accumulate(captured, max))
    earliest = list(accumulate(reversed(captured), min))[::-1]
    # so many can be an end: what follows is shown later; what would follow the last is not known
    ends = [count for count in range(1, len(packets)) if latest[count - 1] < earliest[count]]
    if captured == latest:
        ends.append(len(packets))
    least = len(packets) - wanted
    return packets[: next((count for count in ends if count >= least), ends[-1] if ends else len(packets))]


def _sets(packet: HistoryPacket) -> tuple[bytes, ...]:
    """The parameter sets that a key frame carries itself."""
    extradata, codec = packet.parameters.extradata, packet.parameters.codec
    return own_sets(byte_stream(packet.data, extradata, codec), codec) if codec in CODECS else ()


def _whole(packets: Iterable[HistoryPacket]) -> list[HistoryPacket]:
    """Those that can be shown: from a key frame on, without what is damaged or comes before it in presentation."""
    found: list[HistoryPacket] = []
    for packet in packets:
        if packet.damaged or (not found and not packet.key):
            continue
        if found and not packet.key and packet.captured_ns < found[0].captured_ns:
            continue  # it refers to what came before the clip
        found.append(packet)
    return found


def _times(packets: Sequence[HistoryPacket]) -> list[int]:
    """When each is shown, in units of `CLOCK` after the first.

    By the stream's own time; of one that was opened anew meanwhile, as long after it as its packets were captured.
    """
    first = packets[0]
    times: list[int] = []
    stream, base, offset = None, 0, 0
    by_stream = all(packet.pts is not None for packet in packets)
    for packet in packets:
        scale = packet.parameters.time_base * CLOCK
        captured = (packet.captured_ns - first.captured_ns) * CLOCK // NANOSECONDS
        if not by_stream or packet.pts is None:
            times.append(captured)
            continue
        if packet.stream != stream:
            stream, base = packet.stream, packet.pts
            offset = max(captured, max(times, default=-1) + 1)
        times.append(round((packet.pts - base) * scale) + offset)
    return times


def _mux(
    code: str, packets: Sequence[HistoryPacket], units: Sequence[bytes], times: Sequence[int], last: int
) -> bytes:
    parameters = packets[0].parameters
    sets = parameter_sets(parameters.extradata, parameters.codec)
    file = os.memfd_create("clip")
    try:
        with (
            av.open(io.BytesIO(sets + units[0]), "r", format=parameters.codec) as source,
            av.open(f"/proc/self/fd/{file}", "w", format="mp4", options={"movflags": "faststart"}) as target,
        ):
            template = source.streams.video[0]
            stream = target.add_stream_from_template(template, opaque=True)
            stream.time_base = Fraction(1, CLOCK)
            if parameters.codec == "hevc":
                stream.codec_context.codec_tag = "hvc1"
            if ratio := _sample_aspect_ratio(parameters):
                stream.codec_context.sample_aspect_ratio = ratio
            if parameters.rotate is not None:
                stream.set_display_rotation(-parameters.rotate)
            elif matrix := _own_matrix(source):
                stream.set_display_matrix(matrix)
            begin = datetime.fromtimestamp(packets[0].captured_at, UTC)
            target.metadata.update(title=code, creation_time=begin.isoformat())
            for unit, packet, shown, decoded in zip(units, packets, times, _decoding(times), strict=True):
                one = av.Packet(unit)
                one.stream, one.time_base = stream, stream.time_base
                one.pts, one.dts, one.duration, one.is_keyframe = shown, decoded, last, packet.key
                target.mux_one(one)
        return os.pread(file, os.fstat(file).st_size, 0)
    finally:
        os.close(file)


def _decoding(times: Sequence[int]) -> list[int]:
    """When each is decoded: in their order, rising, and none after it is shown."""
    order: list[int] = []
    for shown in sorted(times):
        order.append(max(shown, order[-1] + 1) if order else shown)
    late = max(decoded - shown for decoded, shown in zip(order, times, strict=True))
    return [decoded - late for decoded in order]


def _sample_aspect_ratio(parameters: CodecParameters) -> Fraction | None:
    """Width of a pixel by its height: as configured, else as the stream says beside its pictures, if it does."""
    aspect = parameters.presentation.aspect
    if aspect is None or not (parameters.width and parameters.height):
        return parameters.sample_aspect_ratio
    return aspect * parameters.height / parameters.width


def _own_matrix(source: InputContainer) -> Sequence[int]:
    """How the picture says itself that it is to be turned and mirrored: nine numbers; none if it does not."""
    frame = next(source.decode(video=0), None)
    found = frame.side_data.get(MATRIX) if frame else None
    return [] if found is None else struct.unpack("=9i", bytes(cast("bytes", found)))
