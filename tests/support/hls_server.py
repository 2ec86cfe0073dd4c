"""A live HTTP stream in segments (HLS, RFC 8216): a playlist that moves on, and what it names."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import av

from tests.support.http_server import FaultyServer, HttpRequest, HttpResponse

WINDOW = 4  # segments that the playlist names
SIZE = 188  # bytes of a packet of a transport stream


class HlsServer(FaultyServer):
    """Publishes a segment of `video` every `seconds`, from when it starts; it ends with the video.

    Args:
        video: with a key frame where each segment begins.
        seconds: of a segment.
        damaged: two packets are missing in each segment.
        date: gives the date of so many seconds of the video, as the playlist has it.

    Attributes:
        asked: the names of the segments that were asked for, in their order.
    """

    faulty_method = "GET"

    def __init__(
        self, video: Path, seconds: int = 2, *, damaged: bool = False, date: Callable[[float], str] | None = None
    ) -> None:
        super().__init__()
        self._date = date
        self._seconds = seconds
        self._segments = _segments(video, seconds)
        if damaged:
            self._segments = [_without_two_packets(segment) for segment in self._segments]
        self._began = time.monotonic() - WINDOW * seconds  # as if it had run for a while
        self.asked: list[str] = []

    @property
    def source(self) -> str:
        return f"{self.url}/live.m3u8"

    def answer(self, request: HttpRequest) -> HttpResponse:
        published = min(int((time.monotonic() - self._began) / self._seconds), len(self._segments))
        if request.path == "/master.m3u8":
            text = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000000\nlive.m3u8\n"
            return HttpResponse(200, text.encode(), "application/vnd.apple.mpegurl")
        if request.path == "/live.m3u8":
            return HttpResponse(200, self._playlist(published), "application/vnd.apple.mpegurl")
        number = int(request.path.strip("/").partition(".")[0])
        self.asked.append(request.path)
        if published - 2 * WINDOW <= number < published:
            return HttpResponse(200, self._segments[number], "video/mp2t")
        return HttpResponse(404)

    def _playlist(self, published: int) -> bytes:
        first = max(0, published - WINDOW)
        lines = ["#EXTM3U", "#EXT-X-VERSION:3", f"#EXT-X-TARGETDURATION:{self._seconds}"]
        lines.append(f"#EXT-X-MEDIA-SEQUENCE:{first}")
        for number in range(first, published):
            if self._date:
                lines.append(f"#EXT-X-PROGRAM-DATE-TIME:{self._date(number * self._seconds)}")
            lines += [f"#EXTINF:{self._seconds:.3f},", f"{number}.ts"]
        return "\n".join([*lines, ""]).encode()


def _segments(video: Path, seconds: int) -> list[bytes]:
    """The video in transport streams of so many seconds; its key frames must stand there."""
    segments = []
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.size]
        ends = [packet.time_base * packet.dts for packet in packets if packet.dts is not None]
        for begin in range(0, int(max(ends)) + 1, seconds):
            output = io.BytesIO()
            with av.open(output, "w", "mpegts") as written:
                copy = written.add_stream_from_template(stream)
                for packet, at in zip(packets, ends, strict=True):
                    if begin <= at < begin + seconds:
                        packet.stream = copy
                        written.mux(packet)
            segments.append(output.getvalue())
    return segments


def _without_two_packets(segment: bytes) -> bytes:
    place = len(segment) // SIZE // 3 * SIZE
    return segment[:place] + segment[place + 2 * SIZE :]
