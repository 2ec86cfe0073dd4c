"""Segments, and files in their place, that no decoder writes: removed by root, whoever made them."""

import os
import re
from collections.abc import Iterable

from framesrv.errors import SegmentError
from framesrv.history.file import HistoryFile, history_path
from framesrv.history.layout import MARK
from framesrv.host.units import applied
from framesrv.host.units.systemd import UnitsError
from framesrv.segment import layout, locks
from framesrv.segment.file import SHM_DIRECTORY, segment_path
from framesrv.segment.mapping import Segment
from framesrv.segment.owner import SUB


def sweep(codes: Iterable[str] = ()) -> list[str]:
    """Sweeps the places of these cameras, or of all; gives a sentence for each that could not be cleared.

    A segment with a live writer stays. In a camera's place that writer is its decoder, as its user or as root: what
    anybody else has put there is removed, whatever it is and whoever holds it open.

    Raises:
        UnitsError: no units were made on this host, so that nobody knows whose segments are whose.
        ConfigError: the copy that knows it is damaged.
    """
    if not applied.exists():
        raise UnitsError("this host has no cameras of `framesrv units sync`: remove the file by hand, as root")
    last = applied.last()
    prefix, cameras = last.shm.prefix, [stream.code for stream in last.streams]
    faults = []
    both = [one for code in codes for one in (code, code + SUB)]
    for code in both or dict.fromkeys([*cameras, *_there(prefix)]):
        try:
            if code in cameras or not _is_written(segment_path(prefix, code)):
                Segment.remove_abandoned(prefix, code)
            if code in cameras or not _is_written(history_path(prefix, code)):
                HistoryFile.remove_abandoned(prefix, code)
        except (SegmentError, ValueError, OSError) as error:
            faults.append(str(error))
    return faults


def _there(prefix: str) -> list[str]:
    """The codes of all files that are named as segments are."""
    begin = re.compile(rf"{re.escape(prefix)}({re.escape(MARK)})?\.")
    codes = {name[match.end() :] for name in os.listdir(SHM_DIRECTORY) if (match := begin.match(name))}
    return sorted(code for code in codes if re.fullmatch(layout.CODE, code))


def _is_written(path: str) -> bool:
    """Whether a writer lives that holds the file, be it a stranger, as for a camera that is not configured."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # nothing that has a writer
        return False
    try:
        return locks.is_held(fd, layout.WRITER_BYTE, exclusively=True)
    finally:
        os.close(fd)
