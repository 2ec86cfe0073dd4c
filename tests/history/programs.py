"""Writers and readers of a history in processes of their own; a packet that is torn tells.

Each packet's bytes say its number, its size and their checksum.
"""

import random
import struct
import time
import zlib
from fractions import Fraction
from typing import Any

from framesrv import History, HistoryUnavailableError, SegmentError
from framesrv.history.packet import CodecParameters, HistoryPacket, packed
from framesrv.history.writer import HistoryWriter, Times

DESCRIPTION = packed(CodecParameters("h264", b"", Fraction(1, 90_000), 64, 48))
HEAD = struct.Struct("<QII")
GOP = 20
LARGEST = 6000  # bytes of a packet
BYTES = 600_000  # of the history, which is written over all the time
FILLER = random.Random(4).randbytes(LARGEST)


def made(number: int) -> bytes:
    size = number * 7919 % (LARGEST - HEAD.size)
    body = FILLER[size:] + FILLER[:size]
    body = body[: size or 1]
    return HEAD.pack(number, len(body), zlib.crc32(body, number)) + body


def is_whole(packet: HistoryPacket) -> bool:
    number, size, checksum = HEAD.unpack_from(packet.data)
    body = packet.data[HEAD.size :]
    return (number, size, checksum) == (packet.pts, len(body), zlib.crc32(body, number))


def write_many(pipe: Any, prefix: str, count: int) -> None:
    """Writes so many packets as fast as it can; sends how long each took at most, for 50 and 99 of 100."""
    writer = HistoryWriter("cam", 300.0, BYTES, prefix=prefix)
    pipe.send("ready")
    pipe.recv()
    spent = []
    for number in range(1, count + 1):
        data, now = made(number), time.time_ns()
        times: Times = (number, None, now, now, time.monotonic_ns(), False)
        began = time.perf_counter_ns()
        writer.add(data, times, DESCRIPTION if number % GOP == 1 else b"")
        spent.append(time.perf_counter_ns() - began)
    spent.sort()
    pipe.send((spent[len(spent) // 2], spent[len(spent) * 99 // 100]))
    pipe.recv()
    writer.close()


def write_for_ever(pipe: Any, prefix: str) -> None:
    """Goes on with what is there, until it is killed."""
    writer = HistoryWriter("cam", 300.0, BYTES, prefix=prefix)
    pipe.send("ready")
    number = 0
    while True:
        number += 1
        now = time.time_ns()
        times: Times = (number, None, now, now, time.monotonic_ns(), False)
        writer.add(made(number), times, DESCRIPTION if number % GOP == 1 else b"")


def read_all(pipe: Any, prefix: str) -> None:
    """Reads until something is sent; sends how many packets it has read, how many were torn, its longest call."""
    read = torn = 0
    longest = 0.0
    with History("cam", prefix=prefix) as history:
        pipe.send("ready")
        while not pipe.poll():
            began = time.monotonic()
            try:
                oldest, newest = history.span()
                history.wait_until(newest, 0.1)
                found = history.packets(oldest + (newest - oldest) * random.random())
            except (HistoryUnavailableError, SegmentError) as error:
                if isinstance(error, SegmentError):
                    torn += 1
                continue
            finally:
                longest = max(longest, time.monotonic() - began)
            read += len(found)
            torn += sum(not is_whole(packet) for packet in found)
            numbers = [packet.number for packet in found]
            torn += numbers != list(range(numbers[0], numbers[0] + len(numbers))) or not found[0].key
    pipe.send((read, torn, longest))
