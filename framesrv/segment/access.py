"""Who may read a segment's file: its mode and its group, or an access list where its owner is not in that group."""

import grp
import os
import struct

from framesrv.errors import SegmentError

_NAME = "system.posix_acl_access"
_VERSION = 2  # of the attribute's form, see <linux/posix_acl_xattr.h>
_OWNER, _OWN_GROUP, _GROUP, _MASK, _OTHERS = 0x01, 0x04, 0x08, 0x10, 0x20
_NOBODY = 0xFFFFFFFF


def admit(fd: int, mode: int, gid: int | None) -> None:
    """Gives an open file a mode, whose group is `gid`; the file's own where None.

    A user may give a file to a group of its own alone. So a decoder that is not one of the readers, and may not look
    at other cameras, admits them by an access list (acl(5)).

    Raises:
        PermissionError: the file is another user's.
        OSError: the file system has no access lists.
    """
    if gid is None or os.fstat(fd).st_gid == gid:
        os.fchmod(fd, mode)
        return
    try:
        os.fchown(fd, -1, gid)
    except PermissionError:
        os.setxattr(fd, _NAME, _access_list(mode, gid))
        return
    os.fchmod(fd, mode)


def group_id(group: str | None) -> int | None:
    """The number of a group; None for none, which is empty. Raises SegmentError if this host has no such group."""
    if not group:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        raise SegmentError(f"there is no group {group!r} on this host: see [shm] group") from None


def _access_list(mode: int, gid: int) -> bytes:
    """The mode, with the named group in place of the file's own, which gets nothing."""
    group = (mode >> 3) & 7
    return struct.pack("<I", _VERSION) + b"".join(
        struct.pack("<HHI", tag, rights, number)
        for tag, rights, number in (
            (_OWNER, (mode >> 6) & 7, _NOBODY),
            (_OWN_GROUP, 0, _NOBODY),
            (_GROUP, group, gid),
            (_MASK, group, _NOBODY),
            (_OTHERS, mode & 7, _NOBODY),
        )
    )
