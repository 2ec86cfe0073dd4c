"""What FFmpeg tells in its log alone: packets that never came, references that are missing, a description that came.

An H.265 decoder marks no frame as damaged, and conceals what it lacks; a hole in a key frame of either codec may
decode without an error. So the log is what says it, and the messages are FFmpeg's own (libavformat/rtpdec.c,
libavcodec/hevc/refs.c, libavcodec/h264_slice.c).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import av.logging

MESSAGES = (
    "RTP: missed",
    "Could not find ref with POC",
    "Error constructing the frame RPS",
    "error while decoding MB",
    "concealing ",
)
DESCRIPTION = "SDP:"  # libavformat/rtspdec.c has it told, and by the same error that it is empty or too large

_OVERSIZED = re.compile(r"Picture size (\d+x\d+) exceeds specified max pixel count")


class Damage:
    """Listens to FFmpeg in the thread that enters it, which must be the one that reads and decodes.

    Attributes:
        oversized: the size of a picture that was refused for it, as ``16384x8192``; empty if none was.
    """

    def __init__(self) -> None:
        self.oversized = ""
        self._capture = av.logging.Capture(local=True)
        self._messages: list[tuple[int, str, str]] = []

    def __enter__(self) -> Self:
        av.logging.set_level(av.logging.WARNING)
        av.logging.set_skip_repeated(False)  # else a second loss like the first would not be heard
        self._messages = self._capture.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.__exit__(None, None, None)

    @contextmanager
    def hears_description(self, yes: bool) -> Iterator[None]:
        """Listens for a session description while the block lasts, if there is one to come."""
        if yes:
            av.logging.set_level(av.logging.VERBOSE)
        try:
            yield
        finally:
            av.logging.set_level(av.logging.WARNING)

    @property
    def said(self) -> list[str]:
        """What FFmpeg has logged since `noticed` was last asked."""
        return [message for _, _, message in self._messages]

    @property
    def described(self) -> bool:
        """Whether a session description was told of since `noticed` was last asked."""
        return any(message.startswith(DESCRIPTION) for _, _, message in self._messages)

    def noticed(self) -> bool:
        """Whether FFmpeg told of any since this was last asked."""
        if not self._messages:
            return False
        for _, _, message in self._messages:
            if match := _OVERSIZED.match(message):
                self.oversized = match[1]
        found = any(message.startswith(MESSAGES) for _, _, message in self._messages)
        self._messages.clear()
        return found
