"""The exceptions of this package: one tree, each with the sentence that a person needs."""

from typing import Literal

Reason = Literal["absent", "down", "connecting", "stalled", "stale"]
MomentReason = Literal["absent", "no_history", "empty", "before", "after", "gap", "damaged"]
Cause = Literal[
    "",
    "unauthorized",
    "name_unknown",
    "no_route",
    "refused",
    "timeout",
    "protocol",
    "not_found",
    "no_video",
    "format",
    "limit",
    "lost",
    "ended",
    "no_key_frame",
    "damaged",
]


class FramesrvError(Exception):
    """The base of every error that framesrv raises on purpose."""


class ConfigError(FramesrvError):
    """The configuration is wrong.

    Attributes:
        problems: one line for each wrong or unknown key, naming the key and what was expected.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class SegmentError(FramesrvError):
    """A shared-memory segment cannot be made, adopted or read."""


class SegmentBusyError(SegmentError):
    """The camera already has a live writer; a segment has one at a time."""


class SegmentSpaceError(SegmentError):
    """Shared memory is too small: the sentence names the bytes needed and free."""


class SegmentOwnerError(SegmentError):
    """A file of the segment's name belongs to another user than it may."""


class SegmentFormatError(SegmentError):
    """The file is no segment, or one of another layout version, or damaged."""


class FrameReleasedError(FramesrvError):
    """A frame is used after its release, or in another process than pinned it."""


class SourceError(FramesrvError):
    """A camera's source cannot be opened or has been lost; trying again may help.

    Attributes:
        cause: one word for programs, empty where it is not known.
    """

    def __init__(self, message: str, cause: Cause = "") -> None:
        super().__init__(message)
        self.cause: Cause = cause


class SourceLimitError(SourceError):
    """A camera's stream would cost more than it may; trying again soon does not help."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "limit")


class SourceUsageError(SourceError):
    """A camera's source can never work as it is written; trying again does not help."""


class FrameUnavailableError(FramesrvError):
    """No such camera, or no frame in time.

    Attributes:
        code: the camera's code.
        reason: ``absent`` (no segment), ``down`` (no writer), ``connecting``, ``stalled`` (the stream stands
            still) or ``stale`` (frames come, none fresh enough).
        age: seconds since the newest frame arrived, None where there is none.
        cause: of the newest error of the camera's source, one word as `SourceError.cause`; empty if not known.
    """

    def __init__(self, code: str, reason: Reason, message: str, age: float | None = None, cause: str = "") -> None:
        super().__init__(message)
        self.cause = cause
        self.code = code
        self.reason: Reason = reason
        self.age = age


class HistoryUnavailableError(FramesrvError):
    """There is no picture, or there are no packets, of a moment.

    Attributes:
        code: the camera's code.
        reason: ``absent`` (no decoder of it runs or was left), ``no_history`` (it keeps none: its `history` is 0, or
            its source gives no packets), ``empty`` (nothing is kept yet), ``before`` (the history begins later),
            ``after`` (the moment is to come, or what was shown then has not arrived in time), ``gap`` (the stream was
            lost or stood still then) or ``damaged`` (what was shown then is damaged, or refers to what is).
        oldest: Unix seconds at which the history begins, None where there is none.
        newest: Unix seconds of the newest packet, None where there is none.
    """

    def __init__(
        self,
        code: str,
        reason: MomentReason,
        message: str,
        oldest: float | None = None,
        newest: float | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason: MomentReason = reason
        self.oldest = oldest
        self.newest = newest
