"""Opens a source: which way, how long it waits for an answer, and in what words it fails."""

import logging
import re
import time

import av
from av.container import InputContainer

from framesrv.camera.sources import reasons
from framesrv.camera.sources.codec.damage import Damage
from framesrv.camera.sources.codec.hardware import Hardware
from framesrv.camera.sources.experience import Experience
from framesrv.camera.sources.ffmpeg import cause
from framesrv.camera.sources.ffmpeg.address import address_of
from framesrv.camera.sources.ffmpeg.cost import Cost
from framesrv.camera.sources.ffmpeg.protocols import whitelist
from framesrv.errors import SourceError
from framesrv.settings import Camera
from framesrv.settings.ffmpeg_options import as_texts

NAMES = {"tcp": "tcp", "udp": "udp", "multicast": "udp_multicast", "http": "http"}  # of FFmpeg's rtsp_transport
BUFFER = 4 * 2**20  # bytes to receive into over UDP, as far as the kernel allows
TLS = ("rtsps:", "https:", "rtmps:")

_DEVICE = re.compile(r"v4l2:", re.IGNORECASE)

logger = logging.getLogger(__name__)


class Opening:
    """Opens the source of one camera, again and again.

    Attributes:
        experience: with it; None where the source is not RTSP.
    """

    def __init__(self, camera: Camera, hardware: Hardware, cost: Cost) -> None:
        self._camera = camera
        self._hardware = hardware
        self._cost = cost
        device = _DEVICE.match(camera.source)
        self._format = "v4l2" if device else None
        self._address = camera.source[device.end() :] if device else address_of(camera.source)
        self._said = False
        is_rtsp = self._address.startswith(("rtsp:", "rtsps:"))
        self.experience = Experience(camera) if is_rtsp else None

    def open(self, damage: Damage) -> InputContainer:
        """Opens it.

        Args:
            damage: that listens.

        Raises:
            SourceError: it cannot be opened.
        """
        if self.experience is None:
            return self._attempt(damage, self._of_others())
        refusals: list[str] = []
        for way in self.experience.ways:
            try:
                container = self._attempt(damage, self._of_rtsp(way), way=way)
            except cause.TransportRefusedError as error:
                refusals.append(str(error) if not refusals else str(error).removeprefix(reasons.CANNOT))
            else:
                self.experience.agreed(way)
                return container
        raise SourceError("; ".join(refusals), "refused")

    @property
    def _patience(self) -> float:
        return self._camera.timeout if self.experience is None else self.experience.patience

    def _of_others(self) -> dict[str, str]:
        # RTMP describes its stream: with more time FFmpeg would look at 25 pictures first, however slowly they come
        analysis = "100000" if self._address.startswith("rtmp") else "1000000"
        # of a live stream in segments (HLS) the newest; FFmpeg would begin with the third before the end
        return {"analyzeduration": analysis, "probesize": "2000000", "live_start_index": "-1"}

    def _of_rtsp(self, way: str) -> dict[str, str]:
        # over TCP nothing is reordered, but without a queue no loss is told of
        datagrams = way in ("udp", "multicast")
        its = {"buffer_size": str(BUFFER)} if datagrams else {"reorder_queue_size": "2"}
        return its | {
            "rtsp_transport": NAMES[way],
            "allowed_media_types": "video",  # a camera whose picture has stopped must not live on by its sound
            "analyzeduration": "100000",
            "probesize": "500000",
            "timeout": str(int(self._patience * 1e6)),
        }

    def _of_tls(self) -> dict[str, str]:
        camera = self._camera
        if not self._address.startswith(TLS):
            return {}
        if not (camera.tls_verify or camera.tls_ca):
            if not self._said:
                self._said = True
                logger.warning(
                    "The camera's certificate is not verified, anybody in between may read all: tls_verify"
                )
            return {"tls_verify": "0"}
        if not camera.tls_ca:
            return {"tls_verify": "1"}
        try:
            with open(camera.tls_ca, "rb"):
                return {"tls_verify": "1", "ca_file": camera.tls_ca}
        except OSError as error:
            raise SourceError(f"{reasons.CANNOT}tls_ca = {camera.tls_ca} cannot be read: {error.strerror}") from error

    def _attempt(self, damage: Damage, options: dict[str, str], way: str = "") -> InputContainer:
        camera, patience = self._camera, self._patience
        options |= (
            as_texts(camera.ffmpeg_options)
            | self._of_tls()
            | {
                "protocol_whitelist": whitelist(self._address, tunnel=way == "http"),
                "max_pixels": str(camera.max_pixels),
            }
        )
        # PyAV's time-outs end whatever else hangs
        limits = (patience, camera.timeout)
        accelerator = self._hardware.accelerator()
        began = time.monotonic()
        with self._cost.opening() as processor, damage.hears_description(bool(way)):
            try:
                return av.open(self._address, "r", self._format, options=options, timeout=limits, hwaccel=accelerator)
            except MemoryError as error:
                raise self._cost.much_memory("its answer") from error
            except (av.error.FFmpegError, OSError, ValueError) as error:
                late = time.monotonic() - began >= patience
                if processor.exceeded or (late and self._cost.was_busy(processor.spent)):
                    raise self._cost.much_processor("its answer") from error
                said = damage.said
                if late:  # FFmpeg has other words for it
                    raise self._no_answer(patience, cause.connected(said)) from error
                invalid = isinstance(error, av.error.InvalidDataError)
                if way and invalid and not damage.described and not cause.broke_off(said):
                    raise self._cost.much_memory("its session description is missing, or") from error
                raise cause.explain(error, said, self._address, way) from error

    def _no_answer(self, patience: float, connected: bool) -> SourceError:
        """That none came in time; there is more time from now on where somebody is there."""
        if connected and self.experience is not None:
            self.experience.late()
        return reasons.no_answer(patience)
