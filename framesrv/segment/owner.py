"""Whose segment is trusted. ``/dev/shm`` is writable by everybody, so a file's name tells nothing; its owner does.

Only root makes users, and only a user makes files of its own. So a segment is a camera's where it belongs to root, to
the user that the camera's unit runs as, to whoever looks, or to the owner that one names.
"""

import os
import pwd
import re

LONGEST = 31  # characters of a user's name, as systemd takes them
SUB = ".sub"  # ends the code of a camera's second stream, which has a segment of its own
TAKEN = ("snapd",)  # codes whose user would be another service's


def service_user(code: str) -> str:
    """The system user that a camera's decoder runs as, where systemd runs it: ``framesrv-CODE``.

    A code that no user can be named after gets a name made of its SHA-256. A camera's second stream is decoded by the
    user of its first.
    """
    code = code.removesuffix(SUB)
    name = f"framesrv-{code}"
    if code not in TAKEN and len(name) <= LONGEST and re.fullmatch(r"[A-Za-z0-9_-]+", code):
        return name
    import hashlib  # OpenSSL's, which hardly any camera needs

    return f"framesrv-{hashlib.sha256(code.encode()).hexdigest()}"[:LONGEST]


def is_trusted(uid: int, code: str, owner: int | None = None) -> bool:
    """Whether a segment of that camera is its decoder's if it belongs to that user.

    Args:
        uid: of the file's owner.
        code: the camera's code.
        owner: a user whom the one who looks names as the owner; no other is trusted then, but root.
    """
    if uid == 0 or uid == owner:
        return True
    if owner is not None:
        return False
    return uid == os.geteuid() or user_name(uid) == service_user(code)


def distrust(uid: int, code: str, owner: int | None = None) -> str:
    """Why a segment of that camera is not trusted that belongs to user `uid`, and what to do."""
    if owner is not None:
        return f"it belongs to {user_name(uid)}, not to {user_name(owner)}"
    return (
        f"it belongs to {user_name(uid)}, who is neither this user nor {service_user(code)}; "
        f"if its decoder runs as {user_name(uid)}, say so: [shm] owner, or FrameReader(..., owner=)"
    )


def user_name(uid: int) -> str:
    """The name of a user; its number, as text, where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def named_user(user: str | int) -> int | None:
    """The number of a user that is given by name or number; None for none, which is empty.

    Raises:
        ValueError: there is none of that name.
    """
    if user == "":
        return None
    if isinstance(user, int) or user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ValueError(f"there is no user {user!r} on this host") from None
