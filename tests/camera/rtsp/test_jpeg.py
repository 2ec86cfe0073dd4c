"""JPEG over RTP: of the right shape, or refused with a sentence; what is damaged or guessed wrong is never shown."""

import io
from collections.abc import Iterable
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest
import simplejpeg

from framesrv import SourceError
from framesrv.codec import jpeg_check
from framesrv.segment.layout import Pixels
from tests.camera.rtsp.feed import Play
from tests.support import rtp_jpeg
from tests.support.rtp_jpeg import DHT, DQT, DRI, SOF0, SOS, extension, packets, payloads

Jpegs = list[bytes]


def scenes(width: int, height: int, count: int = 4) -> list[Pixels]:
    """Pictures with something everywhere, each another."""
    random = np.random.default_rng(1)
    texture = random.integers(30, 220, (height // 8 + 9, width // 8 + 9, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    return [np.ascontiguousarray(texture[7 * i : 7 * i + height, 5 * i : 5 * i + width]) for i in range(count)]


def jpegs(width: int, height: int, count: int = 4, *, sampling: str = "420", quality: int = 80) -> Jpegs:
    """Those, with the usual Huffman tables."""
    return [simplejpeg.encode_jpeg(one, quality, "BGR", sampling) for one in scenes(width, height, count)]


def encoded(width: int, height: int, count: int = 4, *, huffman: str = "optimal", slices: int = 1) -> Jpegs:
    """Those by FFmpeg's encoder, with Huffman tables of its own unless told."""
    file = io.BytesIO()
    with av.open(file, "w", format="mjpeg") as container:
        stream: Any = container.add_stream("mjpeg", rate=25, options={"huffman": huffman})
        stream.codec_context.thread_count = slices
        stream.width, stream.height, stream.pix_fmt, stream.time_base = width, height, "yuvj420p", Fraction(1, 25)
        found = []
        for index, one in enumerate(scenes(width, height, count)):
            frame = av.VideoFrame.from_ndarray(one, "bgr24").reformat(format="yuvj420p")
            frame.pts = index
            found += [bytes(packet) for packet in stream.encode(frame)]
        return found + [bytes(packet) for packet in stream.encode()]


def luma(jpeg: bytes) -> Pixels:
    """As a decoder that has the whole file sees it."""
    frame = av.CodecContext.create("mjpeg", "r").decode(av.Packet(jpeg))[0]
    plane = frame.planes[0]
    return np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]


def played(sent: Iterable[bytes], size: tuple[int, int] | None = None, **keys: Any) -> Play:
    return Play("mjpeg", size=size, payload_type=26, **keys).feed(sent)


def assert_same(play: Play, sources: Jpegs) -> None:
    assert sorted(play.shown) == list(range(len(sources)))
    for index, source in enumerate(sources):
        assert np.array_equal(play.shown[index], luma(source)), index
    assert play.counts.counters["corrupt"] == 0


@pytest.mark.parametrize("sampling", ["420", "422"])
@pytest.mark.parametrize("quality", [255, 200, 50, 80, 20])
def test_pictures_are_those_that_were_sent(sampling: str, quality: int) -> None:
    source = jpegs(320, 240, sampling=sampling, quality=quality if quality < 100 else 70)
    assert_same(played(packets([payloads(one, quality=quality) for one in source])), source)


@pytest.mark.parametrize("policy", ["all", "keyframes", "demand"])
def test_every_picture_is_a_key_frame(policy: str) -> None:
    source = jpegs(320, 240)
    play = Play("mjpeg", policy, payload_type=26)
    play.counts.demanded = True
    assert_same(play.feed(packets([payloads(one) for one in source])), source)


def test_tables_that_are_sent_once_serve_the_pictures_that_name_them() -> None:
    source = jpegs(320, 240)
    cut = [payloads(one, quality=200) for one in source]
    for picture in cut[1:]:
        picture[0] = picture[0][:8] + bytes(4) + picture[0][8 + 4 + 128 :]
    assert_same(played(packets(cut)), source)
    late = played(packets(cut[1:]))
    assert not late.shown
    assert late.counts.counters["corrupt"] == 3


def test_restart_markers_are_followed() -> None:
    source = encoded(320, 240, huffman="default", slices=4)
    restart = int.from_bytes(dict(rtp_jpeg.taken_apart(source[0])[0])[DRI], "big")
    assert restart
    assert_same(played(packets([payloads(one, restart=restart) for one in source])), source)


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_packet_that_was_left_out_before_they_were_numbered_costs_that_picture_alone(which: int) -> None:
    source = jpegs(640, 480)
    cut = [payloads(one) for one in source]
    assert len(cut[1]) > 4
    del cut[1][which]
    play = played(packets(cut))
    assert sorted(play.shown) == [0, 2, 3]
    assert play.counts.counters["corrupt"] == 1


def test_a_lost_packet_costs_that_picture_alone() -> None:
    source = jpegs(640, 480)
    cut = [payloads(one) for one in source]
    sent = list(packets(cut))
    del sent[len(cut[0]) + 2]
    assert sorted(played(sent).shown) == [0, 2, 3]


@pytest.mark.parametrize("markers", [(SOF0,), (DQT, DHT, SOF0, SOS), (SOF0, SOS)])
def test_a_picture_above_2040_pixels_is_right_where_the_extension_has_its_header(markers: tuple[int, ...]) -> None:
    source = jpegs(2560, 1440)
    sent = packets([payloads(one, eights=(0, 0)) for one in source], [extension(one, *markers) for one in source])
    assert_same(played(sent), source)


def test_huffman_tables_of_its_own_are_right_where_the_extension_has_them() -> None:
    source = encoded(320, 240)
    sent = packets([payloads(one) for one in source], [extension(one, DHT) for one in source])
    assert_same(played(sent), source)


@pytest.mark.parametrize(("width", "height"), [(320, 240), (2560, 1440)])
def test_grey_pictures_are_right_where_the_extension_has_their_header(width: int, height: int) -> None:
    source = [simplejpeg.encode_jpeg(one[..., :1].copy(), 80, "GRAY") for one in scenes(width, height)]
    sent = packets([payloads(one) for one in source], [extension(one, SOF0, SOS) for one in source])
    assert_same(played(sent), source)


def test_an_extension_may_fill_packets_of_its_own_before_the_scan() -> None:
    source = jpegs(2560, 1440)
    cut = [payloads(one, eights=(0, 0)) for one in source]
    cut = [[one[0][: 8 + 4 + 128], *one] for one in cut]  # numbers and tables, then the same with the scan
    assert_same(played(packets(cut, [extension(one, SOF0) for one in source])), source)


def test_what_an_extension_leaves_out_is_that_of_the_picture_before() -> None:
    source = jpegs(2560, 1440)
    cut = [payloads(one, quality=0, eights=(0, 0)) for one in source]
    empty = b"\xff\xd8\0\0"
    assert_same(played(packets(cut, [extension(source[0], DQT, SOF0), *[empty] * 3])), source)


def test_a_picture_above_2040_pixels_is_right_where_the_description_has_its_size() -> None:
    source = jpegs(2560, 1440)
    assert_same(played(packets([payloads(one, eights=(0, 0)) for one in source]), (2560, 1440)), source)
    assert_same(played(packets([payloads(one) for one in source]), (2560, 1440)), source)
    odd = jpegs(1366, 768)
    assert_same(played(packets([payloads(one) for one in odd]), (1366, 768)), odd)


def refusal(sent: Iterable[bytes], size: tuple[int, int] | None = None) -> str:
    play = Play("mjpeg", size=size, payload_type=26)
    with pytest.raises(SourceError) as error:
        play.feed(sent)
    assert not play.shown
    assert error.value.cause == "format"
    return str(error.value)


@pytest.mark.parametrize(
    ("width", "height"),
    [(2560, 1440), (2592, 1944), (3840, 2160), (1920, 2160), (4096, 2304), (1366, 768), (644, 480)],
)
def test_a_picture_whose_size_the_packets_cannot_tell_is_refused_and_not_shown_in_another_shape(
    width: int, height: int
) -> None:
    """A 2560x1440 camera was served as 512x1440."""
    words = refusal(packets([payloads(one) for one in jpegs(width, height, 2)]))
    assert "2040 pixels" in words
    assert "choose a smaller size, or choose H.264" in words


@pytest.mark.parametrize("height", [1440, 720])
def test_a_size_that_comes_to_be_too_large_in_mid_stream_is_refused(
    height: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jpeg_check, "AGAIN", 0.0)
    source = [*jpegs(512, 1440, 2), *jpegs(2560, height, 2)]
    play = Play("mjpeg", payload_type=26)
    with pytest.raises(SourceError, match="2040 pixels"):
        play.feed(packets([payloads(one) for one in source]))
    assert sorted(play.shown) == [0, 1]


@pytest.mark.parametrize(("width", "height"), [(640, 360), (320, 240), (64, 64)])
def test_huffman_tables_that_nobody_tells_give_a_sentence_and_no_picture(width: int, height: int) -> None:
    """FFmpeg's encoder behind a payloader gave a green picture."""
    words = refusal(packets([payloads(one) for one in encoded(width, height, 8)]))
    assert "Huffman tables" in words
    assert "choose" in words


def test_fields_and_unknown_types_are_refused_with_a_sentence() -> None:
    source = payloads(jpegs(320, 240, 1)[0])  # the one picture twice: what follows shows that it has ended
    assert "fields of interlaced pictures" in refusal(packets([[b"\1" + one[1:] for one in source]]))
    assert "of type 7" in refusal(packets(2 * [[one[:4] + b"\7" + one[5:] for one in source]]))


def test_bytes_that_can_be_nothing_harm_nothing() -> None:
    random = np.random.default_rng(1)
    made = [
        [bytes([0, 0, 0, 0, *random.integers(0, 3, 1, dtype=np.uint8)]) + random.bytes(int(random.integers(0, 300)))]
        for _ in range(300)
    ]
    extensions = [b"\xff\xd8\0\x08" + random.bytes(32) for _ in made]
    for sent in (packets(made), packets(made, extensions)):
        play = Play("mjpeg", payload_type=26)
        with suppress(SourceError):
            play.feed(sent)
        assert not play.shown
