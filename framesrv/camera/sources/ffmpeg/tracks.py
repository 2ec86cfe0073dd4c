"""Which video track of a source is played: the one that is configured, or the first that gives packets."""

import time
from typing import TypeAlias, cast

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from framesrv.camera.sources.ffmpeg.cause import sentence
from framesrv.errors import SourceError

Packet: TypeAlias = "av.Packet[VideoStream]"

PATIENCE = 1.0  # s that the earlier tracks get once a packet of a later one has come


def choose(container: InputContainer, number: int) -> tuple[VideoStream, list[Packet]]:
    """The track, and its packets that were read meanwhile.

    Args:
        container: opened.
        number: of the track among those of video, from 1; 0 for the first that gives packets.

    Raises:
        SourceError: there is no such track, none at all, or nothing comes.
    """
    tracks = [track for track in container.streams.video if not track.disposition & Disposition.attached_pic]
    if not tracks:
        but = ", only a picture beside the sound" if container.streams.video else ""
        raise SourceError(f"there is no video in it{but}", "no_video")
    if number > len(tracks):
        raise SourceError(f"there is no video track {number} in it, only {len(tracks)}", "no_video")
    known = [track for track in ([tracks[number - 1]] if number else tracks) if _is_known(track)]
    if not known:
        raise SourceError("its video is of a kind that FFmpeg does not know", "format")
    return (known[0], []) if len(known) == 1 else _first_of(container, known)


def _is_known(track: VideoStream) -> bool:
    # a track of no known codec has no context, whatever PyAV's types say
    return track.codec_context is not None


def _first_of(container: InputContainer, tracks: list[VideoStream]) -> tuple[VideoStream, list[Packet]]:
    packets: dict[int, list[Packet]] = {track.index: [] for track in tracks}
    since = 0.0
    try:
        for packet in container.demux(tracks):
            packets[packet.stream_index].append(cast(Packet, packet))
            since = since or time.monotonic()
            if packets[tracks[0].index] or time.monotonic() - since >= PATIENCE:
                break
    except (av.error.FFmpegError, OSError) as error:
        raise SourceError(f"lost: {sentence(error)}", "lost") from error
    chosen = next((track for track in tracks if packets[track.index]), tracks[0])
    return chosen, packets[chosen.index]
