"""What a store knows of itself without asking anybody."""

from dataclasses import dataclass


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
