"""Cameras as lines of text, one each."""

from collections.abc import Iterator, Sequence

import click

from framesrv.segment.status import CameraStatus

STATE_COLOURS = {"live": "green", "stalled": "yellow", "connecting": "yellow", "down": "red"}


def lines(cameras: Sequence[tuple[CameraStatus, str]]) -> Iterator[str]:
    """A heading, and a line for each camera that ends with what is said of it."""
    width = max([len("CODE"), *(len(camera.code) for camera, _ in cameras)])
    yield f"{'CODE':{width}}  {'STATE':10}  {'SIZE':9}  {'FPS':>5}  {'AGE':>7}  {'DROPS':>5}  {'LOST':>4}  ERROR"
    for camera, words in cameras:
        size = f"{camera.width}x{camera.height}" if camera.width else "-"
        age = "-" if camera.age_s is None else f"{camera.age_s:.2f} s"
        state = click.style(f"{camera.state:10}", fg=STATE_COLOURS[camera.state])
        yield (
            f"{camera.code:{width}}  {state}  {size:9}  {camera.fps:5.1f}  {age:>7}  "
            f"{camera.dropped:5}  {camera.reconnects:4}  {words}".rstrip()
        )
