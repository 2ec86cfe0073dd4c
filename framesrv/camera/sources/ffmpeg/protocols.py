"""Which protocols FFmpeg may use for a source.

A camera decides where its redirects, playlists and descriptions lead. They may lead only where its own kind of source
must go: never from the network to a file of this host.
"""

import re

_NETWORK = "tcp,udp,tls"
_WEB = "http,https,httpproxy,tcp,tls,crypto,data"  # crypto and data: of encrypted HLS
_WHITELISTS = {
    "rtsp": f"rtsp,rtsps,rtp,srtp,rtcp,{_NETWORK}",
    "rtsps": f"rtsps,rtp,srtp,rtcp,{_NETWORK}",
    "rtmp": "rtmp,rtmpt,tcp,http",
    "rtmps": "rtmps,rtmpts,tcp,tls,https",
    "http": _WEB,
    "https": _WEB,
    "rtp": "rtp,srtp,udp",
    "udp": "udp,rtp",
    "srt": "srt,udp",
    "file": "file",
    "concat": "concat,file",
    "subfile": "subfile,file",
}
# of sources, in lower case; FFmpeg may know some more
SCHEMES = ("test", "opencv", "v4l2", *_WHITELISTS, "rtmpt", "rtmpts", "rtmpe", "rtmpte", "mmsh")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)


def whitelist(source: str, *, tunnel: bool = False) -> str:
    """FFmpeg's ``protocol_whitelist`` for a source string.

    A local file may lead to files alone. A session description in a file (``*.sdp``) names the streams that are its
    purpose.

    Args:
        source: as configured.
        tunnel: RTSP goes through HTTP.
    """
    match = _SCHEME.match(source)
    scheme = match[1].lower().partition("+")[0] if match else "file"
    if scheme == "file" and source.lower().endswith(".sdp"):
        return "file,rtp,srtp,rtcp,udp"
    allowed = _WHITELISTS.get(scheme, f"{scheme},{_NETWORK}")
    return f"{allowed},http,https" if tunnel else allowed
