"""The packets of a stream as they come: when each arrived, when it was captured, and whether it is whole."""

import os
import resource
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias, cast

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from framesrv.camera.sources.ffmpeg.cause import sentence
from framesrv.camera.sources.ffmpeg.cost import Cost
from framesrv.camera.sources.ffmpeg.pacing import LivePacing, Pacing
from framesrv.codec.arrival import Arrival, Packet
from framesrv.codec.damage import Damage
from framesrv.errors import SourceError
from framesrv.segment.status import CLOCK_OFF

if TYPE_CHECKING:
    from framesrv.camera.sources.ffmpeg.dates import Dates

# How many packets late each one comes. Over RTP a parser gives a packet of these codecs when the next one begins
# (need_parsing in libavformat/rtpdec_*.c); in a transport stream the demultiplexer waits for that as well.
PARSED = {"h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video"}
LIVE = ("rtsp", "sdp")  # formats of which a description in a file is no recording
PACED = ("rtmp", "udp:", "rtp:", "srt:")  # begin the names of streams that come at their own pace, with an end or not
SEGMENTED = ("hls", "dash")  # live streams whose packets come many at a time
LATE = {"rtsp": 1, "rtp": 1, "sdp": 1, "mpegts": 2}
BUFFERED = 5_000_000  # ns; a packet that is waited for less than this was there when the stream had been opened
OF_STEP = 0.5  # likewise, of the time on the stream's clock from the packet before it to it
LONGEST_STEP = 1.0  # s; more is a jump of that clock
DOUBTFUL = 2  # packets: a loss noticed while one is put together may be of the next
UNCERTAIN = 1_000_000_000  # ns after opening in which it is not known where a loss then was

Moment: TypeAlias = tuple[int, int]  # monotonic and Unix nanoseconds


class Packets:
    """Iterates over the packets up to the end of the stream, each time anew; the last one is empty.

    A packet that is given one late arrived when the one before it was given. Those read while the stream was being
    opened have arrived since then, so they count as old as that.

    Args:
        container: opened, with `stream` in it.
        stream: the video.
        damage: which listens since before `container` was opened.
        opened: when opening began.
        pacing: at which a recording is given.
        cost: what reading may.
        timeout: seconds without a packet after which the stream is lost.
        first: packets that were read while the track was chosen.
        dates: of the pictures, as a playlist tells them; None where there is none that does.

    Attributes:
        recorded: whether the stream has an end and comes as fast as it is read; it is given at its own pace.
        of_pictures: whether it may be a single picture, by HTTP or in a file.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        damage: Damage,
        opened: Moment,
        pacing: Pacing,
        cost: Cost,
        timeout: float,
        first: Sequence[Packet] = (),
        dates: "Dates | None" = None,
    ) -> None:
        has_end = bool(container.duration) or os.path.isfile(container.name)  # a live stream of FLV lasts 0 s
        self.recorded = has_end and container.format.name not in LIVE and not container.name.startswith(PACED)
        own = os.path.isfile(container.name) or container.name.startswith(("http:", "https:", "file:"))
        self.of_pictures = own and (container.format.name == "image2" or container.format.name.endswith("_pipe"))
        # of a pipe or a device FFmpeg knows no time-out
        self._remote = container.format.name in LIVE or not os.path.exists(container.name)
        self._first = first
        self._captured = dates.of if dates else _captured
        self._segmented = not self.recorded and container.format.name in SEGMENTED
        self._complains = stream.codec_context.name == "h264"  # the decoder, of what is missing
        self._join: Packet | None = None
        self._pacing = LivePacing() if self._segmented else pacing
        self._container = container
        self._stream = stream
        self._damage = damage
        self._opened = opened
        self._cost = cost
        self._timeout = timeout
        parsed = stream.codec_context.name in PARSED and not self.recorded
        self._late = LATE.get(container.format.name, 0) if parsed else 0
        self._doubtful = 0
        self._certain = time.monotonic_ns() + UNCERTAIN if damage.noticed("") else 0

    def __iter__(self) -> Iterator[tuple[Packet, Arrival]]:
        """Raises SourceError where the stream is lost."""
        packets = self._joined() if self._segmented and self._complains else self._of_track()
        buffered = not (self.recorded or self._segmented)
        moments = deque([self._opened] * self._late)
        before: float | None = None
        self._pacing.again()
        while True:
            asked, spent = time.monotonic_ns(), time.thread_time()
            wait = Wait() if buffered else None
            try:
                with self._cost.reading():
                    packet = next(packets)
            except StopIteration:
                return
            except MemoryError as error:
                raise self._cost.much_memory("one packet of it") from error
            except (av.error.FFmpegError, OSError) as error:
                if isinstance(error, av.error.ExitError | TimeoutError):
                    raise self._silent(time.thread_time() - spent) from error
                raise SourceError(f"lost: {sentence(error)}", "lost") from error
            if self._remote and time.monotonic_ns() - asked >= self._timeout * 1e9:
                # what the parser has held since, and gives when FFmpeg's own time-out comes
                raise self._silent(time.thread_time() - spent)
            if (self.recorded or self._segmented) and packet.size:
                self._pacing.wait(*_times_of(packet))
            now = (time.monotonic_ns(), time.time_ns())
            if wait:
                at = _times_of(packet)[0]
                step = 0.0 if at is None or before is None else at - before
                buffered, before = not wait.happened(step), at
            moments.append(self._opened if buffered else now)
            arrived = moments.popleft()
            if packet.size or packet.dts is None:  # an empty one in mid-stream would end the decoding
                yield packet, Arrival(*arrived, self._captured(packet), self._is_whole(packet, now[0]))

    def _silent(self, spent: float) -> SourceError:
        """That no packet has come in time, with so many seconds of processor time."""
        if self._cost.was_busy(spent):
            return self._cost.much_processor("one packet of it")
        return SourceError(f"lost: no packet for {self._timeout:g} s", "timeout")

    def _of_track(self) -> Iterator[Packet]:
        """The packets of the track; raises SourceError where others alone come."""
        if len(self._container.streams) == 1:
            yield from self._container.demux(self._stream)
            return
        first, self._first = self._first, ()
        yield from first
        newest = time.monotonic()
        for packet in self._container.demux():
            if packet.stream_index == self._stream.index:
                yield cast(Packet, packet)
                newest = time.monotonic()
            elif not self.recorded and time.monotonic() - newest >= self._timeout:
                raise self._silent(0.0)

    def _joined(self) -> Iterator[Packet]:
        """The packets of the track, of segments that may each count anew.

        That looks like a loss in one of the last two packets before each. It is none where a key frame follows, and
        the decoder does not complain either; that of H.265 would not, so there those two are held back.
        """
        held: list[Packet] = []
        for packet in self._of_track():
            if held and (packet.is_keyframe or len(held) == DOUBTFUL):
                self._join = held[0] if packet.is_keyframe else None
                yield from held
                held.clear()
            if held or packet.is_corrupt:
                held.append(packet)
            else:
                yield packet
        yield from held

    def _is_whole(self, packet: Packet, now: int) -> bool:
        # of a transport stream the packet before the one that lacks something may be the one that is flagged
        if self._damage.noticed("") or (packet.is_corrupt and packet is not self._join):
            self._doubtful = DOUBTFUL
        elif self._doubtful:
            self._doubtful -= 1
        return not self._doubtful and now >= self._certain


class Wait:
    """How long this thread waits for others from now on.

    A busy host makes who has all he needs take his time, too: time in which the thread could have run does not
    count. Nor do the moments for which another holds a lock, which last longer there; so a wait for a packet is known
    by its length.
    """

    def __init__(self) -> None:
        self._began, self._ran, self._switches = time.monotonic_ns(), _ran(), _switches()

    def happened(self, step: float) -> bool:
        """Whether it has waited by now, for a packet that comes `step` seconds after the one before it."""
        if _switches() == self._switches:
            return False
        waited = time.monotonic_ns() - self._began - (_ran() - self._ran)
        return waited >= max(BUFFERED, min(step, LONGEST_STEP) * OF_STEP * 1e9)


def _ran() -> int:
    """Nanoseconds for which this thread has run, or could have: see Documentation/scheduler/sched-stats in Linux."""
    try:
        with open("/proc/thread-self/schedstat", "rb") as file:
            run, queued, _ = file.read().split()
    except (OSError, ValueError):  # a kernel that does not tell
        return time.thread_time_ns()
    return int(run) + int(queued)


def _switches() -> int:
    """How often this thread has given up the processor to wait, see getrusage(2)."""
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def _times_of(packet: Packet) -> tuple[float | None, float | None]:
    """Seconds on the stream's clock at which it is to be decoded, and for which it lasts."""
    ticks = packet.pts if packet.dts is None else packet.dts
    base = packet.time_base
    if not base:  # there is none
        return None, None
    return None if ticks is None else float(ticks * base), float(packet.duration * base) if packet.duration else None


def _captured(packet: Packet) -> int | None:
    """Unix nanoseconds of capture as the camera's RTCP sender reports tell.

    FFmpeg puts it into each packet as a producer reference time, a microsecond count first (libavutil/rtcp.h,
    libavcodec/defs.h). A sender that has no wall clock counts from zero (RFC 3550, 6.4.1), that is from 1900. A clock
    that is wrong is not believed, as in `rtsp.clock`.
    """
    if not packet.has_sidedata("prft"):
        return None
    microseconds = int.from_bytes(bytes(packet.get_sidedata("prft"))[:8], "little", signed=True)
    return microseconds * 1000 if abs(microseconds / 1e6 - time.time()) <= CLOCK_OFF else None
