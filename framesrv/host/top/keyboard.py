"""Keys as they are pressed, from a terminal that is as it was afterwards."""

import codecs
import os
import re
import termios
import tty
from contextlib import suppress
from types import TracebackType
from typing import Self

NAMED = {
    "\x1b": "escape",
    "\r": "enter",
    "\n": "enter",
    "\x7f": "backspace",
    "\b": "backspace",
    "\x1b[A": "up",
    "\x1bOA": "up",
    "\x1b[B": "down",
    "\x1bOB": "down",
    "\x1b[5~": "page up",
    "\x1b[6~": "page down",
    "\x1b[H": "home",
    "\x1bOH": "home",
    "\x1b[1~": "home",
    "\x1b[F": "end",
    "\x1bOF": "end",
    "\x1b[4~": "end",
}

_KEY = re.compile(r"\x1b\[[0-9;]*[@-~]|\x1bO[@-~]|.", re.DOTALL)


class Keyboard:
    """While it is entered, keys come at once and are not shown. Ctrl-C and Ctrl-Z are signals as ever.

    Args:
        fd: of the terminal.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._decoder = codecs.getincrementaldecoder("utf-8")("ignore")

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._fd)
        tty.setcbreak(self._fd, termios.TCSADRAIN)
        mode = termios.tcgetattr(self._fd)
        mode[0] &= ~termios.IXON  # a Ctrl-S would hold up the program, and its end
        termios.tcsetattr(self._fd, termios.TCSADRAIN, mode)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(termios.error):  # it has gone, and nobody looks at it
            termios.tcsetattr(self._fd, termios.TCSADRAIN, self._before)

    def fileno(self) -> int:
        """For select(2)."""
        return self._fd

    def read(self) -> list[str]:
        """The keys that were pressed: a name of `NAMED`, or the character. Waits for one.

        Raises:
            EOFError: the terminal has gone.
        """
        try:
            data = os.read(self._fd, 1024)
        except OSError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        found = _KEY.findall(self._decoder.decode(data))
        return [NAMED.get(key, key) for key in found if key in NAMED or key.isprintable()]
