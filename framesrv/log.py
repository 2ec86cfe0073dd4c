"""Log lines: one an event, a short phrase and then ``key=value``, with every secret masked.

Levels: DEBUG for what is normal and frequent, INFO for a change of state, WARNING for what healed itself,
ERROR for what a person must look at.
"""

import logging
import re
import sys

COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31;1"}

_USER_INFO = re.compile(r"(?<=://)([^/@\s:]*):([^/@\s]*)@")
_SIGNATURE = re.compile(
    r"((?:q-signature|q-ak|x-cos-security-token|token|password|secret)=)[^&\s\"']+", re.IGNORECASE
)


def mask(text: str) -> str:
    """`text` with passwords in URLs and signatures in queries replaced by ``***``."""
    return _SIGNATURE.sub(r"\1***", _USER_INFO.sub(r"\1:***@", text))


class Line(logging.Formatter):
    """One event as one masked line, coloured by level on a terminal."""

    def __init__(self, *, colour: bool, subject: str) -> None:
        super().__init__(f"%(asctime)s.%(msecs)03d %(levelname)-7s {subject}%(message)s", "%Y-%m-%d %H:%M:%S")
        self.colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The line of `record`."""
        line = mask(super().format(record))
        code = COLOURS.get(record.levelno)
        return f"\x1b[{code}m{line}\x1b[0m" if self.colour and code else line


def setup(subject: str = "", *, level: int = logging.INFO) -> None:
    """Sends all log lines of this process to standard error.

    Args:
        subject: stands on every line, as ``camera=34020000001320000001``.
        level: the least level shown.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Line(colour=sys.stderr.isatty(), subject=f"{subject} " if subject else ""))
    logging.basicConfig(level=level, handlers=[handler], force=True)
