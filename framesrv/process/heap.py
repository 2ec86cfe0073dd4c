"""The memory that a process has freed, and its allocator keeps."""

import ctypes

_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's alone


def give_back() -> None:
    """Gives what is free of it back to the system; malloc_trim(3). It takes a few milliseconds."""
    if _trim is not None:
        _trim(ctypes.c_size_t(0))
