"""Motion JPEG over HTTP, by a client of our own: a picture is given when its last byte has come."""

from collections.abc import Iterator
from contextlib import closing
from typing import cast

import av
from av.video.codeccontext import VideoCodecContext

from framesrv.camera.policy import Policy
from framesrv.camera.sources import Facts, Sink, SourceFrame
from framesrv.camera.sources.decoding import Decoding
from framesrv.camera.sources.motion.parts import pictures
from framesrv.camera.sources.patience import Patience
from framesrv.camera.sources.size_limit import SizeLimit
from framesrv.camera.sources.still.web import Web
from framesrv.codec.arrival import Arrival, Packet
from framesrv.codec.conversion import Conversion
from framesrv.codec.damage import Damage
from framesrv.codec.exif import orientation_in
from framesrv.codec.jpeg import shape_of
from framesrv.codec.orientation import AS_IT_IS
from framesrv.errors import SourceError
from framesrv.history.writer import HistoryWriter
from framesrv.settings import Camera

CODEC = "mjpeg"


class Motion:
    """The pictures at a URL, one after the other."""

    def __init__(self, camera: Camera, policy: Policy, history: HistoryWriter | None = None) -> None:
        self._camera = camera
        self._policy = policy
        self._history = history
        self._conversion = Conversion(camera.presentation)
        self._limit = SizeLimit(camera)
        self._patience = Patience(camera.timeout)
        self._told: set[str] = set()
        self._codec: VideoCodecContext | None = None

    def frames(self, sink: Sink) -> Iterator[SourceFrame | None]:
        """See `Source.frames`.

        Raises:
            NoImageError: there are no such pictures, but something else.
        """
        self._codec = codec = cast(VideoCodecContext, av.CodecContext.create(CODEC, "r"))
        codec.options = self._limit.options
        with Damage() as damage, closing(Web(self._camera, self._told)) as web:
            decoding = Decoding(codec, self._camera.presentation, self._policy, damage, sink, history=self._history)
            self._patience.begin()
            for image in pictures(web.stream()):
                size = _size_of(image.data)
                if size != decoding.size:
                    decoding.size = size and self._limit.checked(*size)
                packet = cast(Packet, av.Packet(image.data))
                packet.is_keyframe = True
                self._patience.key_came(whole=True)
                frames = decoding.frames(packet, Arrival(image.monotonic, image.unix))
                for frame, its in frames:
                    yield self._conversion.source_frame(frame, its, exif=orientation_in(image.data) or AS_IT_IS)
                if damage.oversized:
                    raise self._limit.exceeded(damage.oversized)
                self._patience.look(sink, intact=decoding.intact, complaint=damage.complaint)
                if not frames:
                    yield None
        raise SourceError("the camera ended the stream", "ended")

    def facts(self) -> Facts:
        """See `Source.facts`."""
        return Facts(CODEC, pixel_format=(self._codec.pix_fmt or "") if self._codec else "")


def _size_of(jpeg: bytes) -> tuple[int, int] | None:
    """Width and height; None where it does not say, and the decoder will complain."""
    try:
        shape = shape_of(jpeg)
    except ValueError:
        return None
    return shape.width, shape.height
