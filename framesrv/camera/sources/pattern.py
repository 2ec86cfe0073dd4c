"""A moving test picture: colour bars, a sweeping line, its frame number and the time drawn in.

It needs neither a camera nor a codec, and costs little: all but the figures and the line is drawn once.
"""

import re
import time
from collections.abc import Iterator

import numpy as np

from framesrv.camera.policy import Demand, Policy
from framesrv.camera.sources import Facts, Sink, SourceFrame
from framesrv.errors import SourceUsageError
from framesrv.segment.layout import MAX_SIDE, PixelFormat, Pixels
from framesrv.segment.stamp import Stamp, usual_matrix

# 100 % bars of ITU-R BT.1729: white, yellow, cyan, green, magenta, red, blue, black, as R G B
BARS = ((1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0))
LUMA = {"bt709": (0.2126, 0.0722), "bt601": (0.299, 0.114)}  # Kr, Kb of ITU-T H.273
BLACK, WHITE = 16, 235

# A 3 x 5 font, a row an octal digit
FONT = "0 75557 1 26227 2 71747 3 71717 4 55711 5 74717 6 74757 7 71122 8 75757 9 75717 : 02020 - 00700 . 00002"
GLYPHS = {" ": "00000"} | dict(zip(FONT.split()[::2], FONT.split()[1::2], strict=True))

_SPECIFICATION = re.compile(r"(\d{1,5})x(\d{1,5})@(\d{1,3}(?:\.\d{1,3})?)\Z")


class Pattern:
    """A test picture of any size and rate, limited range, of the matrix usual for its height."""

    def __init__(self, specification: str, pixel_format: PixelFormat, policy: Policy) -> None:
        match = _SPECIFICATION.match(specification)
        width, height, fps = (int(match[1]), int(match[2]), float(match[3])) if match else (0, 0, 0.0)
        if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and fps > 0):
            raise SourceUsageError(
                f"test:{specification}: expected test:WIDTHxHEIGHT@FPS, as test:1280x720@25, up to {MAX_SIDE} a side"
            )
        self._width, self._height, self._fps = width, height, fps
        self._pixel_format: PixelFormat = pixel_format
        self._policy = policy

    def frames(self, sink: Sink) -> Iterator[SourceFrame | None]:
        """See `Source.frames`."""
        still = self._bars()
        moving = tuple(plane.copy() for plane in still)
        origin, number = time.monotonic(), 0
        demand = Demand(sink)
        while True:
            arrived, captured = time.monotonic_ns(), time.time_ns()
            sink.active()
            if self._policy.demand and not demand.stands():
                sink.idle(self._width, self._height, self._pixel_format)
                yield None
            elif not self._policy.wants(arrived):
                yield None
            else:
                self._draw(moving[0], still[0], number, captured / 1e9)
                stamp = Stamp.now(self._height, key_frame=True)
                stamp = stamp._replace(pts=int(number / self._fps * 1e9), arrived_ns=arrived, captured_ns=captured)
                yield SourceFrame(moving, self._width, self._height, self._pixel_format, stamp)
            number += 1
            due = origin + number / self._fps
            now = time.monotonic()
            if now > due + 1:  # stopped for a while: what was missed is not made up for
                origin, due = now - number / self._fps, now
            time.sleep(max(0.0, due - now))

    def facts(self) -> Facts:
        """See `Source.facts`."""
        return Facts()

    def _bars(self) -> tuple[Pixels, ...]:
        """The picture without its moving parts."""
        rgb = np.array(BARS, float)[np.arange(self._width) * len(BARS) // self._width]
        if self._pixel_format == "bgr24":
            row = (rgb[:, ::-1] * 255).astype(np.uint8)
            picture = np.repeat(row[None], self._height, axis=0)
            picture[: self._height // 4] = BLACK
            return (picture,)
        red, blue = LUMA[usual_matrix(self._height)]
        luma = rgb @ (red, 1 - red - blue, blue)
        cb, cr = (rgb[:, 2] - luma) / 2 / (1 - blue), (rgb[:, 0] - luma) / 2 / (1 - red)
        rows = [BLACK + 219 * luma, (128 + 224 * cb)[::2], (128 + 224 * cr)[::2]]
        heights = [self._height, (self._height + 1) // 2, (self._height + 1) // 2]
        planes = tuple(
            np.repeat(row.round().astype(np.uint8)[None], height, axis=0)
            for row, height in zip(rows, heights, strict=True)
        )
        for plane, height, dark in zip(planes, heights, (BLACK, 128, 128), strict=True):
            plane[: height // 4] = dark
        return planes

    def _draw(self, picture: Pixels, still: Pixels, number: int, now: float) -> None:
        """Puts figures and line into luma, or into all of blue, green, red."""
        band = max(1, self._height // 4)
        picture[:band], picture[-band:] = still[:band], still[-band:]
        scale = max(1, self._width // 96)
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)) + f".{int(now * 10) % 10}"
        _text(picture[scale:], f"{number:08d}", scale)
        _text(picture[scale * 7 :], clock, scale)
        thickness = max(1, self._width // 80)
        left = number * thickness % self._width
        picture[-band:, left : left + thickness] = WHITE
        picture[-band:, left + thickness : left + 2 * thickness] = BLACK


def _text(picture: Pixels, text: str, scale: int) -> None:
    """Writes white figures on black, four pixels times `scale` a character, from the upper left corner."""
    rows = [[int(GLYPHS[character][row]) for character in text] for row in range(5)]
    bits = np.array([[digit >> bit & 1 for digit in line for bit in (2, 1, 0, 3)] for line in rows], np.uint8)
    figures = np.kron(BLACK + bits * (WHITE - BLACK), np.ones((scale, scale), np.uint8))
    target = picture[: figures.shape[0], : figures.shape[1]]
    cut = figures[: target.shape[0], : target.shape[1]]
    target[:] = cut if picture.ndim == 2 else cut[..., None]
