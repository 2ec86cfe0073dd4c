"""Access units: one picture is what has one RTP time, however it is cut up; and what is missing of it is told."""

import functools
import struct

import numpy as np
import pytest

from framesrv.camera.sources.rtsp.payloads.h264 import H264
from framesrv.camera.sources.rtsp.payloads.h265 import H265
from framesrv.camera.sources.rtsp.payloads.nal import ParameterSets
from framesrv.camera.sources.rtsp.unit import Payload
from framesrv.codec.bits import number_code
from framesrv.codec.questions import Questions
from tests.camera.rtsp.feed import Picture, Play, coded, fragments, packets, payloads, units

pictures = functools.cache(coded)


def sliced(codec: str, frames: int = 30) -> list[Picture]:
    """Pictures of four slices each."""
    options = {"h264": ("x264-params", "slices=4"), "hevc": ("x265-params", "log-level=none:slices=4")}
    name, value = options[codec]
    return pictures(codec, frames, (640, 480), **{name: value})


def payload(codec: str) -> Payload:
    return H264([]) if codec == "h264" else H265([])


CODECS = pytest.mark.parametrize("codec", ["h264", "hevc"])


@CODECS
@pytest.mark.parametrize("marks", ["last", "each", "none"])
def test_a_picture_of_several_slices_is_one_unit_wherever_the_camera_sets_the_marker(codec: str, marks: str) -> None:
    found = units(payload(codec), packets([payloads(picture, codec) for picture in sliced(codec)], marks))
    assert len(found) == 30 - (marks != "last")
    assert all(unit.whole and unit.picture and not unit.lost for unit in found)
    assert [unit.key for unit in found] == [True] + [False] * (len(found) - 1)
    shown = Play(codec).feed(packets([payloads(picture, codec) for picture in sliced(codec)], marks)).shown
    assert sorted(shown) == list(range(len(found)))


def test_parameter_sets_before_each_slice_do_not_cut_the_picture() -> None:
    """What GStreamer sends for ``x264enc tune=zerolatency ! rtph264pay config-interval=-1``."""
    source = sliced("h264")
    sets = [nal for nal in source[0] if nal[0] & 31 in (7, 8)]
    repeated = [[one for nal in picture if nal[0] & 31 in (1, 5) for one in (*sets, nal)] for picture in source]
    plain = Play("h264").feed(packets([payloads(picture, "h264") for picture in source]))
    play = Play("h264").feed(packets([payloads(picture, "h264") for picture in repeated]))
    assert sorted(play.shown) == list(range(30))
    assert all(np.array_equal(play.shown[index], plain.shown[index]) for index in plain.shown)
    assert play.counts.counters["corrupt"] == 0


@CODECS
def test_a_picture_is_given_when_its_last_packet_has_come(codec: str) -> None:
    sent = list(packets([payloads(picture, codec) for picture in pictures(codec)]))
    assert sorted(Play(codec).feed(sent).shown) == list(range(30))  # the last one too: nothing follows it


@CODECS
def test_a_marker_that_lies_once_is_not_believed_again(codec: str) -> None:
    source = [payloads(picture, codec) for picture in pictures(codec)]
    several = [payloads(picture, codec) for picture in sliced(codec)]
    sent = list(packets(source[:10]))
    sent += packets(several, "each", start=65_000 + len(sent))
    moved = [*sent[: len(list(packets(source[:10])))]]
    base = 10 * 3600
    for data in sent[len(moved) :]:
        head = bytearray(data)
        stamp = int.from_bytes(head[4:8], "big") + base & 0xFFFF_FFFF
        head[4:8] = stamp.to_bytes(4, "big")
        moved.append(bytes(head))
    found = units(payload(codec), moved)
    damaged = [index for index, unit in enumerate(found) if not unit.whole]
    assert damaged  # the first of them was given too soon
    assert max(damaged) <= 14
    assert len(found) >= 10 + 28


@CODECS
@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_fragment_that_was_left_out_before_the_packets_were_numbered_is_noticed(codec: str, which: int) -> None:
    source = [payloads(picture, codec) for picture in pictures(codec, 12, (640, 480))]
    assert len(source[0]) > 4
    clean = Play(codec).feed(packets(source))
    large = [number for number, one in enumerate(source[0]) if len(one) > 1000]
    del source[0][large[which]]
    play = Play(codec).feed(packets(source))
    assert sorted(clean.shown) == list(range(12))
    assert not play.shown
    assert play.counts.counters["corrupt"] >= 11


@CODECS
@pytest.mark.parametrize("which", ["first", "middle", "last"])
def test_a_slice_that_was_left_out_is_noticed(codec: str, which: str) -> None:
    source = [payloads(picture, codec) for picture in sliced(codec, 12)]
    del source[5][{"first": 0, "middle": 1, "last": -1}[which]]
    play = Play(codec).feed(packets(source))
    assert sorted(play.shown) == [0, 1, 2, 3, 4]


@CODECS
def test_a_picture_that_was_left_out_is_noticed_where_others_refer_to_it(codec: str) -> None:
    source = [payloads(picture, codec) for picture in pictures(codec)]
    del source[10]
    shown = sorted(Play(codec).feed(packets(source)).shown)
    assert shown == list(range(10))


@CODECS
def test_a_lost_packet_holds_back_pictures_until_the_next_key_frame(codec: str) -> None:
    source = [payloads(picture, codec) for picture in pictures(codec)]
    sent = list(packets([*source, *source]))
    first = sum(map(len, source[:20]))
    del sent[first]
    shown = sorted(Play(codec).feed(sent).shown)
    assert shown == [*range(20), *range(30, 60)]


@CODECS
def test_bytes_that_can_be_nothing_harm_nothing(codec: str) -> None:
    generator = np.random.default_rng(1)
    sent = [
        struct.pack(">BBHII", 0x80, 96, number, number // 3 * 3600, 77)
        + generator.integers(0, 256, generator.integers(0, 300), dtype=np.uint8).tobytes()
        for number in range(3000)
    ]
    play = Play(codec).feed(sent)
    assert not play.shown


@CODECS
def test_aggregated_nal_units_are_taken_apart_and_one_cut_short_is_damage(codec: str) -> None:
    small = pictures(codec, 12, (64, 64))
    front = b"\x18" if codec == "h264" else bytes([48 << 1, 1])
    together = [[front + b"".join(struct.pack(">H", len(nal)) + nal for nal in picture)] for picture in small]
    assert sorted(Play(codec).feed(packets(together)).shown) == list(range(12))
    together[6][0] = together[6][0][:-3]
    assert sorted(Play(codec).feed(packets(together)).shown) == list(range(6))


OPEN = "keyint=12:min-keyint=12:open-gop=1:scenecut=0:b-adapt=0:bframes="


@pytest.mark.parametrize("recovery", [True, False])
@pytest.mark.parametrize("kind", [OPEN + "2", OPEN + "3:b-pyramid=strict:ref=5", OPEN + "1:b-pyramid=0"])
def test_key_frames_that_are_none_by_the_letter_serve_one_who_joins_late(kind: str, recovery: bool) -> None:
    """I frames that are no IDR, with messages of recovery points or without: a decoder of ours never began."""
    source = pictures("h264", 80, tune="psnr", preset="veryfast", **{"x264-params": kind})
    clean = Play("h264").feed(packets([payloads(picture, "h264") for picture in source])).shown
    idr = [index for index, picture in enumerate(source) if any(nal[0] & 31 == 5 for nal in picture)]
    assert idr == [0]
    sets = [nal for nal in source[0] if nal[0] & 31 in (7, 8)]
    late = [[nal for nal in picture if recovery or nal[0] & 31 != 6] for picture in source[5:]]
    shown = (
        Play("h264").feed(packets([payloads(picture, "h264") for picture in [[*sets, *late[0]], *late[1:]]])).shown
    )
    assert len(shown) >= 55
    assert all(np.array_equal(picture, clean[index + 5]) for index, picture in shown.items())


@pytest.mark.parametrize("policy", ["all", "demand", "keyframes"])
@pytest.mark.parametrize("messages", [True, False])
def test_picture_that_is_refreshed_bit_by_bit_is_shown_once_it_is_whole(policy: str, messages: bool) -> None:
    """Intra refresh, which has no key picture but the first, for one who joins late; `keyframes` showed nothing."""
    source = pictures("h264", 80, **{"x264-params": "intra-refresh=1:keyint=20:scenecut=0"})
    clean = Play("h264").feed(packets([payloads(picture, "h264") for picture in source])).shown
    sets = [nal for nal in source[0] if nal[0] & 31 in (7, 8)]
    late = [[nal for nal in picture if messages or nal[0] & 31 != 6] for picture in source[5:]]
    play = Play("h264", policy)
    play.counts.demanded = True
    shown = play.feed(packets([payloads(picture, "h264") for picture in [[*sets, *late[0]], *late[1:]]])).shown
    if not messages:  # nothing says where a refresh begins
        assert shown == {}
        return
    assert len(shown) >= (2 if policy == "keyframes" else 35)
    assert all(np.array_equal(picture, clean[index + 5]) for index, picture in shown.items())


@CODECS
def test_parameter_sets_that_came_once_serve_key_frames_without_them(codec: str) -> None:
    source = [*pictures(codec), *pictures(codec)]

    def is_set(nal: bytes) -> bool:
        return nal[0] & 31 in (7, 8) if codec == "h264" else 32 <= nal[0] >> 1 & 63 <= 34

    sets = [nal for nal in source[0] if is_set(nal)]
    bare = [[nal for nal in picture if not is_set(nal)] for picture in source]
    sent = [payloads(picture, codec) for picture in [[*sets, *bare[1]], *bare[2:]]]
    assert sorted(Play(codec).feed(packets(sent)).shown) == list(range(29, 59))


def test_parameter_sets_without_end_cost_little() -> None:
    kept = ParameterSets()
    for number in range(10_000):
        kept.keep(7, number, bytes(100))
        kept.keep(8, 0, bytes(10_000_000))
    assert sum(len(nal) for _, nal in kept.nals()) < 100_000


def test_a_unit_has_a_limit() -> None:
    nal = pictures("h264")[0][-1][:1000]
    endless = (nal for _ in range(60_000))
    assembly_input = (
        struct.pack(">BBHII", 0x80, 96, number & 0xFFFF, 5, 77) + one for number, one in enumerate(endless)
    )
    found = units(H264([]), [*assembly_input, *packets([[nal]], start=60_000 & 0xFFFF)])
    assert not found[0].whole
    assert len(found[0].data) < 34 * 2**20


@CODECS
@pytest.mark.parametrize("marks", ["last", "each", "none"])
@pytest.mark.parametrize("several", [False, True])
def test_pictures_of_a_clock_that_stands_still_are_told_apart(codec: str, marks: str, several: bool) -> None:
    source = [payloads(picture, codec) for picture in (sliced(codec) if several else pictures(codec))]
    sent = []
    for data in packets(source, marks):
        head = bytearray(data)
        head[4:8] = b"\0\0\0\7"
        sent.append(bytes(head))
    found = units(payload(codec), sent)
    assert len(found) >= 29
    assert all(unit.whole for unit in found)
    play = Play(codec).feed(sent)
    assert play.counts.counters["corrupt"] == 0
    assert len(play.shown) == 1  # all have one time


@CODECS
def test_nal_units_without_number_cost_little(codec: str) -> None:
    """As many as fit into a packet, of which an access unit has as many as its limit of bytes allows."""
    front = b"\x18" if codec == "h264" else bytes([48 << 1, 1])
    nal = b"\x06\x01\x80" if codec == "h264" else bytes([39 << 1, 1, 0x80])
    packet = front + (struct.pack(">H", len(nal)) + nal) * 12_000
    (found,) = units(payload(codec), packets([[packet] * 20, [packet[:8]]]))
    assert not found.whole
    assert len(found.data) < 100_000


@CODECS
def test_parameter_sets_without_number_are_not_kept(codec: str) -> None:
    one, questions = payload(codec), Questions()
    kind = b"\x68" if codec == "h264" else bytes([34 << 1, 1])
    for number in range(2000):
        bits = number_code(number) + "1" * 64
        nal = kind + int(bits + "1" * (-len(bits) % 8), 2).to_bytes(len(bits + "1" * (-len(bits) % 8)) // 8, "big")
        units(one, packets([[nal], [nal]], start=number))
        if codec == "hevc":
            questions._learn(34, nal)
    kept = one._numbers._sets if isinstance(one, H264) else one._sets._sets  # type: ignore[attr-defined]
    assert len(kept) <= 256
    assert len(questions._pictures) <= 256


def test_fragments_of_one_unit_do_not_run_into_the_next() -> None:
    nal = b"\x65" + bytes([0x88]) + bytes(range(1, 250)) * 12
    parts = fragments(nal, "h264", 1000)
    found = units(H264([]), packets([[*parts[:-1], *fragments(nal, "h264", 1000)], [nal]]))
    assert [unit.whole for unit in found][:1] == [False]


@pytest.mark.parametrize(
    "options",
    [
        "slices=4",
        "slices=3:ctu=32",
        "ctu=16:wpp=0:ref=4:weightp=1",
        "slices=4:ref=3:weightp=1:bframes=3:b-adapt=0:weightb=1:open-gop=1:keyint=8:min-keyint=8",
        "slices=2:deblock=1,1:no-sao=1:amp=1:rect=1:scaling-list=default",
    ],
)
def test_the_questions_change_no_pixel_and_each_is_answered(options: str) -> None:
    settings = {"preset": "medium", "tune": "ssim", "x265-params": f"log-level=none:{options}"}
    sent = list(packets([payloads(picture, "hevc") for picture in pictures("hevc", 30, (640, 480), **settings)]))
    asked, plain = Play("hevc").feed(sent), Play("hevc", asks=False).feed(sent)
    assert asked.counts.counters["corrupt"] == 0
    assert len(plain.shown) >= 20  # the codec keeps some back
    assert sorted(asked.shown) == sorted(plain.shown)
    assert all(np.array_equal(asked.shown[index], plain.shown[index]) for index in plain.shown)
    assert asked.questions
    assert asked.questions.count >= len(plain.shown)


def test_a_key_picture_that_does_not_need_its_last_bytes_is_not_shown() -> None:
    """A hole after which the decoder comes to the end of the picture all the same, as one in four does."""
    source = pictures("hevc", 4, (640, 480), preset="medium", **{"x265-params": "log-level=none"})
    key = max(source[0], key=len)
    cuts = fragments(key, "hevc")
    unnoticed = 0
    for number in range(1, len(cuts) * 4 // 5):
        holed = [*(nal for nal in source[0] if nal is not key), *cuts[:number], *cuts[number + 1 :]]
        sent = list(packets([holed, payloads(source[1], "hevc")]))
        assert not Play("hevc").feed(sent).shown, number
        unnoticed += 0 in Play("hevc", tries=False).feed(sent).shown
    assert unnoticed  # there was something to notice


def test_a_camera_whose_last_corner_takes_most_of_the_data_is_shown() -> None:
    source = coded("hevc", 40, (640, 480), corner=True, **{"x265-params": "log-level=none:keyint=1"})
    shown = Play("hevc").feed(packets([payloads(picture, "hevc") for picture in source])).shown
    assert sorted(shown) == list(range(40))
