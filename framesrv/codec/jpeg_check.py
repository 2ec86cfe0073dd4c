"""Whether JPEGs are what their headers say, where those have been made from hearsay.

A decoder takes the data that it needs for the size it was told, and is silent about what is left. So a picture of
2560x1440 whose header says 512x1440 is decoded without complaint, to stripes. Told of a few blocks more than the
picture is said to have, a decoder must complain that there is no data for them: otherwise there is more in it.
"""

import time

import av

from framesrv.codec.damage import Damage
from framesrv.codec.jpeg import shape_of
from framesrv.errors import SourceError

AGAIN = 10.0  # s after which it is looked at anew: the camera's settings may have been changed
ATTEMPTS = 5  # pictures in a row that cannot be decoded
MORE = 4  # blocks; bytes that fill up the end of a picture are fewer
TALLEST = 65_500  # pixels

ADVICE = "choose H.264 or H.265 in its settings"


class JpegCheck:
    """Looks at the first pictures, and at one now and then."""

    def __init__(self) -> None:
        self._frame = b""
        self._checked = 0.0
        self._failures = 0

    def look(self, jpeg: bytearray, frame: bytes) -> None:
        """Looks at a picture, if it is time or `frame`, the header that says its shape, is another.

        Raises:
            SourceError: it is not what its headers say.
        """
        now = time.monotonic()
        if frame == self._frame and now - self._checked < AGAIN:
            return
        if complaint := _complaint(bytes(jpeg)):
            self._failures += 1
            if self._failures >= ATTEMPTS:
                raise SourceError(
                    f'its JPEGs cannot be decoded, the decoder says "{complaint}": perhaps they have Huffman tables '
                    f"of their own, which RTP does not carry: choose the standard ones, or {ADVICE}",
                    "format",
                )
            return
        if not _complaint(_with_more(jpeg)):
            shape = shape_of(jpeg)
            raise SourceError(
                f"there is more in its JPEGs than the {shape.width}x{shape.height} that they are said to be: RTP "
                "tells sides of JPEGs up to 2040 pixels, in steps of 8, and no Huffman tables: "
                f"choose a smaller size, or {ADVICE}",
                "format",
            )
        self._frame, self._checked, self._failures = frame, now, 0


def _complaint(jpeg: bytes) -> str:
    """What the decoder says against a JPEG; empty if nothing."""
    codec = av.CodecContext.create("mjpeg", "r")
    with Damage() as damage:
        try:
            codec.decode(av.Packet(jpeg))
        except (av.error.FFmpegError, ValueError) as error:
            damage.noticed(codec.name)
            return damage.complaint or str(error)
        damage.noticed(codec.name)
        return damage.complaint


def _with_more(jpeg: bytearray) -> bytes:
    """The same data as a picture of at least `MORE` blocks more, of whatever proportions come closest to that.

    Blocks follow one another without regard to where a row of them ends.
    """
    shape = shape_of(jpeg)
    across, down = shape.block
    wanted = -(-shape.width // across) * -(-shape.height // down) + MORE
    widest, tallest = min(wanted, TALLEST // across), TALLEST // down
    columns = min(
        (number for number in range(1, widest + 1) if -(-wanted // number) <= tallest),
        key=lambda number: (-(-wanted // number) * number, abs(number - shape.width // across)),
    )
    rows = -(-wanted // columns)
    more = bytearray(jpeg)
    at = shape.at + 5
    more[at : at + 4] = (rows * down).to_bytes(2, "big") + (columns * across).to_bytes(2, "big")
    return bytes(more)
