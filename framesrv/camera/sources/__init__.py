"""Where frames come from: a source string opens one of three kinds.

``test:WIDTHxHEIGHT@FPS`` is a test picture, ``opencv:ARG`` what OpenCV opens, anything else what FFmpeg opens. Each
kind has a module of its own, imported only when it is used.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from framesrv.camera.policy import Policy
from framesrv.codec.picture import SourceFrame
from framesrv.errors import Cause, SourceError, SourceUsageError
from framesrv.history.writer import HistoryWriter
from framesrv.segment.layout import PixelFormat
from framesrv.settings import Camera

__all__ = ["Facts", "Sink", "Source", "SourceError", "SourceFrame", "SourceUsageError", "open_source"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a stream while it is played, beside its pictures; nobody gathers it before it is asked for.

    Attributes:
        codec: FFmpeg's name, as ``hevc``; empty where there is none, or it is not known.
        profile: of the codec, as ``High``.
        pixel_format: in which the camera sends, FFmpeg's name.
        offered: the ways to give a password that the camera has asked for, as ``Digest MD5``; None: not known.
        packets: of RTP that have come; None where packets are not counted.
        missing: those that have not.
    """

    codec: str = ""
    profile: str = ""
    pixel_format: str = ""
    offered: tuple[str, ...] | None = None
    packets: int | None = None
    missing: int = 0


class Sink(Protocol):
    """Who is told how a source does: the segment's writer."""

    def count(self, counter: str, number: int = 1) -> None:
        """Adds to ``corrupt``, ``bytes`` or ``decode`` (nanoseconds)."""

    def active(self) -> None:
        """A packet of the stream has come."""

    def clock(self, ahead: float | None) -> None:
        """The camera's clock is so many seconds before the host's; None where it is not known (any more)."""

    def via(self, transport: str) -> None:
        """The camera sends that way, which is one of those that `transport` in the configuration names."""

    def idle(self, width: int, height: int, pixel_format: PixelFormat) -> None:
        """The stream flows; its frames, which have this form, are not decoded until `demanded`."""

    def describe(self, *, error: str, cause: Cause) -> None:
        """Packets come, and no picture that can be shown, for this reason; for none any more if it is empty."""

    @property
    def demanded(self) -> bool:
        """Whether a reader asks for a fresher frame than the newest."""


class Source(Protocol):
    """Yields pictures until the source is lost."""

    def frames(self, sink: Sink) -> Iterator[SourceFrame | None]:
        """Opens the source and yields what the camera's policy wants; tells `sink` how it does.

        None stands for a packet that gave no picture, so that whoever follows has his turn.

        Raises:
            SourceError: it cannot be opened, or has been lost.
        """

    def facts(self) -> Facts:
        """Of the stream that `frames` plays, for the thread that does; empty while none is played."""


def has_packets(source: str) -> bool:
    """Whether a source string is of a kind that gives packets, so that a history can be kept of them."""
    return source.partition(":")[0] not in ("test", "opencv")


def open_source(camera: Camera, policy: Policy, history: HistoryWriter | None = None) -> Source:
    """The source of a camera; it is opened when its pictures are asked for.

    Args:
        camera: the one, of one stream.
        policy: what of it is decoded.
        history: where packets are to be kept, if there are any.

    Raises:
        SourceUsageError: the source string is none that can work.
    """
    kind, _, rest = camera.source.partition(":")
    if kind == "test":
        from framesrv.camera.sources.pattern import Pattern

        return Pattern(rest, camera.pixel_format, policy)
    if kind == "opencv":
        from framesrv.camera.sources.opencv import OpenCV

        return OpenCV(rest, camera, policy)
    if kind.lower() in ("rtsp", "rtsps"):
        from framesrv.camera.sources.rtsp.source import Rtsp

        return Rtsp(camera, policy, history)
    from framesrv.camera.sources.ffmpeg.source import FFmpeg

    return FFmpeg(camera, policy, history=history)
