"""What this package raises on purpose; each a sentence for the person who reads it."""

from framesrv import FramesrvError


class SnapdError(FramesrvError):
    """The base of every error that snapd raises on purpose."""


class EncoderError(SnapdError):
    """The JPEG encoder asked for is not on this host."""


class StoreError(SnapdError):
    """A picture could not be stored, or the store not be reached.

    Attributes:
        told: the log has it already, once for all requests that it happens to.
    """

    def __init__(self, message: str, *, told: bool = False) -> None:
        super().__init__(message)
        self.told = told


class AddressRefusedError(SnapdError):
    """A host is reached by an address that must not be called."""


class RequestTimeoutError(SnapdError):
    """No result came in time."""


class RedisVersionError(SnapdError):
    """Redis is too old."""


class DeadLetterError(SnapdError):
    """There is no such dead letter, or the stream for them is none."""
