"""A slot of a segment, as its writer fills it."""

from dataclasses import dataclass

from framesrv.segment.layout import Pixels
from framesrv.segment.stamp import Stamp


@dataclass
class Slot:
    """A slot while it is being filled.

    Attributes:
        planes: writable uint8 views, shaped as those of `Frame`.
        stamp: what the frame carries besides its pixels; now and the colours usual for its height unless set.
    """

    planes: tuple[Pixels, ...]
    stamp: Stamp | None = None
