"""A snapshot request, as an entry of the stream carries it.

`parse` never fails: what is wrong with a request is part of it, because its sender wants to be told.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from snapd.result import BAD_ENCODING, BAD_PATH, INCOMPLETE

MAX_PATH = 850  # bytes of UTF-8, COS's own limit for a key

_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\\]")


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        entry_id: its id in the stream, ``MILLISECONDS-SEQUENCE``.
        request_id: the sender's; empty where nobody can be told the result.
        cos_path: where the picture goes, without the one leading ``/`` that is allowed.
        callback_url: empty if there is none.
        problem: the message that answers a request which cannot be served; empty if there is no problem.
    """

    entry_id: str
    request_id: str
    camera_code: str
    cos_path: str
    callback_url: str
    problem: str = ""

    @property
    def sent_at(self) -> float:
        """Unix time in seconds, by the clock of Redis, at which the request came to the stream."""
        return int(self.entry_id.partition("-")[0]) / 1000


def parse(entry_id: str, fields: Mapping[bytes, bytes], *, key_prefix: str = "") -> Request:
    """The request of one entry.

    Args:
        entry_id: the entry's id.
        fields: as Redis gave them.
        key_prefix: every `cos_path` must begin with it.
    """
    raw = {name: fields.get(name.encode(), b"") for name in ("camera_code", "cos_path", "callback_url")}
    text = {name: value.decode(errors="replace") for name, value in raw.items()}
    rubbish = any(text[name].encode() != value for name, value in raw.items())
    try:
        request_id = fields.get(b"request_id", b"").decode()
    except UnicodeDecodeError:
        request_id = ""
    text["cos_path"] = text["cos_path"].removeprefix("/")
    problem = ""
    if rubbish:
        problem = BAD_ENCODING
    elif not (request_id and text["camera_code"] and raw["cos_path"]):
        problem = INCOMPLETE
    elif not (is_path(text["cos_path"]) and text["cos_path"].startswith(key_prefix.removeprefix("/"))):
        problem = BAD_PATH
    return Request(entry_id, request_id, **text, problem=problem)


def is_path(path: str) -> bool:
    """Whether `path` names something below where it starts: no ``.``, ``..`` or empty segment, nothing odd."""
    return (
        len(path.encode()) <= MAX_PATH
        and not _FORBIDDEN.search(path)
        and not any(segment in {"", ".", ".."} for segment in path.split("/"))
    )
