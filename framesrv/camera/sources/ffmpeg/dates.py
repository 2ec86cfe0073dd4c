"""When pictures of a live stream in segments were taken, as its playlist says (RFC 8216, 4.3.2.6).

FFmpeg passes EXT-X-PROGRAM-DATE-TIME over. So the playlist is read here once more when a stream has been opened, and
the beginning of a segment that it dates, for the time of that on the stream's clock; from there the clock goes on.
"""

import io
import logging
import time
from contextlib import closing
from datetime import datetime
from urllib.parse import urljoin

import av
import msgspec

from framesrv.codec.arrival import Packet
from framesrv.codec.damage import Damage
from framesrv.errors import SourceError
from framesrv.segment.status import CLOCK_OFF
from framesrv.settings import Camera

DATE, VARIANT = "#EXT-X-PROGRAM-DATE-TIME:", "#EXT-X-STREAM-INF"
PLAYLIST, BEGINNING = 1 << 20, 1 << 16  # bytes of a playlist, and of a segment, that are read
TICKS = 90_000  # a second
AROUND = 1 << 33  # ticks after which the clock of a transport stream begins anew
JUMP = 10.0  # s between two pictures after which the clock is another

logger = logging.getLogger(__name__)


class Dates:
    """Of the pictures of one stream.

    Args:
        ticks: of a moment, on the stream's clock.
        unix: the same moment, seconds.
    """

    def __init__(self, ticks: int, unix: float) -> None:
        self._ticks, self._unix = ticks, unix
        self._begun = self._lost = False

    def of(self, packet: Packet) -> int | None:
        """Unix nanoseconds at which its picture was taken; None where that is not known, or cannot be right."""
        if self._lost or packet.pts is None or packet.time_base is None:
            return None
        ticks = int(packet.pts * packet.time_base * TICKS)
        step = (ticks - self._ticks + AROUND // 2) % AROUND - AROUND // 2
        self._lost = self._begun and abs(step) > JUMP * TICKS
        self._ticks, self._unix, self._begun = ticks, self._unix + step / TICKS, True
        return round(self._unix * 1e9) if not self._lost and abs(self._unix - time.time()) <= CLOCK_OFF else None


def dates_of(camera: Camera) -> Dates | None:
    """Those that its playlist tells; None where it tells none, or cannot be read as FFmpeg has read it."""
    if not camera.source.lower().startswith(("http:", "https:")):
        return None
    try:
        return _dates(camera, camera.source)
    except (SourceError, ValueError, av.error.FFmpegError, OSError) as error:
        logger.warning("The dates of its playlist are not known, pictures are dated by their arrival: %s", error)
        return None


def _dates(camera: Camera, url: str, *, variant: bool = False) -> Dates | None:
    playlist = _read(camera, url, PLAYLIST).decode("utf-8", "replace").splitlines()
    date = dated = ""
    for line in map(str.strip, playlist):
        if line.startswith(VARIANT) and not variant:
            first = next((one for one in playlist if one.strip() and not one.startswith("#")), "")
            return _dates(camera, urljoin(url, first.strip()), variant=True)
        if line.startswith(DATE):
            date, dated = line.removeprefix(DATE), ""
        elif line and not line.startswith("#"):
            dated = dated or line
    if not date or not dated:
        return None
    moment = datetime.fromisoformat(date)
    if moment.tzinfo is None:
        raise ValueError(f"{date} has no time zone")
    return Dates(_first(_read(camera, urljoin(url, dated), BEGINNING)), moment.timestamp())


def _read(camera: Camera, url: str, size: int) -> bytes:
    """The first bytes of what is there."""
    from framesrv.camera.sources.still.web import Web  # which few cameras need

    with closing(Web(msgspec.structs.replace(camera, source=url), set())) as web:
        return web.beginning(size)


def _first(segment: bytes) -> int:
    """The time of its first picture, ticks."""
    # what is said of its missing end is no damage of the stream
    with Damage(), av.open(io.BytesIO(segment), "r", "mpegts") as container:
        for packet in container.demux(video=0):
            if packet.pts is not None and packet.time_base is not None:
                return int(packet.pts * packet.time_base * TICKS)
    raise ValueError("a segment of it begins with no picture")
