"""framesrv: the newest raw frame of every camera in shared memory.

>>> from framesrv import FrameReader
>>> with FrameReader("cam01") as camera, camera.latest(max_age=1.0, timeout=2.0) as frame:
...     picture = frame.bgr(width=640)
"""

from framesrv.errors import (
    ConfigError,
    FrameReleasedError,
    FramesrvError,
    FrameUnavailableError,
    HistoryUnavailableError,
    SegmentBusyError,
    SegmentError,
    SegmentFormatError,
    SegmentOwnerError,
    SegmentSpaceError,
    SourceError,
)
from framesrv.history.frames import FrameReader
from framesrv.history.packet import CodecParameters, HistoryPacket
from framesrv.history.reader import History
from framesrv.segment.file import SHM_DIRECTORY, segment_path
from framesrv.segment.frame import Frame
from framesrv.segment.frame_set import Batch, FrameSet
from framesrv.segment.letterbox import Letterbox
from framesrv.segment.slot import Slot
from framesrv.segment.stamp import Stamp
from framesrv.segment.status import CameraStatus, camera_status, camera_statuses
from framesrv.segment.writer import FrameWriter

__all__ = [
    "SHM_DIRECTORY",
    "Batch",
    "CameraStatus",
    "CodecParameters",
    "ConfigError",
    "Frame",
    "FrameReader",
    "FrameReleasedError",
    "FrameSet",
    "FrameUnavailableError",
    "FrameWriter",
    "FramesrvError",
    "History",
    "HistoryPacket",
    "HistoryUnavailableError",
    "Letterbox",
    "SegmentBusyError",
    "SegmentError",
    "SegmentFormatError",
    "SegmentOwnerError",
    "SegmentSpaceError",
    "Slot",
    "SourceError",
    "Stamp",
    "camera_status",
    "camera_statuses",
    "segment_path",
]
__version__ = "0.1.0"
