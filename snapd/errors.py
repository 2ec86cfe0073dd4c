"""What this package raises on purpose; each a sentence for the person who reads it."""

from typing import Literal, TypeAlias

from framesrv import FramesrvError

StoreTrouble: TypeAlias = Literal["silent", "failed", "refused", "unwritable"]


class SnapdError(FramesrvError):
    """The base of every error that snapd raises on purpose."""


class EncoderError(SnapdError):
    """The JPEG encoder asked for, or what draws into its pictures, is not on this host."""


class StoreError(SnapdError):
    """A picture could not be stored, or the store not be reached.

    Attributes:
        trouble: ``silent`` (no answer), ``failed`` (it has trouble of its own, or too much to do), ``refused`` (a
            person must mend something) or ``unwritable`` (a directory).
        reason: why, without which picture; empty where that was told before.
        cause: the same as one word for programs; empty where `trouble` is all that is known.
        told: the log has it already, once for all requests that it happens to.
    """

    def __init__(
        self, message: str, trouble: StoreTrouble, reason: str = "", *, cause: str = "", told: bool = False
    ) -> None:
        super().__init__(message)
        self.trouble = trouble
        self.reason = reason
        self.cause = cause
        self.told = told


class AddressRefusedError(SnapdError):
    """A host is reached by an address that must not be called."""


class FieldError(SnapdError):
    """A field of a request, or what stands for it elsewhere, is wrong.

    Attributes:
        name: the field's.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} is not as it must be")
        self.name = name


class CropError(SnapdError):
    """The part of a picture that is wanted does not lie within it."""


class ClipError(SnapdError):
    """A clip cannot be made.

    Attributes:
        reason: ``format``, ``large``, ``damaged`` or ``after`` (the camera has sent nothing of that moment).
    """

    def __init__(self, reason: Literal["format", "large", "damaged", "after"], message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RequestTimeoutError(SnapdError):
    """No result came in time."""


class RedisVersionError(SnapdError):
    """Redis is too old."""


class DeadLetterError(SnapdError):
    """There is no such dead letter, or the stream for them is none."""
