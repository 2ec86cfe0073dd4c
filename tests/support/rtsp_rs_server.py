"""A camera made of PyPI's rtsp-rs: ``python -m tests.support.rtsp_rs_server PORT VIDEO`` plays it again and again."""

import sys
import time
from importlib import import_module

import av

TICKS = 90_000  # a second


def main(port: str, video: str) -> None:
    """Until it is killed."""
    server = import_module("rtsp").Server(f"127.0.0.1:{port}")
    server.start()
    with av.open(video) as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None
        rate = stream.average_rate
        annex_b = av.BitStreamFilterContext("h264_mp4toannexb", stream)
        units = [b"".join(map(bytes, annex_b.filter(one))) for one in container.demux(stream) if one.size]
    due = time.monotonic()
    while True:
        for unit in units:
            server.send_frame(unit, round(TICKS / rate))
            due += float(1 / rate)
            time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main(*sys.argv[1:])
