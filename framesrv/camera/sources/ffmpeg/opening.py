"""Opens a source: how long it waits for an answer, and in what words it fails.

An RTSP camera comes here only after our own client has played it and left it to FFmpeg for its codec; so it is known
to answer, and by which transport.
"""

import logging
import re
import time

import av
from av.container import InputContainer

from framesrv.camera.sources import reasons
from framesrv.camera.sources.experience import Experience
from framesrv.camera.sources.ffmpeg import cause
from framesrv.camera.sources.ffmpeg.address import address_of
from framesrv.camera.sources.ffmpeg.cost import Cost
from framesrv.camera.sources.ffmpeg.protocols import whitelist
from framesrv.codec.damage import Damage
from framesrv.codec.hardware import Hardware
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

    Args:
        camera: which one.
        hardware: what is to decode it.
        cost: what an opening may.
        experience: with it, where it is one that speaks RTSP.
    """

    def __init__(self, camera: Camera, hardware: Hardware, cost: Cost, experience: Experience | None = None) -> None:
        self._camera = camera
        self._hardware = hardware
        self._cost = cost
        device = _DEVICE.match(camera.source)
        self._format = "v4l2" if device else None
        self._address = camera.source[device.end() :] if device else address_of(camera.source)
        self._said_of = f"v4l2:{self._address}" if device else self._address
        self._said = False
        self._experience = experience

    def open(self, damage: Damage) -> InputContainer:
        """Opens it.

        Args:
            damage: that listens.

        Raises:
            SourceError: it cannot be opened.
        """
        experience = self._experience
        if experience is None:
            return self._attempt(damage, self._of_others())
        return self._attempt(damage, self._of_rtsp(experience.transport), tunnel=experience.transport == "http")

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
            "timeout": str(int(self._camera.timeout * 1e6)),
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

    def _attempt(self, damage: Damage, options: dict[str, str], *, tunnel: bool = False) -> InputContainer:
        camera = self._camera
        options |= (
            as_texts(camera.ffmpeg_options)
            | self._of_tls()
            | {
                "protocol_whitelist": whitelist(self._address, tunnel=tunnel),
                "max_pixels": str(camera.max_pixels),
            }
        )
        # PyAV's time-outs end whatever else hangs
        limits = (camera.timeout, camera.timeout)
        accelerator = self._hardware.accelerator()
        began = time.monotonic()
        with self._cost.opening() as processor:
            try:
                return av.open(self._address, "r", self._format, options=options, timeout=limits, hwaccel=accelerator)
            except MemoryError as error:
                raise self._cost.much_memory("its answer") from error
            except (av.error.FFmpegError, OSError, ValueError) as error:
                late = time.monotonic() - began >= camera.timeout
                if processor.exceeded or (late and self._cost.was_busy(processor.spent)):
                    raise self._cost.much_processor("its answer") from error
                if late:  # FFmpeg has other words for it
                    raise reasons.cannot(reasons.no_answer(camera.timeout)) from error
                raise cause.explain(error, damage.said, self._said_of) from error
