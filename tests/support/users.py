"""What another user of the host does, in a child of this process; root alone can try that."""

import codecs
import os
import pickle
from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

ALICE, BOB, READERS = 60001, 60002, 60010  # users and a group that no host has

codecs.lookup("utf-8-sig")  # of a configuration: where the interpreter lies, a child may not be able to load it

Result = TypeVar("Result")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")


def as_user(uid: int, act: Callable[[], Result], groups: Sequence[int] = ()) -> Result:
    """What `act` gives as that user, who is in a group of the same number and in `groups`; its exception is raised.

    It runs in a forked child: the interpreter may lie where others cannot execute it.
    """
    coming, going = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(coming)
            os.setgroups(groups)
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            try:
                outcome: tuple[bool, object] = (True, act())
            except Exception as error:  # noqa: BLE001  the parent raises it
                outcome = (False, error)
            with os.fdopen(going, "wb") as pipe:
                pickle.dump(outcome, pipe)
            status = 0
        finally:
            os._exit(status)
    os.close(going)
    with os.fdopen(coming, "rb") as pipe:
        said = pipe.read()
    _, ended = os.waitpid(child, 0)
    assert ended == 0, f"the child ended with status {ended}"
    succeeded, result = pickle.loads(said)  # noqa: S301  of our own child
    if not succeeded:
        raise result
    return result  # type: ignore[no-any-return]
