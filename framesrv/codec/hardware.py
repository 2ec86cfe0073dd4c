"""Decoding on a device, where there is one; by the processor, and said once, where there is not."""

import logging

from av.codec import Codec
from av.codec.hwaccel import HWAccel, HWDeviceType
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

from framesrv.errors import SourceUsageError

KINDS = sorted(set(HWDeviceType.__members__) - {"none"})

logger = logging.getLogger(__name__)


class Hardware:
    """The device of a camera's configuration.

    Args:
        kind: ``vaapi``, ``cuda``, ``qsv``...; empty for none.

    Raises:
        SourceUsageError: FFmpeg knows no such kind.
    """

    def __init__(self, kind: str) -> None:
        if kind and kind not in KINDS:
            raise SourceUsageError(f'hwaccel "{kind}": expected one of {", ".join(KINDS)}, or nothing')
        self._kind = kind

    def accelerator(self) -> HWAccel | None:
        """What a container is opened with; None where there is no such device (any more)."""
        if self._kind:
            try:
                HWAccel(self._kind).create(Codec("h264", "r"))
            except NotImplementedError:
                self._give_up("this FFmpeg has no support for it")
            except (FFmpegError, OSError) as error:
                self._give_up(f"the device cannot be opened: {error.strerror}")
        return HWAccel(self._kind, allow_software_fallback=True) if self._kind else None

    def look(self, codec: VideoCodecContext) -> None:
        """Says so if the device does not decode for that codec."""
        if self._kind and not codec.is_hwaccel:
            self._give_up(f"it does not decode {codec.name}")

    def _give_up(self, reason: str) -> None:
        logger.warning("decoding in software hwaccel=%s: %s", self._kind, reason)
        self._kind = ""
