"""A snapshot request, as an entry of the stream carries it.

`parse` never fails: what is wrong with a request is part of it, because its sender wants to be told.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from snapd.errors import FieldError
from snapd.wire.burst import NUMBER, Burst
from snapd.wire.form import AS_IT_IS, Form
from snapd.wire.messages import BAD_ENCODING, BAD_FIELD, BAD_ID, BAD_PATH, CHECKED, INCOMPLETE
from snapd.wire.moment import Moment, Span, parse_moment, parse_span

FIELDS = ("request_id", "camera_code", "cos_path", "callback_url")
MAX_ID = 128  # characters
MAX_CODE = 64  # characters; no camera has more
MAX_FIELD = 64  # bytes of any other field; one that is right has fewer
MAX_TRACEPARENT = 128  # bytes; today's version has 55
MAX_PATH = 850  # bytes of UTF-8, COS's own limit for a key

_FORBIDDEN = re.compile(r"[\\\x00-\x1f\x7f-\x9f]")
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_FIRST_NONCHARACTER, _LAST_NONCHARACTER = 0xFDD0, 0xFDEF  # and the last two of every plane


@dataclass(frozen=True, slots=True)
class Request:
    """One request.

    Attributes:
        entry_id: its id in the stream that the platform writes to, ``MILLISECONDS-SEQUENCE``.
        request_id: the sender's; empty where nobody can be told the result.
        camera_code: as sent, but cut off where it is longer than any camera's.
        cos_path: where the picture goes, without the one leading ``/`` that is allowed.
        callback_url: empty if there is none.
        wants_trace: whether the sender wants to know where the time went.
        traceparent: W3C trace context of the sender, unchecked; empty if there is none.
        at: the stream that it was routed to and its id there, with a blank between; empty if it was not.
        form: how the picture is wanted.
        burst: how many pictures are; None: one.
        moment: of which they are; None: of now.
        clip: the seconds around that moment that are wanted as a clip, in place of a picture; None: no clip is.
        problem: the message that answers a request which cannot be served; empty if there is no problem.
    """

    entry_id: str
    request_id: str
    camera_code: str
    cos_path: str
    callback_url: str
    problem: str = ""
    wants_trace: bool = False
    traceparent: str = ""
    form: Form = AS_IT_IS
    burst: Burst | None = None
    moment: Moment | None = None
    clip: Span | None = None
    at: str = ""

    @property
    def seconds(self) -> float:
        """For which it waits for later moments."""
        return self.clip.after if self.clip else self.burst.seconds if self.burst else 0.0

    @property
    def is_of_now(self) -> bool:
        """Whether a camera's newest frame is what is wanted."""
        return self.moment is None and self.clip is None

    @property
    def sent_at(self) -> float:
        """Unix time in seconds, by the clock of Redis, at which the request came to the stream."""
        return int(self.entry_id.partition("-")[0]) / 1000


def parse(
    entry_id: str,
    fields: Mapping[bytes, bytes],
    *,
    key_prefix: str = "",
    longest: float = math.inf,
    at: str = "",
) -> Request:
    """The request of one entry.

    Args:
        entry_id: the entry's id.
        fields: as Redis gave them.
        key_prefix: the folder that every `cos_path` must lie in.
        longest: seconds for which it may wait for later moments.
        at: see `Request`.
    """
    raw = [fields.get(name.encode(), b"") for name in FIELDS]
    text = [value.decode(errors="replace") for value in raw]
    request_id, code, path, callback_url = text
    problem = ""
    if any(one.encode() != value for one, value in zip(text, raw, strict=True)):
        problem = BAD_ENCODING
    elif not (request_id and code and path):
        problem = INCOMPLETE
    elif not is_id(request_id):
        problem = BAD_ID
    path = path.removeprefix("/")
    if not problem and not (is_path(path) and path.startswith(folder(key_prefix))):
        problem = BAD_PATH
    form, burst, moment, clip = AS_IT_IS, None, None, None
    try:
        checked = _texts(fields, CHECKED)
        form, burst = Form.parse(checked), Burst.parse(checked, longest)
        moment, clip = parse_moment(checked), parse_span(checked, longest)
    except FieldError as error:
        problem = problem or BAD_FIELD.format(name=error.name)
    if not problem and burst and burst.count > 1 and NUMBER not in path:
        problem = BAD_PATH
    # An id that is not as it must be is no key to put a result under.
    known_id = request_id if request_id.encode() == raw[0] and is_id(request_id) else ""
    known_code = code if len(code) <= MAX_CODE else f"{code[:MAX_CODE]}…"
    wants_trace = fields.get(b"trace") == b"1"
    traceparent = fields.get(b"traceparent", b"")[:MAX_TRACEPARENT].decode("ascii", "replace")
    return Request(
        entry_id,
        known_id,
        known_code,
        path,
        callback_url,
        problem,
        wants_trace,
        traceparent,
        form,
        burst,
        moment,
        clip,
        at,
    )


def _texts(fields: Mapping[bytes, bytes], names: Iterable[str]) -> dict[str, str]:
    """Those of these fields that are there; what is not ASCII is wrong in each of them, and stays so."""
    return {name: fields.get(name.encode(), b"")[:MAX_FIELD].decode("ascii", "replace") for name in names}


def is_id(text: str) -> bool:
    """Whether `text` may identify a request."""
    return 0 < len(text) <= MAX_ID and text.isprintable()


def is_path(path: str) -> bool:
    """Whether `path` names something below where it starts: no ``.``, ``..`` or empty segment, nothing odd."""
    if path.isascii():
        is_plain, length = not _FORBIDDEN.search(path), len(path)
    else:
        is_plain, length = _is_plain(path), len(path.encode(errors="surrogatepass"))
    return is_plain and length <= MAX_PATH and not any(segment in {"", ".", ".."} for segment in path.split("/"))


def folder(key_prefix: str) -> str:
    """What a path begins with that lies in the folder `key_prefix`."""
    stripped = key_prefix.strip("/")
    return f"{stripped}/" if stripped else ""


def _is_plain(path: str) -> bool:
    """Whether `path` has one spelling only, and no character that cannot be seen."""
    return (
        len(path) <= MAX_PATH
        and not _FORBIDDEN.search(path)
        and unicodedata.is_normalized("NFC", path)
        and not any(unicodedata.category(character) in _INVISIBLE for character in path)
        and not any(_is_noncharacter(ord(character)) for character in path)
    )


def _is_noncharacter(number: int) -> bool:
    return number & 0xFFFE == 0xFFFE or _FIRST_NONCHARACTER <= number <= _LAST_NONCHARACTER
