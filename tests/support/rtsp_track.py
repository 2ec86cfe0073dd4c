"""A video file taken apart into what an RTSP server sends: access units as RTP payloads."""

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import av

from tests.support import rtp_jpeg

TICKS = 90_000  # RTP ticks a second
PAYLOAD = 1400  # bytes of a NAL unit in one RTP packet


@dataclass(frozen=True)
class AccessUnit:
    """One coded picture as RTP payloads, each with whether it is the last (the marker bit).

    `shift`: its presentation after its decoding time, in RTP ticks.
    """

    payloads: list[tuple[bytes, bool]]
    key: bool
    shift: int


class Track:
    """A video file taken apart into access units, parameter sets in band before every key frame."""

    def __init__(self, path: Path) -> None:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            codec = stream.codec_context.name
            if codec not in ("h264", "hevc", "mjpeg", "vp9") or stream.average_rate is None:
                raise SystemExit(f"{path}: {codec} cannot be served, only h264, hevc, mjpeg and vp9")
            self.codec = codec
            self.hevc = codec == "hevc"
            self.step = round(TICKS / stream.average_rate)
            self.interval = float(1 / stream.average_rate)
            self.parameters: dict[int, bytes] = {}
            units = {"mjpeg": self._jpegs, "vp9": self._vp9}.get(codec, self._access_units)
            self.units = list(units(container, stream))

    def nal_type(self, nal: bytes) -> int:
        return nal[0] >> 1 & 63 if self.hevc else nal[0] & 31

    @cached_property
    def sdp(self) -> str:
        """The media's attributes (RFC 6184, RFC 7798, RFC 2435)."""
        if self.codec == "mjpeg":
            return "a=rtpmap:96 JPEG/90000\r\n"
        if self.codec == "vp9":
            return "a=rtpmap:96 VP9/90000\r\n"
        sets = {kind: base64.b64encode(nal).decode() for kind, nal in self.parameters.items()}
        if self.hevc:
            format_line = f"sprop-vps={sets[32]}; sprop-sps={sets[33]}; sprop-pps={sets[34]}"
        else:
            format_line = f"packetization-mode=1; sprop-parameter-sets={sets[7]},{sets[8]}"
        return f"a=rtpmap:96 {'H265' if self.hevc else 'H264'}/90000\r\na=fmtp:96 {format_line}\r\n"

    def _payloads(self, nals: list[bytes]) -> Iterator[tuple[bytes, bool]]:
        """The NAL units of an access unit, cut up; made once for all clients, of which there may be a hundred."""
        for number, nal in enumerate(nals, 1):
            last = number == len(nals)
            if len(nal) <= PAYLOAD:
                yield nal, last
                continue
            kind, header_size = self.nal_type(nal), 2 if self.hevc else 1
            # A fragmentation unit: type 49 in a two-byte header, or 28 in one byte.
            header = bytes([nal[0] & 0x81 | 49 << 1, nal[1]]) if self.hevc else bytes([nal[0] & 0xE0 | 28])
            for start in range(header_size, len(nal), PAYLOAD):
                end = start + PAYLOAD >= len(nal)
                flags = (0x80 if start == header_size else 0) | (0x40 if end else 0)
                yield header + bytes([flags | kind]) + nal[start : start + PAYLOAD], last and end

    def _jpegs(self, container: Any, stream: Any) -> Iterator[AccessUnit]:
        for packet in container.demux(stream):
            if packet.size:
                payloads = rtp_jpeg.payloads(bytes(packet))
                yield AccessUnit([(one, one is payloads[-1]) for one in payloads], key=True, shift=0)

    def _vp9(self, container: Any, stream: Any) -> Iterator[AccessUnit]:
        """Each packet with its descriptor (RFC 9628, 4.2): refers to others, begins, ends a picture."""
        for packet in container.demux(stream):
            data = bytes(packet) if packet.size else b""
            starts = range(0, len(data), PAYLOAD)
            flags = [
                0x40 * (not packet.is_keyframe) | 8 * (not at) | 4 * (at + PAYLOAD >= len(data)) for at in starts
            ]
            cut = [bytes([flag]) + data[at : at + PAYLOAD] for flag, at in zip(flags, starts, strict=True)]
            if cut:
                yield AccessUnit([(one, one is cut[-1]) for one in cut], key=packet.is_keyframe, shift=0)

    def _access_units(self, container: Any, stream: Any) -> Iterator[AccessUnit]:
        annex_b = av.BitStreamFilterContext("hevc_mp4toannexb" if self.hevc else "h264_mp4toannexb", stream)
        parameter_types = (32, 33, 34) if self.hevc else (7, 8)
        key_types = range(16, 22) if self.hevc else (5,)
        for packet in container.demux(stream):
            if not packet.size:
                break
            shift = round(((packet.pts or 0) - (packet.dts or 0)) * packet.time_base * TICKS)
            for filtered in annex_b.filter(packet):
                nals = split_nals(bytes(filtered))
                kinds = [self.nal_type(nal) for nal in nals]
                for kind, nal in zip(kinds, nals, strict=True):
                    if kind in parameter_types:
                        self.parameters.setdefault(kind, nal)
                key = any(kind in key_types for kind in kinds)
                if key and not set(parameter_types) & set(kinds):
                    nals = [*self.parameters.values(), *nals]
                yield AccessUnit(list(self._payloads(nals)), key, shift)


def split_nals(annex_b: bytes) -> list[bytes]:
    """The NAL units of a byte stream."""
    return [nal for part in annex_b.split(b"\0\0\1") if (nal := part.rstrip(b"\0"))]
