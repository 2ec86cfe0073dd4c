"""What this package raises on purpose; each a sentence for the person who reads it."""

from framesrv import FramesrvError


class SnapdError(FramesrvError):
    """The base of every error that snapd raises on purpose."""


class EncoderError(SnapdError):
    """The JPEG encoder asked for is not on this host."""


class StoreError(SnapdError):
    """A picture could not be stored, or the store not be reached."""


class RequestTimeoutError(SnapdError):
    """No result came in time."""
