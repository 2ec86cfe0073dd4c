"""How cameras do, read from the headers of their segments alone."""

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from framesrv.errors import SegmentError
from framesrv.segment.file import SHM_DIRECTORY, segment_path
from framesrv.segment.mapping import Segment, State
from framesrv.segment.owner import named_user
from framesrv.segment.starvation import pinning

CLOCK_OFF = 60.0  # s by which a camera's clock may be wrong
WAITING = ("no_key_frame", "damaged")  # causes that a live stream may have
NUMBERS = (
    *("seq", "dropped", "corrupt", "reconnects", "blocked", "pid", "frames", "bytes", "decode", "started"),
    *("attempts", "restarts"),
)


@dataclass(frozen=True)
class CameraStatus:
    """One camera, as ``framesrv ls --json`` shows it.

    Attributes:
        code: the camera's code.
        state: ``live``, ``stalled`` (nothing comes), ``connecting`` (no picture yet) or ``down`` (no decoder).
        width: pixels, 0 while unknown; so is `height`.
        pixel_format: of the frames in shared memory.
        decode: the policy, as configured.
        fps: frames a second over about the last sixteen, 0 while unknown.
        seq: number of the newest frame.
        age_s: seconds since it arrived, None if there is none.
        dropped: frames not published, every slot being pinned.
        corrupt: frames and packets found damaged and held back.
        reconnects: times the source was lost.
        readers_blocked: frames written over the newest one, readers having pinned all other slots.
        pid: of the decoder, None if it is down.
        error: the newest error of the source, empty if there was none.
        frames: published.
        received: bytes of packets from the source.
        decode_s: seconds spent decoding.
        started_at: Unix seconds at which the decoder began, None if none ever did; of the last one if it is down.
        nbytes: of shared memory.
        cause: of `error`, one word for programs, see `SourceError.cause`; empty if it is not known.
        attempts: to reach the source, that failed since it last gave pictures.
        restarts: decoders before this one that ended unasked, since one was last told to end.
        transport: which way packets of RTP come: ``tcp``, ``udp``, ``multicast`` or ``http``; empty if not known.
        frozen_s: seconds for which all pictures of a live camera have been the same; None while they change.
        clock_ahead_s: seconds by which the camera's clock is before the host's, None if not known.
        pinned: who keeps every slot pinned, in words, so that no frame can be published; empty if one is free.
    """

    code: str
    state: State
    width: int = 0
    height: int = 0
    pixel_format: str = ""
    decode: str = ""
    fps: float = 0.0
    seq: int = 0
    age_s: float | None = None
    dropped: int = 0
    corrupt: int = 0
    reconnects: int = 0
    readers_blocked: int = 0
    pid: int | None = None
    error: str = ""
    frames: int = 0
    received: int = 0
    decode_s: float = 0.0
    started_at: float | None = None
    nbytes: int = 0
    cause: str = ""
    attempts: int = 0
    restarts: int = 0
    transport: str = ""
    frozen_s: float | None = None
    clock_ahead_s: float | None = None
    pinned: str = ""

    @property
    def reason(self) -> str:
        """Why there are no new frames, or what is wrong with them; empty if nothing is."""
        if self.pinned:
            return f"every slot is pinned by {self.pinned}"
        if self.state == "live":
            return self.error if self.cause in WAITING else self._oddities
        if self.state == "stalled":
            return "nothing comes"
        if self.state == "connecting":
            return self.error or "no picture yet"
        return "its decoder died" if self.width else self.error or "no decoder runs"

    @property
    def _oddities(self) -> str:
        frozen = "" if self.frozen_s is None else f"frozen: the same picture for {self.frozen_s / 60:.0f} min"
        return "; ".join(filter(None, (frozen, self._of_its_clock)))

    @property
    def _of_its_clock(self) -> str:
        ahead = self.clock_ahead_s
        wrong = ahead is not None and abs(ahead) > CLOCK_OFF
        return f"its clock is {difference(ahead)}" if ahead is not None and wrong else ""

    def to_json(self, kept: tuple[float, float] | None = None) -> dict[str, Any]:
        """The fields of the JSON form; `error` is for people, what follows it for metrics.

        Args:
            kept: Unix seconds of the oldest and the newest packet of the camera's history, None if it keeps none.
        """
        oldest, newest = kept or (None, 0.0)
        fields = asdict(self)
        fields["history_s"] = None if oldest is None else round(newest - oldest, 3)
        fields["history_from"] = oldest
        for name in ("error", "frames", "received", "decode_s", "started_at", "nbytes"):
            del fields[name]
        return fields


def camera_statuses(prefix: str, policies: Mapping[str, str], owner: str | int = "") -> list[CameraStatus]:
    """Every camera of the host.

    Args:
        prefix: of segment names.
        policies: the code of each configured camera, and what of it is decoded.
        owner: the user that decoders run as; see `FrameReader`.

    Returns:
        Those in their order, then every other camera that has a segment.
    """
    others = sorted(
        name.removeprefix(f"{prefix}.") for name in os.listdir(SHM_DIRECTORY) if name.startswith(f"{prefix}.")
    )
    codes = [*policies, *(code for code in others if code not in policies)]
    return [camera_status(prefix, code, policies.get(code, ""), owner) for code in codes]


def camera_status(prefix: str, code: str, decode: str = "", owner: str | int = "") -> CameraStatus:
    """One camera; ``down``, with the reason as `error`, where its segment cannot be read.

    Args:
        prefix: of segment names.
        code: the camera's code.
        decode: its policy as configured; as its decoder says, if empty.
        owner: the user that its decoder runs as; see `FrameReader`.
    """
    try:
        path = segment_path(prefix, code)
    except ValueError:
        return CameraStatus(code, "down", decode=decode)
    try:
        segment = Segment.attach(path, named_user(owner))
    except FileNotFoundError:
        return CameraStatus(code, "down", decode=decode)
    except (SegmentError, ValueError) as error:
        return CameraStatus(code, "down", decode=decode, error=str(error))
    try:
        status = _read(segment, code, decode)
        return CameraStatus(code, "down", decode=decode, error="its segment was cut short") if segment.cut else status
    finally:
        segment.close()


def _read(segment: Segment, code: str, decode: str) -> CameraStatus:
    header, geometry, state = segment.header, segment.geometry, segment.state
    number = {name: int(header[name][0]) for name in NUMBERS}
    interval, frozen = int(header["interval"][0]), int(header["frozen"][0])
    arrived = segment.arrived
    return CameraStatus(
        code=code,
        state=state,
        width=geometry.width,
        height=geometry.height,
        pixel_format=geometry.pixel_format if geometry.slots else "",
        decode=decode or bytes(header["decode_policy"][0]).decode("utf-8", "replace"),
        fps=round(1e9 / interval, 1) if interval and state == "live" else 0.0,
        seq=number["seq"],
        age_s=None if arrived is None else round((time.monotonic_ns() - arrived) / 1e9, 3),
        dropped=number["dropped"],
        corrupt=number["corrupt"],
        reconnects=number["reconnects"],
        readers_blocked=number["blocked"],
        pid=None if state == "down" else number["pid"],
        error=segment.error,
        cause=segment.cause,
        attempts=number["attempts"],
        restarts=number["restarts"],
        clock_ahead_s=ahead / 1e9 if (ahead := int(header["clock_ahead"][0])) else None,
        transport=bytes(header["transport"][0]).decode("ascii", "replace"),
        frozen_s=round((arrived - frozen) / 1e9, 1) if frozen and arrived and state == "live" else None,
        frames=number["frames"],
        received=number["bytes"],
        decode_s=number["decode"] / 1e9,
        started_at=number["started"] / 1e9 or None,
        nbytes=geometry.nbytes,
        pinned=pinning(segment) if state != "down" and segment.all_pinned else "",
    )


def difference(ahead: float) -> str:
    """By how much a clock is off, in words.

    Args:
        ahead: seconds by which it is before the right time; below 0 it is behind.
    """
    seconds = abs(ahead)
    for size, unit in ((86_400 * 365.25, "years"), (86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} {'fast' if ahead > 0 else 'slow'}"
    return f"{seconds:.0f} seconds {'fast' if ahead > 0 else 'slow'}"
