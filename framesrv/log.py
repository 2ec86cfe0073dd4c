"""Log lines: one an event, a short phrase and then ``key=value``, with every secret masked and nothing unprintable.

Levels: DEBUG for what is normal and frequent, INFO for a change of state, WARNING for what healed itself,
ERROR for what a person must look at.

Where standard error goes decides the form: the journal gets priorities in place of times, a terminal short lines in
colours, anything else whole lines. What a line is about (a camera, a request) stands on all of it, a traceback too.
"""

import json
import logging
import os
import re
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from typing import Literal, TextIO

from framesrv.errors import ConfigError
from framesrv.masking import mask as mask
from framesrv.masking import printable as printable
from framesrv.masking import protect as protect
from framesrv.masking import shown as shown

Format = Literal["auto", "text", "json"]
Form = Literal["journal", "terminal", "text", "json"]

COLOURS = {logging.DEBUG: "2", logging.WARNING: "33", logging.ERROR: "31", logging.CRITICAL: "31;1"}
PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

_PLAIN = re.compile(r"[\w.:/@+-]+\Z", re.ASCII)

_subject: ContextVar[Mapping[str, str]] = ContextVar("subject", default=MappingProxyType({}))

logger = logging.getLogger(__name__)


@contextmanager
def about(**subject: str) -> Iterator[None]:
    """What this thread logs within is about this, as ``about(request_id="4711")``; empty values are left out."""
    token = _subject.set({**_subject.get(), **{name: value for name, value in subject.items() if value}})
    try:
        yield
    finally:
        _subject.reset(token)


def is_journal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the journal listens to `stream` itself, see ``$JOURNAL_STREAM`` in systemd.exec(5)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # closed, or none of the system's
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def form_of(log_format: Format, stream: TextIO, environment: Mapping[str, str] = os.environ) -> Form:
    """The form in which lines go to `stream`."""
    if log_format != "auto":
        return log_format
    if is_journal(stream, environment):
        return "journal"
    return "terminal" if stream.isatty() else "text"


class Line(logging.Formatter):
    """One event as lines of text, each with what it is about.

    Args:
        form: journal, terminal or text.
        subject: of every line of this process.
        colour: whether a terminal is to show levels in colours.
    """

    def __init__(self, form: Form, subject: Mapping[str, str], *, colour: bool = False) -> None:
        super().__init__()
        self._form = form
        self._own = subject
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The lines of `record`."""
        subject = "".join(f"{name}={_value(text)} " for name, text in {**self._own, **_subject.get()}.items())
        lines = [*record.getMessage().splitlines(), *_traceback(self, record).splitlines()]
        start = f"<{_priority(record)}>" if self._form == "journal" else ""
        text = self._head(record) + "\n".join(start + shown(subject + line) for line in lines)
        code = COLOURS.get(record.levelno)
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour and code else text

    def _head(self, record: logging.LogRecord) -> str:
        if self._form == "journal":
            return ""
        if self._form == "terminal":
            return f"{self.formatTime(record, '%H:%M:%S')} {record.levelname:7} "
        return f"{self.formatTime(record, '%Y-%m-%d %H:%M:%S')}.{int(record.msecs):03d} {record.levelname:7} "


class JsonLine(logging.Formatter):
    """One event as a JSON object: ``time`` (ISO 8601, UTC), ``level``, what it is about, ``message``, ``exception``.

    Args:
        subject: of every line of this process.
        priority: whether the journal listens, and is told the priority before each line.
    """

    def __init__(self, subject: Mapping[str, str], *, priority: bool = False) -> None:
        super().__init__()
        self._own = subject
        self._with_priority = priority

    def format(self, record: logging.LogRecord) -> str:
        """The line of `record`."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **self._own,
            **_subject.get(),
            "message": record.getMessage(),
        }
        exception = _traceback(self, record)
        if exception:
            fields["exception"] = exception
        safe = {name: "\n".join(map(shown, text.splitlines())) for name, text in fields.items()}
        line = json.dumps(safe, ensure_ascii=False)
        return f"<{_priority(record)}>{line}" if self._with_priority else line


def setup(
    log_format: Format = "auto", *, level: int = logging.INFO, quiet: Iterable[str] = (), **subject: str
) -> None:
    """Sends all log lines of this process to standard error, unforeseen exceptions and warnings among them.

    Args:
        log_format: ``text`` or ``json``; ``auto`` is what suits where standard error goes.
        level: the least level shown.
        quiet: the loggers of libraries of which only warnings are.
        subject: what all of this process is about, as ``camera="34020000001320000001"``.
    """
    form = form_of(log_format, sys.stderr)
    formatter: logging.Formatter
    if form == "json":
        formatter = JsonLine(subject, priority=is_journal(sys.stderr))
    else:
        formatter = Line(form, subject, colour=form == "terminal" and not os.environ.get("NO_COLOR"))
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    sys.excepthook = _unforeseen
    threading.excepthook = lambda args: (
        _unforeseen(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
        if args.exc_type is not SystemExit
        else None
    )


def complain(program: str, error: Exception) -> None:
    """Says why a program cannot do it: in log lines where a machine reads those, else as programs say it."""
    problems = error.problems if isinstance(error, ConfigError) else [str(error)]
    handlers = logging.getLogger().handlers
    journal = is_journal(sys.stderr)
    for problem in problems:
        if handlers and (journal or isinstance(handlers[0].formatter, JsonLine)):
            logger.error("%s: %s", program, problem)
        else:
            start = f"<{PRIORITIES[logging.ERROR]}>" if journal else ""
            print(f"{start}{program}: {shown(problem)}", file=sys.stderr)  # noqa: T201


def _unforeseen(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """In place of Python's own hook."""
    if isinstance(error, Exception):
        logger.critical(
            "Unforeseen error in thread=%s", threading.current_thread().name, exc_info=(kind, error, trace)
        )
    else:
        sys.__excepthook__(kind, error, trace)


def _priority(record: logging.LogRecord) -> int:
    return next((number for level, number in reversed(PRIORITIES.items()) if record.levelno >= level), 7)


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    return formatter.formatException(record.exc_info) if record.exc_info and record.exc_info[0] else ""


def _value(text: str) -> str:
    return text if _PLAIN.match(text) else repr(text)
