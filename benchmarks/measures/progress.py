"""Progress bars on standard error, where that is a terminal; silence elsewhere."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

STEPS = 1000


@contextmanager
def bar(label: str) -> Iterator[Callable[[float], None]]:
    """A bar; call what it gives with the share (0 to 1) that is done."""
    if not sys.stderr.isatty():
        yield lambda share: None
        return
    shown = 0
    with click.progressbar(length=STEPS, label=f"{label:<44}", file=sys.stderr) as steps:

        def show(share: float) -> None:
            nonlocal shown
            step = min(STEPS, int(share * STEPS))
            if step > shown:
                steps.update(step - shown)
                shown = step

        yield show
        show(1.0)


def rounds(label: str, seconds: float, at_least: int = 1) -> Iterator[int]:
    """Numbers of rounds, until `seconds` have passed and there have been `at_least` of them."""
    began = time.monotonic()
    number = 0
    with bar(label) as show:
        while number < at_least or time.monotonic() - began < seconds:
            yield number
            number += 1
            show(min((time.monotonic() - began) / seconds, number / at_least))


def wait(label: str, seconds: float) -> None:
    """Sleeps."""
    for _ in rounds(label, seconds):
        time.sleep(min(0.1, seconds))


def line(text: str) -> None:
    """Shows a line in place of the one before it."""
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        click.echo(f"\r\x1b[K{text[:width]}", nl=False, err=True)
