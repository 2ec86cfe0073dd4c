"""fork(2): a child shares its parent's open files, which own locks, and mutexes that other threads held just then.

So each object that has such things is told in the child, where only the thread that forked runs on.
"""

import os
import weakref
from typing import Protocol


class Inherited(Protocol):
    """What a child finds of its parent's."""

    def forked(self) -> None:
        """Lets go of what is the parent's, in the child; takes no mutex."""


_inherited: "weakref.WeakSet[Inherited]" = weakref.WeakSet()


def tell(one: Inherited) -> None:
    """Has `one.forked` called in each child that this process forks, as long as `one` lives."""
    _inherited.add(one)


def _in_child() -> None:
    for one in list(_inherited):
        one.forked()


os.register_at_fork(after_in_child=_in_child)
