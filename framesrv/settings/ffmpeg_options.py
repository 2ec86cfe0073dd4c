"""Options of FFmpeg's that a camera may be given, for what nobody thought of.

They change how a stream is read. None of them leads FFmpeg to another place, to a file or a proxy, lifts a limit of
what a stream may cost, or turns off the check of a certificate: what does, as ``protocol_whitelist``, is not here.
"""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

GROUPS = {
    "all": (
        *("analyzeduration", "correct_ts_overflow", "fflags", "fpsprobesize", "max_delay", "max_probe_packets"),
        *("probesize", "use_wallclock_as_timestamps"),
    ),
    "UDP, RTP": (
        *("block", "buffer_size", "fifo_size", "localaddr", "localport", "overrun_nonfatal", "pkt_size", "reuse"),
        *("sources", "reorder_queue_size"),
    ),
    "TCP": ("recv_buffer_size", "tcp_nodelay"),
    "HTTP": (
        *("multiple_requests", "reconnect", "reconnect_at_eof", "reconnect_delay_max", "reconnect_on_http_error"),
        *("reconnect_on_network_error", "reconnect_streamed", "referer", "seekable", "strict_mime_boundary"),
        "user_agent",
    ),
    "HLS": (
        *("http_multiple", "http_persistent", "live_start_index", "m3u8_hold_counters", "max_reload"),
        *("prefer_x_start", "seg_max_retry"),
    ),
    "RTMP": (
        *("rtmp_app", "rtmp_buffer", "rtmp_flashver", "rtmp_listen", "rtmp_live", "rtmp_pageurl", "rtmp_playpath"),
        *("rtmp_subscribe", "rtmp_swfurl", "rtmp_tcurl"),
    ),
    "transport streams": (
        *("max_packet_size", "merge_pmt_versions", "resync_size", "scan_all_pmts", "skip_changes"),
        "skip_unknown_pmt",
    ),
    "V4L2": (
        *("channel", "framerate", "input_format", "pixel_format", "standard", "timestamps", "use_libv4l2"),
        "video_size",
    ),
}
NAMES = frozenset(name for names in GROUPS.values() for name in names)

FFmpegOptions = Annotated[
    dict[str, str | int | float | bool],
    Meta(description="a table of FFmpeg's options, as { probesize = 5000000 }"),
]


def problem(options: Mapping[str, str | int | float | bool]) -> str:
    """What is wrong with them; empty if nothing is."""
    strange = sorted(set(options) - NAMES)
    return f"{strange[0]} may not be set; expected one of {', '.join(sorted(NAMES))}" if strange else ""


def as_texts(options: Mapping[str, str | int | float | bool]) -> dict[str, str]:
    """As FFmpeg takes them."""
    return {name: str(int(value) if isinstance(value, bool) else value) for name, value in options.items()}
