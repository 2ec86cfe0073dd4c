"""Moments of H.264 whose pictures are fields, in one access unit or each in its own: frames of both, no halves."""

import struct
import time
from collections.abc import Callable
from typing import Any

import av
import numpy as np
import pytest

from framesrv import FrameReader, History
from framesrv.camera.policy import Policy
from framesrv.camera.sources.decoding import Decoding
from framesrv.camera.sources.rtsp.stream import Stream
from framesrv.codec.damage import Damage
from framesrv.codec.presentation import Presentation
from framesrv.history.writer import HistoryWriter
from tests.camera.rtsp.feed import STEP, Track, packets
from tests.camera.rtsp.test_fields import HEIGHT, scene, units
from tests.support.sink import Counts

TICK = 40_000_000  # ns from one access unit to the next


@pytest.mark.parametrize("together", [True, False])
def test_frames_of_then_have_the_lines_of_both_fields(
    together: bool, kept: Callable[..., HistoryWriter], history: History, camera: FrameReader
) -> None:
    codec: Any = av.CodecContext.create("h264", "r")
    sent = units(together=together)
    begin = time.monotonic_ns() - (len(sent) + 1) * TICK
    stream = Stream(Track("h264"), keeps_order=True)  # type: ignore[arg-type]
    with Damage() as damage:
        # with the combs, which are what is compared
        presentation = Presentation(deinterlace=False)
        decoding = Decoding(codec, presentation, Policy("demand"), damage, Counts(), None, kept())
        for data in packets(sent):
            (stamp,) = struct.unpack_from(">I", data, 4)
            index = (stamp - 0xFFFF_0000 & 0xFFFF_FFFF) // STEP
            for packet, arrival in stream.take([memoryview(data)], begin + index * TICK, is_rtcp=False):
                decoding.frames(packet, arrival)
    found = history.packets(history.span()[0])
    assert len(found) >= len(sent) - 1
    for one in found[4:-4]:
        index = (one.pts or 0) // STEP
        with camera.at(one.captured_at) as frame:
            right = scene(index if together else index // 2)
            assert np.array_equal(frame.planes[0][:HEIGHT], right), index
