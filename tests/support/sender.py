"""Sends a video's packets as a camera would, a frame at a time, by RTMP or in a transport stream, in its own process.

``python -m tests.support.sender VIDEO URL FORMAT RATE`` sends the video again and again, and prints a line a frame:
its index in the video, and the monotonic nanoseconds at which it was sent.
"""

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from tests.support.processes import Program, wait_for

PATIENCE = 20.0  # s that whoever is sent to may take to be there


class Sender:
    """The process, while a block lasts.

    Args:
        directory: for what it prints.
        video: what it sends; it must have no B frames.
        url: where to.
        form: in what, by FFmpeg's name.
        rate: frames a second.
    """

    def __init__(self, directory: Path, video: Path, url: str, form: str, rate: float = 25) -> None:
        directory.mkdir(exist_ok=True)
        words = ("tests.support.sender", video, url, form, str(rate))
        self._program = Program(*words, log=directory / "sent")

    def sent(self) -> dict[int, int]:
        """When each frame was sent last, by its index."""
        lines = self._program.output.rpartition("\n")[0].splitlines()
        return {int(index): int(moment) for index, moment in (line.split() for line in lines)}

    def __enter__(self) -> Self:
        self._program.__enter__()
        return self

    def wait(self) -> None:
        """Until it sends."""
        wait_for(self.sent, "it sends")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._program.__exit__(kind, error, trace)


def main(video: str, url: str, form: str, rate: float) -> None:
    """Sends until it is killed, or nobody takes it any more."""
    with av.open(video) as source:
        stream = source.streams.video[0]
        assert stream.time_base is not None
        packets = [packet for packet in source.demux(stream) if packet.size]
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with av.open(url, "w", form, options={"flush_packets": "1"}) as written:
                    copy = written.add_stream_from_template(stream)
                    written.start_encoding()
                    began, count = time.monotonic(), 0
                    while True:
                        packet = packets[count % len(packets)]
                        time.sleep(max(0.0, began + count / rate - time.monotonic()))
                        packet.stream = copy
                        packet.time_base = stream.time_base
                        packet.pts = packet.dts = int(count / rate / stream.time_base)
                        print(count % len(packets), time.monotonic_ns(), flush=True)  # noqa: T201  what it is for
                        written.mux(packet)
                        count += 1
            except ConnectionRefusedError:  # whoever listens is not there yet
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]))
