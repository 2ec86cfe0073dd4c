"""RTCP (RFC 3550, 6): the camera's clock beside the stream's, and what the camera is told of its stream."""

import struct
from dataclasses import dataclass

SENDER_REPORT, RECEIVER_REPORT, GOODBYE, PAYLOAD_FEEDBACK = 200, 201, 203, 206
PICTURE_LOSS = 1  # RFC 4585, 6.3.1
EPOCH = 2_208_988_800  # 1970 in seconds since 1900
OURS = 0x66726D73  # our own source, in messages alone


@dataclass(frozen=True)
class SenderReport:
    """The camera's clock beside the stream's.

    Attributes:
        source: of the stream.
        unix: nanoseconds by the camera's clock; None where it has no clock, and counts from its own start.
        timestamp: of RTP at that moment.
        middle: the 32 bits of the clock that a receiver report returns.
    """

    source: int
    unix: int | None
    timestamp: int
    middle: int


def sender_report(data: memoryview) -> SenderReport | None:
    """The first sender report among the messages of a packet; None if there is none."""
    at = 0
    while at + 4 <= len(data):
        first, kind, words = struct.unpack_from(">BBH", data, at)
        if first >> 6 != 2:
            return None
        if kind == SENDER_REPORT and words >= 6 and at + 28 <= len(data):
            source, seconds, fraction, timestamp = struct.unpack_from(">IIII", data, at + 4)
            # of one that counts from zero, which is 1900 (6.4.1), or from its boot
            known = seconds > EPOCH
            unix = (seconds - EPOCH) * 10**9 + (fraction * 10**9 >> 32) if known else None
            return SenderReport(source, unix, timestamp, (seconds & 0xFFFF) << 16 | fraction >> 16)
        at += 4 + 4 * words
    return None


def says_goodbye(data: memoryview) -> bool:
    """Whether the sender ends its stream."""
    at = 0
    while at + 4 <= len(data):
        _, kind, words = struct.unpack_from(">BBH", data, at)
        if kind == GOODBYE:
            return True
        at += 4 + 4 * words
    return False


def receiver_report(source: int, highest: int, missing: int, last: SenderReport | None, delay: float) -> bytes:
    """What has come of a stream (6.4.2).

    Args:
        source: of the stream.
        highest: the highest sequence number, as `Order` counts it.
        missing: packets, since the beginning.
        last: the newest sender report.
        delay: seconds since it came.
    """
    return struct.pack(
        ">BBHIIIIIII",
        0x81,
        RECEIVER_REPORT,
        7,
        OURS,
        source,
        min(missing, 0x7FFFFF),
        highest & 0xFFFFFFFF,
        0,
        last.middle if last else 0,
        int(delay * 65536) & 0xFFFFFFFF if last else 0,
    )


def picture_loss(source: int) -> bytes:
    """Asks for a key frame; it goes after a receiver report."""
    return struct.pack(">BBHII", 0x80 | PICTURE_LOSS, PAYLOAD_FEEDBACK, 2, OURS, source)
