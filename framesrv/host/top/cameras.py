"""What is wrong with the cameras of a host, in words, and their order with the worst first.

`HealthTracker` turns what the headers count into what happens a second, by the difference of two looks.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from framesrv.log import shown
from framesrv.segment.status import CameraStatus

RANK = {"down": 0, "stalled": 1, "connecting": 2, "live": 3}


@dataclass(frozen=True, slots=True)
class CameraHealth:
    """A camera at one look.

    Attributes:
        status: as its header says.
        dropped: frames a second that were not published since the look before.
        damaged: frames and packets a second that were held back.
        reason: what is wrong, in a few printable words; empty if nothing is.
    """

    status: CameraStatus
    dropped: float = 0.0
    damaged: float = 0.0
    reason: str = ""


class HealthTracker:
    """Remembers the last look."""

    def __init__(self) -> None:
        self._before: dict[str, CameraStatus] = {}
        self._looked_at = -math.inf

    def look(self, cameras: Sequence[CameraStatus], now: float) -> list[CameraHealth]:
        """What is to be seen of `cameras` at the monotonic time `now`, in seconds."""
        elapsed = now - self._looked_at
        cameras = [replace(camera, code=shown(camera.code)) for camera in cameras]
        healths = [self._health(camera, elapsed) for camera in cameras]
        self._before, self._looked_at = {camera.code: camera for camera in cameras}, now
        return healths

    def _health(self, camera: CameraStatus, elapsed: float) -> CameraHealth:
        before = self._before.get(camera.code, camera)
        # Less than before is a decoder that began anew.
        dropped = max(0, camera.dropped - before.dropped) / elapsed
        damaged = max(0, camera.corrupt - before.corrupt) / elapsed
        words = [camera.reason]
        if camera.state == "live":
            words += [f"drops {dropped:.1f}/s"] if dropped else []
            words += [f"damaged {damaged:.1f}/s"] if damaged else []
        return CameraHealth(camera, dropped, damaged, shown(", ".join(filter(None, words))))


def _late(camera: CameraHealth) -> int:
    """Whole seconds of a live camera's age: that of a camera on demand says nothing, nor does a fraction."""
    status = camera.status
    return int(status.age_s or 0) if status.state != "live" or status.decode != "demand" else 0


def _worst_first(camera: CameraHealth) -> tuple[Any, ...]:
    status = camera.status
    return RANK[status.state], -_late(camera), -round(camera.dropped + camera.damaged), status.code


ORDERS: dict[str, Callable[[CameraHealth], Any]] = {
    "worst first": _worst_first,
    "age": lambda camera: (-(math.inf if camera.status.age_s is None else camera.status.age_s), camera.status.code),
    "fps": lambda camera: (camera.status.fps, camera.status.code),
    "drops": lambda camera: (-camera.status.dropped, camera.status.code),
    "code": lambda camera: camera.status.code,
}


def totals(cameras: Sequence[CameraHealth]) -> str:
    """All of them in a few words, as ``8 cameras: 1 down, 7 live``."""
    counts = {state: sum(camera.status.state == state for camera in cameras) for state in RANK}
    words = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    return f"{len(cameras)} camera{'s' if len(cameras) != 1 else ''}: {words}" if words else "no cameras"
