"""Why COS takes no picture, in words that lead to the remedy.

The codes are COS's own: https://cloud.tencent.com/document/product/436/7730.
"""

import re
from collections.abc import Mapping
from xml.sax.saxutils import unescape

from qcloud_cos.cos_exception import CosClientError, CosException, CosServiceError

from framesrv.settings import StoreSettings
from snapd.http.cause import explain as explain_http

FORBIDDEN = 403
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500
UNAUTHORIZED = {401, FORBIDDEN}

_CLOCK = ("clock", "the clock of this host is wrong: mend it (NTP)")
_EXPIRED = ("unauthorized", "the temporary credentials are no longer valid: renew secret_id, secret_key and token")
_BLOCKED = ("forbidden", "the account is blocked or in arrears: see the console of Tencent Cloud")
_CODES: Mapping[str, tuple[str, str]] = {
    "SignatureDoesNotMatch": ("unauthorized", "store.secret_key is not the one of store.secret_id"),
    "InvalidAccessKeyId": (
        "unauthorized",
        "COS does not know store.secret_id (or its token): see its spelling, and whether it was disabled",
    ),
    "ExpiredToken": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "RequestTimeTooSkewed": _CLOCK,
    "AccessDenied": (
        "forbidden",
        "these credentials may not do that: allow them name/cos:PutObject in this bucket (CAM, bucket policy)",
    ),
    "NoSuchBucket": (
        "not_found",
        "there is no bucket {bucket} in region {region}: see store.bucket (NAME-APPID) and store.region",
    ),
    "AccountProblem": _BLOCKED,
    "UnavailableForLegalReasons": _BLOCKED,
}


def explain(error: CosException, settings: StoreSettings) -> tuple[str, str]:
    """A word for programs, empty where there is no fitting one, and a sentence."""
    host = settings.domain or f"{settings.bucket}.cos.{settings.region}.myqcloud.com"
    if not isinstance(error, CosServiceError):
        cause, words = explain_http(error, f"{settings.scheme}://{host}")
        if cause == "name_unknown" and not settings.domain:
            words += "; the name is made of store.bucket and store.region"
        return cause, words
    status, code, message = error.get_status_code(), field(error, "code"), field(error, "message")
    if is_expired(error):
        cause, words = _CLOCK
    elif code in _CODES:
        cause, words = _CODES[code]
    elif status >= SERVER_ERROR or status == TOO_MANY_REQUESTS:
        cause, words = "", "COS has trouble of its own, or too much to do"
    elif code:
        return "", f"COS answers {status} {code}: {message}"
    elif status in UNAUTHORIZED:
        cause = "unauthorized"
        words = "{host} refuses, and does not say why as COS does: see store.domain and the credentials"
    else:
        cause, words = "protocol", "what answers at {host} is perhaps no COS: see store.domain, bucket and region"
    words = words.format(host=host, bucket=settings.bucket, region=settings.region or "of that domain")
    return cause, f"{words} ({status} {code})" if code else f"{words} (status {status})"


def is_expired(error: CosServiceError) -> bool:
    """Whether the signature was too old, or too new, when it was made: that is a wrong clock."""
    return field(error, "code") == "AccessDenied" and "expired" in field(error, "message")


def underlying(error: BaseException) -> BaseException | None:
    """What the SDK met; it tells its text alone."""
    return error.__context__ if isinstance(error, CosClientError) else None


def field(error: CosServiceError, name: str) -> str:
    """A part of COS's own error; empty if what answered is not COS, where the SDK's accessors raise KeyError."""
    fields = error.get_digest_msg()
    if isinstance(fields, Mapping):
        return str(fields.get(name, ""))
    text = error.get_origin_msg()  # of which the SDK reads nothing at all where one part is empty
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    found = re.search(f"<{name}>([^<]+)</{name}>", text, re.IGNORECASE)
    return unescape(found[1]).strip() if found else ""
