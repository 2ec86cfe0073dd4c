"""What a camera's decoder leaves in shared memory where it is killed."""

from framesrv.history.file import HistoryFile
from framesrv.segment.mapping import Segment


def remove_abandoned(prefix: str, code: str) -> None:
    """Removes a camera's segment and its history, each if its writer does not live.

    Raises:
        SegmentOwnerError: another user has one of the names, and this one may not take it away.
        SegmentError: a file cannot be opened.
        ValueError: the prefix or the code is none.
    """
    Segment.remove_abandoned(prefix, code)
    HistoryFile.remove_abandoned(prefix, code)
