"""Options of FFmpeg's that a camera may be given, for what nobody thought of.

They change how a stream is read. None of them leads FFmpeg to another place, to a file or a proxy, lifts a limit of
what a stream may cost, or turns off the check of a certificate: what does, as ``protocol_whitelist``, is not here.
Nor may a value do more than its option: FFmpeg puts texts into the headers of requests as they are, and takes as much
memory as it is told.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, TypeAlias

from msgspec import Meta

LONGEST = 200  # characters of a text

Value: TypeAlias = str | int | float | bool


@dataclass(frozen=True)
class Kind:
    """What a value may be.

    Attributes:
        words: the same for people.
        low: the least number; None where it is a text.
        high: the greatest.
        form: of a text.
    """

    words: str
    low: int | None = None
    high: int = 0
    form: str = ".+"

    def takes(self, value: Value) -> bool:
        """Whether it is one."""
        if self.low is None:
            text = str(value)
            return len(text) <= LONGEST and text.isprintable() and re.fullmatch(self.form, text) is not None
        text = str(int(value) if isinstance(value, bool) else value)
        return re.fullmatch("-?[0-9]{1,10}", text) is not None and self.low <= int(text) <= self.high


def _whole(low: int, high: int) -> Kind:
    return Kind(f"a whole number from {low} to {high}", low, high)


SWITCH = Kind("true or false", 0, 1)
AUTO = _whole(-1, 1)
TEXT = Kind(f"a text of at most {LONGEST} characters, in one line")
WORD = Kind("a word of letters, digits and _", form="[A-Za-z0-9_]+")
MICROSECONDS = _whole(0, 60_000_000)
BYTES = _whole(0, 2**28)  # of a socket; the kernel has its own limit

GROUPS: dict[str, dict[str, Kind]] = {
    "all": {
        "analyzeduration": MICROSECONDS,
        "correct_ts_overflow": SWITCH,
        "fflags": Kind("names of flags, as +nobuffer", form="[+-]?[a-z_]+([+-][a-z_]+)*"),
        "fpsprobesize": _whole(-1, 1000),
        "max_delay": _whole(-1, 60_000_000),
        "max_probe_packets": _whole(0, 100_000),
        "probesize": _whole(32, 100_000_000),
        "use_wallclock_as_timestamps": SWITCH,
    },
    "UDP, RTP": {
        "block": TEXT,
        "buffer_size": BYTES,
        "fifo_size": _whole(0, 500_000),  # of 188 bytes each
        "localaddr": TEXT,
        "localport": _whole(0, 65_535),
        "overrun_nonfatal": SWITCH,
        "pkt_size": _whole(1, 65_535),
        "reuse": SWITCH,
        "sources": TEXT,
        "reorder_queue_size": _whole(0, 10_000),
    },
    "TCP": {"recv_buffer_size": BYTES, "tcp_nodelay": SWITCH},
    "HTTP": {
        "multiple_requests": SWITCH,
        "reconnect": SWITCH,
        "reconnect_at_eof": SWITCH,
        "reconnect_delay_max": _whole(0, 300),
        "reconnect_on_http_error": Kind("statuses, as 4xx,503", form="[0-9][0-9x]{2}(,[0-9][0-9x]{2})*"),
        "reconnect_on_network_error": SWITCH,
        "reconnect_streamed": SWITCH,
        "referer": TEXT,
        "seekable": AUTO,
        "strict_mime_boundary": SWITCH,
        "user_agent": TEXT,
    },
    "HLS": {
        "http_multiple": AUTO,
        "http_persistent": SWITCH,
        "live_start_index": _whole(-1000, 1000),
        "m3u8_hold_counters": _whole(0, 1000),
        "max_reload": _whole(0, 1000),
        "prefer_x_start": SWITCH,
        "seg_max_retry": _whole(0, 100),
    },
    "RTMP": {
        "rtmp_app": TEXT,
        "rtmp_buffer": _whole(0, 60_000),
        "rtmp_flashver": TEXT,
        "rtmp_listen": SWITCH,
        "rtmp_live": Kind("any, live or recorded", form="any|live|recorded"),
        "rtmp_pageurl": TEXT,
        "rtmp_playpath": TEXT,
        "rtmp_subscribe": TEXT,
        "rtmp_swfurl": TEXT,
        "rtmp_tcurl": TEXT,
    },
    "transport streams": {
        "max_packet_size": _whole(188, 2**24),
        "merge_pmt_versions": SWITCH,
        "resync_size": _whole(0, 10_000_000),
        "scan_all_pmts": AUTO,
        "skip_changes": SWITCH,
        "skip_unknown_pmt": SWITCH,
    },
    "V4L2": {
        "channel": _whole(-1, 100),
        "framerate": Kind("pictures a second, as 15 or 30000/1001", form=r"[0-9]{1,6}(\.[0-9]{1,6}|/[0-9]{1,6})?"),
        "input_format": WORD,
        "pixel_format": WORD,
        "standard": WORD,
        "timestamps": Kind("default, abs or mono2abs", form="default|abs|mono2abs"),
        "use_libv4l2": SWITCH,
        "video_size": Kind("a size, as 1280x720", form="[0-9]{1,5}x[0-9]{1,5}|[a-z0-9]{1,10}"),
    },
}
KINDS = {name: kind for group in GROUPS.values() for name, kind in group.items()}
NAMES = frozenset(KINDS)

FFmpegOptions = Annotated[
    dict[str, Value],
    Meta(description="a table of FFmpeg's options, as { probesize = 5000000 }"),
]


def problem(options: Mapping[str, Value]) -> str:
    """What is wrong with them; empty if nothing is. No value is repeated: it may be secret."""
    for name, value in sorted(options.items()):
        if name not in KINDS:
            return f"{name} may not be set; expected one of {', '.join(sorted(NAMES))}"
        if not KINDS[name].takes(value):
            return f"{name}: expected {KINDS[name].words}"
    return ""


def as_texts(options: Mapping[str, Value]) -> dict[str, str]:
    """As FFmpeg takes them."""
    return {name: str(int(value) if isinstance(value, bool) else value) for name, value in options.items()}
