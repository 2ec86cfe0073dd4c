"""What a store knows of itself without asking anybody, and what it is given."""

from dataclasses import dataclass

JPEG, MP4 = "image/jpeg", "video/mp4"  # what is stored


@dataclass(frozen=True, slots=True)
class StoreFacts:
    """As of the newest upload.

    Attributes:
        place: the directory; empty for another store.
        free_bytes: left there; None if not known.
        size_bytes: of that file system; likewise.
        clock_ahead: seconds by which the clock of this host is ahead of the store's; None if not known.
    """

    place: str = ""
    free_bytes: int | None = None
    size_bytes: int | None = None
    clock_ahead: float | None = None
