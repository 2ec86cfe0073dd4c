"""What cameras describe, and in what ways."""

import pytest

from framesrv.camera.sources.rtsp.description import absolute, parse
from framesrv.errors import SourceError

HEAD = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nt=0 0\r\n"
VIDEO = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:trackID=1\r\n"
HEVC = "m=video 0 RTP/AVP 98\r\na=rtpmap:98 H265/90000\r\na=control:trackID=2\r\n"
SOUND = "m=audio 0 RTP/AVP 8\r\na=control:trackID=9\r\n"
METADATA = "m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\na=control:trackID=8\r\n"


def track(text: str, number: int = 0) -> tuple[str, int, str]:
    one = parse((HEAD + text).encode()).track(number)
    return one.codec, one.payload_type, one.control


@pytest.mark.parametrize(
    ("text", "codec", "number"),
    [
        (SOUND + METADATA + VIDEO, "h264", 96),
        (VIDEO.replace("\r\n", "\n"), "h264", 96),
        (VIDEO.replace("H264", "h264"), "h264", 96),
        ("c=IN IP4\r\n" + VIDEO, "h264", 96),
        ("c=broken\r\nnonsense\r\n=\r\na=\r\n" + VIDEO, "h264", 96),
        ("m=video 0 RTP/AVP 26\r\n", "mjpeg", 26),
        ("m=video 0 RTP/AVP 96 97\r\na=rtpmap:96 X-VENDOR/90000\r\na=rtpmap:97 H265/90000\r\n", "hevc", 97),
        ("m=video 0 RTP/AVP 96\r\na=fmtp:96 packetization-mode=1\r\n", "h264", 96),
        ("m=video 0 RTP/AVP 96\r\na=fmtp:96 sprop-vps=AA; sprop-sps=AA\r\n", "hevc", 96),
        ("m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n", "vp8", 96),
        ("m=video 0 RTP/AVP 96\r\na=rtpmap:96 VP8/90000\r\n" + HEVC, "hevc", 98),
        ("m=video 0 RTP/AVP 96\r\n", "", 96),
        ("m=video 0 RTP/AVP\r\na=rtpmap:105 H264/90000\r\n", "h264", 105),
    ],
)
def test_video_is_found_however_it_is_described(text: str, codec: str, number: int) -> None:
    assert track(text)[:2] == (codec, number)


@pytest.mark.parametrize(
    ("attribute", "size"),
    [
        ("x-dimensions:2560,1440", (2560, 1440)),
        ("framesize:26 3840-2160", (3840, 2160)),
        ("x-dimensions:0,0", None),
        ("framesize:26", None),
    ],
)
def test_size_is_what_an_attribute_says(attribute: str, size: tuple[int, int] | None) -> None:
    assert parse((HEAD + f"m=video 0 RTP/AVP 26\r\na={attribute}\r\n").encode()).track(0).size == size


def test_track_is_the_first_or_the_one_of_that_number() -> None:
    assert track(SOUND + VIDEO + HEVC) == ("h264", 96, "trackID=1")
    assert track(SOUND + VIDEO + HEVC, 2) == ("hevc", 98, "trackID=2")
    with pytest.raises(SourceError, match="no video track 3 in it, only 2"):
        track(VIDEO + HEVC, 3)


def test_parameters_are_those_of_the_payload_type() -> None:
    text = VIDEO + "a=fmtp:97 no=1\r\na=fmtp:96 packetization-mode=1; Sprop-Parameter-Sets=Z0==,aO4=;x\r\n"
    one = parse((HEAD + text).encode()).track(0)
    assert one.parameters == {"packetization-mode": "1", "sprop-parameter-sets": "Z0==,aO4=", "x": ""}


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("a=rtcp-fb:96 nack pli", True),
        ("a=rtcp-fb:* ccm fir", True),
        ("a=rtcp-fb:96 nack", False),
        ("a=rtcp-fb:97 nack pli", False),
        ("a=x:y", False),
    ],
)
def test_requests_for_key_frames_are_offered(line: str, offered: bool) -> None:
    assert parse((HEAD + VIDEO + line + "\r\n").encode()).track(0).feedback is offered


@pytest.mark.parametrize(
    ("text", "cause", "words"),
    [
        (SOUND, "no_video", "there is no video in it, only sound"),
        (SOUND + METADATA, "no_video", "there is no video in it"),
        ("", "format", "there is no medium in it"),
    ],
)
def test_description_without_video_is_said_to_be_that(text: str, cause: str, words: str) -> None:
    with pytest.raises(SourceError) as caught:
        track(text)
    assert str(caught.value) == f"cannot be opened: {words}" or words in str(caught.value)
    assert caught.value.cause == cause


def test_multicast_group_and_encryption_are_told() -> None:
    text = HEAD + "c=IN IP4 239.1.2.3/64\r\nm=video 5004 RTP/SAVP 96\r\na=rtpmap:96 H264/90000\r\n"
    one = parse(text.encode()).track(0)
    assert (one.group, one.port, one.encrypted) == ("239.1.2.3", 5004, True)


@pytest.mark.parametrize(
    ("control", "base", "url"),
    [
        ("", "rtsp://h/a", "rtsp://h/a"),
        ("*", "rtsp://h/a/", "rtsp://h/a/"),
        ("track1", "rtsp://h/a/", "rtsp://h/a/track1"),
        ("track1", "rtsp://h/a", "rtsp://h/a/track1"),
        ("track1", "rtsp://h/a?x=1&y=2", "rtsp://h/a?x=1&y=2/track1"),
        ("RTSP://other/track", "rtsp://h/a", "RTSP://other/track"),
    ],
)
def test_controls_are_absolute_or_appended(control: str, base: str, url: str) -> None:
    assert absolute(control, base) == url


def test_anything_at_all_can_be_parsed() -> None:
    for text in (b"", b"\0\xff" * 1000, b"m=\r\nm=video\r\nm=video x y z\r\na=rtpmap:x\r\na=rtpmap:99999999999 \r\n"):
        parse(text)
