"""From what a session receives to packets for the codec, and what the camera is told of them."""

import base64
import binascii
import time
from collections.abc import Iterator, Sequence
from typing import Any

import av

from framesrv.camera.sources.rtsp import rtcp, rtp
from framesrv.camera.sources.rtsp.clock import CameraClock
from framesrv.camera.sources.rtsp.description import Track
from framesrv.camera.sources.rtsp.middle import Middle
from framesrv.camera.sources.rtsp.unit import AccessUnit, Assembly, Payload
from framesrv.codec.arrival import Arrival, Packet
from framesrv.codec.ticks import Tick
from framesrv.errors import SourceError

REPORT_EVERY = 5.0  # s (RFC 3550, 6.2)
ASK_EVERY = 2.0  # s between requests for a key frame
STRANGE = 25  # access units in a row without a picture: parameter sets and messages come between pictures, not alone
CODECS = ("h264", "hevc", "mjpeg")


class Stream:
    """The video of one session.

    Args:
        track: what the session description says of it.
        keeps_order: packets come in the order they were sent.

    Attributes:
        clock: the camera's.
        tick: of its packets.
    """

    def __init__(self, track: Track, *, keeps_order: bool) -> None:
        self._track = track
        self._order = rtp.Order(keeps=keeps_order)
        self._payload = _payload(track)
        self._assembly = Assembly(self._payload)
        self.tick = Tick(1, track.clock_rate)
        self._missing = self._without = 0
        self._report: rtcp.SenderReport | None = None
        self._report_at = self._reported = self._asked = 0.0
        self._middle: Middle | None = None
        self.clock = CameraClock(track.clock_rate)

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the pictures, as the camera announces them; None while it has not."""
        return self._payload.size

    @property
    def received(self) -> int:
        """Packets of RTP that have come."""
        return self._order.received

    @property
    def missing(self) -> int:
        """Packets that have not, although later ones have."""
        return self._order.missing

    @property
    def strange(self) -> str:
        """What comes instead of pictures, in words; empty while those come."""
        return f"what comes is no {self._track.codec}, as it was described" if self._without >= STRANGE else ""

    def misses(self) -> bool:
        """Whether packets are missing that were not when this was last asked."""
        before, self._missing = self._missing, self._order.missing
        return self._missing > before

    def take(self, packets: Sequence[memoryview], arrived: int, *, is_rtcp: bool) -> Iterator[tuple[Packet, Arrival]]:
        """The packets for the codec that are complete now that these of RTP, or RTCP, have come.

        Raises:
            SourceError: the camera ends its stream.
        """
        if is_rtcp:
            for data in packets:
                self._control(data, arrived)
            return
        at = 0
        while at < len(packets):
            if self._middle is not None:
                at = self._middle.takes(packets, at)
                if at == len(packets):
                    return
            self._middle = None
            packet = rtp.parse(packets[at], arrived)
            at += 1
            if packet is None or packet.payload_type != self._track.payload_type:
                continue
            for one in self._order.put(packet):
                for unit in self._assembly.add(one):
                    self._without = 0 if unit.picture else self._without + 1
                    if unit.picture:
                        yield self._packet(unit)
                found = self._assembly.middle(one)
                self._middle = Middle(self._order, one, *found) if found else None

    def reports(self, *, wants_key: bool) -> bytes:
        """What the camera is to be told now; empty if nothing.

        Args:
            wants_key: nothing can be shown before a key frame comes.
        """
        order, now = self._order, time.monotonic()
        if order.source is None:
            return b""
        asks = wants_key and self._track.feedback and now - self._asked >= ASK_EVERY
        if not asks and now - self._reported < REPORT_EVERY:
            return b""
        self._reported = now
        message = rtcp.receiver_report(
            order.source, order.highest, order.missing, self._report, now - self._report_at
        )
        if asks:
            self._asked = now
            message += rtcp.picture_loss(order.source)
        return message

    def _control(self, data: memoryview, arrived: int) -> None:
        report = rtcp.sender_report(data)
        if report is not None and report.source == (self._order.source or report.source):
            self._report, self._report_at = report, arrived / 1e9
            self.clock.set(report, arrived)
        if rtcp.says_goodbye(data):
            raise SourceError("the camera ended the stream", "ended")

    def _packet(self, unit: AccessUnit) -> tuple[Packet, Arrival]:
        data: Any = unit.data  # any buffer will do
        packet: Any = av.Packet(data)
        packet.pts = unit.ticks
        packet.time_base = self.tick
        packet.is_keyframe = unit.key
        unix = time.time_ns() - (time.monotonic_ns() - unit.arrived)
        captured = self.clock.captured(unit.timestamp)
        return packet, Arrival(unit.arrived, unix, captured, unit.whole, unit.lost)


def _payload(track: Track) -> Payload:
    """Takes the track's codec apart; each is imported where there is such a camera."""
    parameters = track.parameters
    if track.codec == "h264":
        from framesrv.camera.sources.rtsp.payloads.h264 import H264

        return H264(_decoded(parameters.get("sprop-parameter-sets", "")))
    if track.codec == "mjpeg":
        from framesrv.camera.sources.rtsp.payloads.jpeg import Jpeg

        return Jpeg(track.size)
    from framesrv.camera.sources.rtsp.payloads.h265 import H265

    sets = ",".join(parameters.get(f"sprop-{name}", "") for name in ("vps", "sps", "pps"))
    numbered = parameters.get("sprop-max-don-diff", "0").strip() not in ("", "0")
    return H265(_decoded(sets), numbered=numbered)


def _decoded(text: str) -> list[bytes]:
    """NAL units of a session description; what is none is left out, for they also come with the key frames."""
    nals = []
    for part in text.split(","):
        try:
            nal = base64.b64decode(part.strip() + "=" * (-len(part.strip()) % 4), validate=True)
        except (binascii.Error, ValueError):
            continue
        if len(nal) > 2:
            nals.append(nal)
    return nals
