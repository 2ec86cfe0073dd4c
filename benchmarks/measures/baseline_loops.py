"""Other ways to a camera's frames, each a process of its own.

``python -m benchmarks.measures.baseline_loops WAY URL`` runs one.

Each says "ready" at its first frame and goes on until it is killed. It works in a thread, as in a program that has
something else to do besides. What a way does not need it does not import.
"""

import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any, Literal

RTSP = {"rtsp_transport": "tcp"}


def available(way: str) -> bool:
    """Whether this machine has what the way needs."""
    return way != "ffmpeg" or shutil.which("ffmpeg") is not None


def pyav(url: str) -> Iterator[None]:
    """PyAV: every frame decoded and copied."""
    yield from _decoded(url, "DEFAULT")


def keyframes(url: str) -> Iterator[None]:
    """PyAV: the key frames decoded and copied."""
    yield from _decoded(url, "NONKEY")


def packets(url: str) -> Iterator[None]:
    """PyAV: the stream taken apart into packets, nothing decoded."""
    import av

    with av.open(url, options=RTSP) as container:
        for _ in container.demux(video=0):
            yield


def opencv(url: str) -> Iterator[None]:
    """OpenCV: every frame read, which decodes it to BGR, and copied."""
    import cv2
    import numpy as np

    capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG)
    kept: Any = None
    while True:
        done, frame = capture.read()
        if not done:
            raise RuntimeError("OpenCV reads no further frame")
        kept = np.empty_like(frame) if kept is None else kept
        np.copyto(kept, frame)
        yield


def ffmpeg(url: str) -> Iterator[None]:
    """An ffmpeg process that pipes raw frames."""
    from benchmarks.measures.video import HEIGHT, WIDTH

    frame = bytearray(WIDTH * HEIGHT * 3 // 2)
    words = ["ffmpeg", "-nostdin", "-loglevel", "error", "-rtsp_transport", "tcp", "-i", url]
    words += ["-f", "rawvideo", "-pix_fmt", "yuv420p", "pipe:"]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while process.stdout.readinto(frame) == len(frame):  # type: ignore[attr-defined]
            yield


def _decoded(url: str, skip: Literal["DEFAULT", "NONKEY"]) -> Iterator[None]:
    import av
    import numpy as np

    with av.open(url, options=RTSP) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        stream.codec_context.skip_frame = skip
        kept: list[Any] = []
        for frame in container.decode(stream):
            planes = [np.frombuffer(memoryview(it), np.uint8).reshape(-1, it.line_size) for it in frame.planes]
            views = [rows[: it.height, : it.width] for rows, it in zip(planes, frame.planes, strict=True)]
            kept = kept or [np.empty_like(view) for view in views]
            for target, view in zip(kept, views, strict=True):
                np.copyto(target, view)
            yield


WAYS: dict[str, Callable[[str], Iterator[None]]] = {
    "pyav": pyav,
    "keyframes": keyframes,
    "packets": packets,
    "opencv": opencv,
    "ffmpeg": ffmpeg,
}


def _follow(way: str, url: str) -> None:
    for number, _ in enumerate(WAYS[way](url)):
        if not number:
            print("ready", flush=True)


if __name__ == "__main__":
    thread = threading.Thread(target=_follow, args=sys.argv[1:3])
    thread.start()
    thread.join()
