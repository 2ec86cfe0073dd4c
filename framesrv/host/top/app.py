"""``framesrv top``: every camera of the host, live, from the segment headers alone.

On a terminal a table that takes keys; elsewhere, lines. Both end at a signal, and the terminal is then as it was.
"""

import errno
import os
import select
import signal
import sys
import time
from contextlib import ExitStack

import click

from framesrv.host.ls import lines
from framesrv.host.top.cameras import ORDERS, CameraHealth, HealthTracker, totals
from framesrv.host.top.keyboard import Keyboard
from framesrv.process.signals import Signals
from framesrv.segment.status import camera_statuses
from framesrv.settings import Settings

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


def run(settings: Settings, interval: float, note: str = "") -> None:
    """Shows the cameras every `interval` seconds until a signal or a key ends it, and with them `note`."""
    signals = Signals(*ENDING, signal.SIGWINCH, signal.SIGTSTP)
    if sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in {"dumb", "unknown"}:
        TopApp(settings, interval, signals, note).run()
    else:
        if note:
            click.echo(f"framesrv: {note}", err=True)
        _print(settings, interval, signals)


def _print(settings: Settings, interval: float, signals: Signals) -> None:
    tracker = HealthTracker()
    while True:
        cameras = sorted(_look(settings, tracker), key=next(iter(ORDERS.values())))
        click.echo(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {totals(cameras)}")
        for line in lines([(camera.status, camera.reason) for camera in cameras]) if cameras else ():
            click.echo(line)
        click.echo()
        again = time.monotonic() + interval
        while (left := again - time.monotonic()) > 0:
            heard = signals.wait(left)
            if heard in ENDING:
                return
            if heard == signal.SIGTSTP:
                os.kill(os.getpid(), signal.SIGSTOP)


def _look(settings: Settings, tracker: HealthTracker) -> list[CameraHealth]:
    return tracker.look(camera_statuses(settings.shm.prefix, settings.policies, settings.shm.owner), time.monotonic())


class TopApp:
    """The table on the terminal."""

    def __init__(self, settings: Settings, interval: float, signals: Signals, note: str) -> None:
        from framesrv.host.top.screen import Screen

        self._settings = settings
        self._interval = interval
        self._signals = signals
        self._tracker = HealthTracker()
        self._screen = Screen(note=note)
        self._again = 0.0  # monotonic time of the next look

    def run(self) -> None:
        """Until it is ended, or the terminal has gone; Ctrl-Z gives the terminal back meanwhile."""
        try:
            while self._shown() == signal.SIGTSTP:
                os.kill(os.getpid(), signal.SIGSTOP)
        except OSError as error:
            if error.errno != errno.EIO:
                raise

    def _shown(self) -> int:
        """Has the terminal until a signal, which it gives, or 0 for a key."""
        from rich.console import Console
        from rich.live import Live

        console = Console()
        with ExitStack() as stack:
            keyboard = stack.enter_context(Keyboard(sys.stdin.fileno())) if sys.stdin.isatty() else None
            live = stack.enter_context(Live(console=console, screen=True, auto_refresh=False))
            while not self._screen.ended:
                if time.monotonic() >= self._again and not self._screen.paused:
                    self._screen.cameras = _look(self._settings, self._tracker)
                    self._again = time.monotonic() + self._interval
                width, height = console.size
                live.update(self._screen.rendered(width, height, time.strftime("%H:%M:%S")), refresh=True)
                heard = self._wait(keyboard)
                if heard in ENDING or heard == signal.SIGTSTP:
                    return heard
        return 0

    def _wait(self, keyboard: Keyboard | None) -> int:
        """Until there is something to do; gives the signal that has come, or 0."""
        timeout = None if self._screen.paused else max(0.0, self._again - time.monotonic())
        sources: list[Signals | Keyboard] = [self._signals, keyboard] if keyboard else [self._signals]
        ready, _, _ = select.select(sources, [], [], timeout)
        if keyboard in ready and keyboard:
            try:
                for key in keyboard.read():
                    self._screen.press(key)
            except EOFError:
                self._screen.ended = True
        return self._signals.wait(0) or 0 if self._signals in ready else 0
