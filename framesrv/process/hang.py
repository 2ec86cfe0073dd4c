"""What is said of a process that hangs, before its watchdog ends it: one sentence, and where each thread stands.

The watchdog's SIGABRT alone would leave the latter without the former, see PYTHONFAULTHANDLER in the units. That
stays for a process in which no thread can run any more.
"""

import faulthandler
import logging
import sys

STANDARD_ERROR = 2


class Hang:
    """Tells once what hangs, until it goes on.

    Args:
        logger: of whoever watches.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._what = ""
        self._is_dumped = False

    def tell(self, what: str) -> None:
        """A few words that say it, as ``a worker hangs``; empty: nothing does."""
        if what and what != self._what:
            self._logger.error("%s: the watchdog is told no more, and ends this process", what)
            if faulthandler.is_enabled():
                sys.stderr.flush()
                faulthandler.dump_traceback(STANDARD_ERROR)
                faulthandler.disable()  # the same again
                self._is_dumped = True
        elif self._what and not what:
            self._logger.warning("Goes on, after this: %s", self._what)
            if self._is_dumped:
                faulthandler.enable(STANDARD_ERROR)
                self._is_dumped = False
        self._what = what
