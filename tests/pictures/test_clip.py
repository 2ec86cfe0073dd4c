"""An MP4 of packets: what it has of them, what it leaves out, and what it says of the picture."""

import io
from dataclasses import replace
from fractions import Fraction
from functools import cache
from itertools import pairwise
from typing import Any

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from framesrv import CodecParameters, HistoryPacket
from framesrv.codec.presentation import Presentation
from snapd.errors import ClipError
from snapd.pictures import clip as clips
from snapd.pictures.clip import Clip, make_clip
from tests.support.footage import Codec, footage, read_code

BEGIN = 1_795_900_000
GROUP, FPS = 10, 25
SECOND = 1_000_000_000


@cache
def packets(
    codec: Codec = "h264",
    *,
    bframes: int = 0,
    group: int = GROUP,
    structure: Any = "closed",
    as_file: bool = False,
    width: int = 320,
) -> tuple[HistoryPacket, ...]:
    """Thirty pictures in three groups; `as_file`: with lengths in place of start codes, as MP4 and RTMP have them."""
    path = footage(codec, width, 240, FPS, 30, group, bframes=bframes, structure=structure)
    with av.open(str(path), "r") as container:
        stream = container.streams.video[0]
        to_bytes = BitStreamFilterContext(f"{codec}_mp4toannexb", stream)
        time_base = stream.time_base or Fraction(1, FPS)
        extradata = bytes(stream.codec_context.extradata or b"") if as_file else b""
        parameters = CodecParameters(codec, extradata, time_base, width, 240, Fraction(1))
        found: list[HistoryPacket] = []
        for packet in container.demux(stream):
            if packet.size and packet.pts is not None:
                pts, key = packet.pts, packet.is_keyframe
                data = bytes(packet) if as_file else b"".join(map(bytes, to_bytes.filter(packet)))
                captured = BEGIN * SECOND + int(pts * time_base * SECOND)
                times = (captured, captured, captured)
                number = len(found) + 1
                found.append(
                    HistoryPacket(number, data, pts, None, key, *times, "arrival", True, False, 1, parameters)
                )
    return tuple(found)


def shown(clip: Clip) -> list[int]:
    """Which pictures of the footage FFmpeg shows of it, each whole; their times rise from 0."""
    with av.open(io.BytesIO(clip.content), "r") as container:
        frames = list(container.decode(video=0))
    times = [float(frame.time or 0) for frame in frames]
    assert times[0] == 0
    assert all(before < after for before, after in pairwise(times))
    assert len(frames) == clip.frames
    assert abs(times[-1] - clip.seconds) < 0.2
    codes = [read_code(frame.to_ndarray()[: frame.height]) for frame in frames]
    assert None not in codes
    return [code[1] for code in codes if code]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("bframes", [0, 2])
@pytest.mark.parametrize("as_file", [False, True])
def test_clip_has_every_picture_in_whatever_form_it_came(codec: Codec, bframes: int, as_file: bool) -> None:
    clip = make_clip("cam", packets(codec, bframes=bframes, as_file=as_file), BEGIN + 1)
    assert shown(clip) == list(range(30))
    assert clip.captured_at == BEGIN
    with av.open(io.BytesIO(clip.content), "r") as container:
        context = container.streams.video[0].codec_context
        assert context.codec_tag == {"h264": "avc1", "hevc": "hvc1"}[codec]
        assert context.extradata
        assert context.extradata[0] == 1  # parameter sets, as the form has them
        assert container.metadata["title"] == "cam"
        assert container.metadata["creation_time"].startswith("2026-11-28T21:06:40")


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("count", range(11, 20))
def test_end_leaves_no_hole_where_pictures_come_out_of_order(codec: Codec, count: int) -> None:
    found = packets(codec, bframes=2)
    end = BEGIN + (count - 1) / FPS
    for known in (found, found[: count + 3]):
        indices = shown(make_clip("cam", known, BEGIN + 0.4, end))
        assert indices == list(range(len(indices)))
        assert count - 3 <= len(indices) <= count + 2
    assert len(shown(make_clip("cam", found, BEGIN + 0.4, end))) >= count


def test_pictures_that_lead_the_first_key_frame_are_left_out() -> None:
    found = packets("hevc", bframes=2, group=GROUP + 1, structure="open")
    second = [index for index, packet in enumerate(found) if packet.key][1]
    assert found[second + 1].captured_ns < found[second].captured_ns  # it refers to the group before
    indices = shown(make_clip("cam", found[second:], BEGIN + 1))
    first = round((found[second].captured_at - BEGIN) * FPS)
    assert indices == list(range(first, 30))


def test_damaged_pictures_are_left_out_and_the_one_before_stands() -> None:
    found = [replace(packet, lost=14 < index < 20, whole=index != 14) for index, packet in enumerate(packets())]
    clip = make_clip("cam", found, BEGIN + 1)
    assert shown(clip) == [*range(14), *range(20, 30)]
    with av.open(io.BytesIO(clip.content), "r") as container:
        times = [float(frame.time or 0) for frame in container.decode(video=0)]
    assert abs(times[14] - 20 / FPS) < 0.01
    first = [replace(packet, lost=index < 10) for index, packet in enumerate(packets())]
    assert shown(make_clip("cam", first, BEGIN + 0.5)) == list(range(10, 30))
    with pytest.raises(ClipError) as error:
        make_clip("cam", first, BEGIN + 0.2)
    assert error.value.reason == "damaged"
    with pytest.raises(ClipError):
        make_clip("cam", [replace(packet, whole=False) for packet in packets()], BEGIN + 1)


def test_clip_is_of_one_format_that_of_its_moment() -> None:
    other = [replace(packet, stream=2, captured_ns=packet.captured_ns + 2 * SECOND) for packet in packets(width=640)]
    both = [*packets(), *other]
    for moment, width in ((BEGIN + 1, 320), (BEGIN + 2.5, 640)):
        clip = make_clip("cam", both, moment)
        assert shown(clip) == list(range(30))
        with av.open(io.BytesIO(clip.content), "r") as container:
            assert container.streams.video[0].width == width


def test_stream_that_was_opened_anew_goes_on_with_its_pause() -> None:
    again = [
        replace(packet, stream=2, pts=(packet.pts or 0) + 77, captured_ns=packet.captured_ns + 3 * SECOND)
        for packet in packets()
    ]
    clip = make_clip("cam", [*packets(), *again], BEGIN + 1)
    assert shown(clip) == [*range(30), *range(30)]
    with av.open(io.BytesIO(clip.content), "r") as container:
        times = [float(frame.time or 0) for frame in container.decode(video=0)]
    assert abs(times[30] - 3.0) < 0.01


def test_times_are_those_of_capture_where_the_stream_tells_none() -> None:
    clip = make_clip("cam", [replace(packet, pts=None) for packet in packets()], BEGIN + 1)
    assert shown(clip) == list(range(30))
    assert abs(clip.seconds - 30 / FPS) < 0.01


@pytest.mark.parametrize("turn", [None, 0, 90, 180, 270])
def test_clip_says_how_it_is_to_be_turned_and_stretched(turn: int | None) -> None:
    presentation = Presentation(rotate=turn, aspect=Fraction(16, 9))
    parameters = replace(packets()[0].parameters, presentation=presentation)
    found = [replace(packet, parameters=parameters) for packet in packets()]
    with av.open(io.BytesIO(make_clip("cam", found, BEGIN + 1).content), "r") as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        frame = next(container.decode(video=0))
    assert (-frame.rotation) % 360 == (turn or 0)
    assert frame.width == 320  # as it came


def test_clip_that_cannot_be_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = replace(packets()[0].parameters, codec="mjpeg")
    with pytest.raises(ClipError, match=r"its codec is mjpeg, not H\.264 or H\.265") as error:
        make_clip("cam", [replace(packet, parameters=parameters) for packet in packets()], BEGIN + 1)
    assert error.value.reason == "format"
    monkeypatch.setattr(clips, "MOST_BYTES", 1000)
    with pytest.raises(ClipError, match="more than 1000 bytes: ask for less") as error:
        make_clip("cam", packets(), BEGIN + 1)
    assert error.value.reason == "large"


def test_pictures_are_those_of_the_camera_to_the_letter() -> None:
    with av.open(str(footage("h264", 320, 240, FPS, 30, GROUP)), "r") as container:
        originals = [frame.to_ndarray() for frame in container.decode(video=0)]
    with av.open(io.BytesIO(make_clip("cam", packets(), BEGIN + 1).content), "r") as container:
        found = [frame.to_ndarray() for frame in container.decode(video=0)]
    assert all(np.array_equal(one, other) for one, other in zip(found, originals, strict=True))
