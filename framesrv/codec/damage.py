"""What FFmpeg tells in its log alone: packets that never came, and what its decoder complains of.

A decoder marks few of its frames as damaged, and conceals what it lacks. So whatever it logs as an error counts
against the picture at hand, whatever the words; but for those that are about what no picture needs.
"""

import re
import threading
from types import TracebackType
from typing import Self

import av.logging

MISSED = "RTP: missed"  # libavformat/rtpdec.c
# what the H.265 decoder answers when it is asked, see `codec.h265` (libavcodec/hevc/hevcdec.c)
MISSING = "Previous slice segment missing"
UNASKED = "Independent slice segment missing"  # of a picture that was left out
REFUSED = "Skipping invalid undecodable NALU"

# of messages besides the picture (SEI), of what a set says for players (VUI), of layers that nobody asked for
HARMLESS = re.compile(
    r"SEI |Picture timing SEI|recovery_frame_cnt|non-existing SPS \d+ referenced in buffering|cpb_count|nb_cpb"
    r"|num_sps_ids|active_parameter_set_id|.*VUI|VPS|vps_|Scalability|PTL|Missing scalability"
)
# of pictures before the one that decoding began with, which the first ones after it may mean to let go of
BEFORE = re.compile(r"mmco: unref short failure|number of reference frames \(\d+\+\d+\) exceeds max")
_OVERSIZED = re.compile(r"Picture size (\d+x\d+) exceeds specified max pixel count")


_mutex = threading.Lock()
_former: list[tuple[int | None, bool]] = []  # what the process had of it, one for each who listens


def _listen() -> None:
    """Has FFmpeg's log heard by this process, which may be anybody's, for as long as somebody of ours listens."""
    with _mutex:
        now = av.logging.get_level(), av.logging.get_skip_repeated()
        _former.append(_former[0] if _former else now)
        av.logging.set_level(av.logging.WARNING)
        av.logging.set_skip_repeated(False)  # else a second loss like the first would not be heard


def _leave() -> None:
    with _mutex:
        level, skips = _former.pop()
        if not _former:
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skips)


class Damage:
    """Listens to FFmpeg in the thread that enters it, which must be the one that reads and decodes.

    Attributes:
        oversized: the size of a picture that was refused for it, as ``16384x8192``; empty if none was.
        complaint: what the decoder said of the picture that `noticed` was last asked of; empty if nothing.
    """

    def __init__(self) -> None:
        self.oversized = self.complaint = ""
        self._capture = av.logging.Capture(local=True)
        self._messages: list[tuple[int, str, str]] = []

    def __enter__(self) -> Self:
        _listen()
        self._messages = self._capture.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._capture.__exit__(None, None, None)
        _leave()

    @property
    def said(self) -> list[str]:
        """What FFmpeg has logged since `noticed` was last asked."""
        return [message for _, _, message in self._messages]

    def noticed(self, decoder: str, *, asked: int = 0, beginning: bool = False) -> bool:
        """Whether FFmpeg told of any since this was last asked.

        Args:
            decoder: its name, as ``h264``.
            asked: how often the decoder was asked whether the picture is complete, see `codec.h265`.
            beginning: it has begun anew, and given no picture since.
        """
        self.complaint = ""
        if not self._messages:
            return False
        refused, found = 0, False
        for level, name, message in self._messages:
            if name == decoder and message.startswith(REFUSED):  # as of most pictures
                refused += 1
                continue
            if match := _OVERSIZED.match(message):
                self.oversized = match[1]
            if message.startswith(MISSED):
                found = True
            elif name != decoder:
                continue
            elif level <= av.logging.ERROR and not HARMLESS.match(message):
                if (asked and message.startswith(UNASKED)) or (beginning and BEFORE.match(message)):
                    continue
                found = True
                self.complaint = "a part of it is missing" if message.startswith(MISSING) else message.strip()
        self._messages.clear()
        if refused > asked:
            found = True
            self.complaint = self.complaint or REFUSED
        return found
