"""What decoders import, for a process that forks them: it lies in memory once for all of them."""

from collections.abc import Iterable
from importlib import import_module

# by the beginning of sources; what few cameras need, a decoder imports itself
RTSP = (
    "framesrv.camera.decoder",
    "framesrv.camera.sources.rtsp.source",
    "framesrv.camera.sources.rtsp.payloads.h264",
    "framesrv.camera.sources.rtsp.payloads.h265",
    "framesrv.codec.questions",
    "framesrv.codec.trial",
    "secrets",  # passwords
    "encodings.idna",  # names of hosts
)
MODULES = {"rtsp": RTSP, "rtsps": (*RTSP, "ssl")}


def preload(sources: Iterable[str]) -> None:
    """Imports what these sources need."""
    for kind in {source.partition(":")[0].lower() for source in sources}:
        for name in MODULES.get(kind, RTSP[:1]):
            import_module(name)
