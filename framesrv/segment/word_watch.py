"""Watches the futex words of many segments, and tells whoever subscribed that one has changed.

One thread of this process sleeps on up to 127 of them at once, whatever the number of event loops and readers. It is
a thread for each where there is no futex_waitv(2), which Linux has since 5.16.
"""

import errno
import threading
import weakref
from collections.abc import Callable

import numpy as np

from framesrv.segment import forking, futex
from framesrv.segment.mapping import Segment

IDLE = 5.0  # s after which a thread looks who is still there, and ends if nobody is


class Subscription:
    """One segment that is watched for somebody.

    Attributes:
        segment: it.
        sequence: its word, as the subscriber knows it.
    """

    def __init__(self, segment: Segment, sequence: int, tell: Callable[[], None]) -> None:
        self.segment = segment
        self.sequence = sequence
        self._tell = weakref.WeakMethod(tell)

    def look(self) -> bool:
        """Tells the subscriber if the word has changed; False if there is no subscriber any more."""
        tell = self._tell()
        if tell is None:
            return False
        now = self.segment.sequence
        if now != self.sequence:
            self.sequence = now
            tell()
        return True


class Sleeper:
    """A thread that sleeps on the words of some segments, and on one of its own, by which it is told of others."""

    def __init__(self, watch: "WordWatch", room: int) -> None:
        self._watch = watch
        self._room = room
        self._word = np.zeros(1, np.uint32)
        self.subscriptions: list[Subscription] = []
        threading.Thread(target=self._run, name="framesrv-watch", daemon=True).start()

    @property
    def has_room(self) -> bool:
        """Whether it can take one more."""
        return len(self.subscriptions) < self._room

    def change(self, subscriptions: list[Subscription]) -> None:
        """Sleeps on these from now on."""
        self.subscriptions = subscriptions
        self._word += 1
        futex.wake(self._word.ctypes.data)

    def _run(self) -> None:
        while True:
            own = int(self._word[0])
            subscriptions = self.subscriptions
            if not self._sleep(own, subscriptions) and not subscriptions and self._watch.dismiss(self):
                return
            for subscription in subscriptions:
                if not subscription.look():
                    self._watch.end(subscription)

    def _sleep(self, own: int, subscriptions: list[Subscription]) -> bool:
        """Returns when something may have changed; False if nothing has."""
        words = [(self._word.ctypes.data, own), *((one.segment.word, one.sequence) for one in subscriptions)]
        try:
            if futex.waits_for_many():
                return futex.wait_any(words, IDLE)
            if subscriptions:  # there is room for one: a look twice a second is for what its own word would tell
                return futex.wait(*words[1], min(IDLE, 0.5))
            return futex.wait(*words[0], IDLE)
        except OSError as error:
            if error.errno != errno.EFAULT:
                raise
            return True  # a segment was cut short: a look at it marks it


class WordWatch:
    """All that is watched in this process."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._sleepers: list[Sleeper] = []
        forking.tell(self)

    def subscribe(self, segment: Segment, sequence: int, tell: Callable[[], None]) -> Subscription:
        """Has a method called, in the watching thread, when the word is not `sequence`, and whenever it changes then.

        The subscription ends with the method's object, or by `end`.
        """
        subscription = Subscription(segment, sequence, tell)
        with self._mutex:
            sleeper = next((one for one in self._sleepers if one.has_room), None)
            if sleeper is None:
                sleeper = Sleeper(self, futex.MOST - 1 if futex.waits_for_many() else 1)
                self._sleepers.append(sleeper)
            sleeper.change([*sleeper.subscriptions, subscription])
        return subscription

    def end(self, subscription: Subscription) -> None:
        """Takes a subscription back: it may be told once more."""
        with self._mutex:
            for sleeper in self._sleepers:
                if subscription in sleeper.subscriptions:
                    sleeper.change([one for one in sleeper.subscriptions if one is not subscription])

    def dismiss(self, sleeper: Sleeper) -> bool:
        """Whether a thread is to end that has had nothing to do."""
        with self._mutex:
            if sleeper.subscriptions:
                return False
            self._sleepers.remove(sleeper)
            return True

    def forked(self) -> None:
        """Begins anew in a child of fork(2), which has none of its parent's threads."""
        self._mutex = threading.Lock()
        self._sleepers = []


WATCH = WordWatch()
