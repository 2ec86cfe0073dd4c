"""New frames for the pages to show."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from framesrv import FrameWriter


def repaint(writer: FrameWriter, shade: int = 100) -> None:
    """A new frame."""
    planes = writer.geometry.planes
    writer.write(tuple(np.full((plane.rows, plane.used), shade, np.uint8) for plane in planes))


@contextmanager
def painting(writer: FrameWriter, fps: float) -> Iterator[None]:
    """New frames all the time."""
    ended = threading.Event()

    def paint() -> None:
        shade = 0
        while not ended.wait(1 / fps):
            shade = (shade + 1) % 200
            repaint(writer, shade)

    thread = threading.Thread(target=paint)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
