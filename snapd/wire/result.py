"""The answer to a request."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import orjson

from snapd.wire.messages import word_of


@dataclass(frozen=True, slots=True)
class Result:
    """One answer: `url` where it is ok, `message` where it is an error, with a word for programs as `reason`.

    To a request for several pictures: `urls` in place of `url`; of an error, those that are stored all the same.
    """

    request_id: str
    camera_code: str
    status: Literal["ok", "error"]
    url: str = ""
    message: str = ""
    reason: str = ""
    urls: tuple[str, ...] = ()

    @classmethod
    def ok(cls, request_id: str, camera_code: str, url: str) -> Self:
        """The picture is at `url`."""
        return cls(request_id, camera_code, "ok", url=url)

    @classmethod
    def several(cls, request_id: str, camera_code: str, urls: Sequence[str]) -> Self:
        """The pictures are at `urls`."""
        return cls(request_id, camera_code, "ok", urls=tuple(urls))

    @classmethod
    def error(
        cls, request_id: str, camera_code: str, message: str, reason: str = "", urls: Sequence[str] = ()
    ) -> Self:
        """There is no picture, because of `message`; that has a word of its own where there is no closer one."""
        reason = reason or word_of(message)
        return cls(request_id, camera_code, "error", message=message, reason=reason, urls=tuple(urls))

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """The result that `to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        result = cls(**orjson.loads(text))
        return replace(result, urls=tuple(result.urls))

    def to_json(self, *, reason: bool = False) -> bytes:
        """The wire form; of an error with its reason, where that is asked for."""
        fields: dict[str, Any] = {
            "request_id": self.request_id,
            "camera_code": self.camera_code,
            "status": self.status,
        }
        if self.status == "error":
            fields["message"] = self.message
        elif not self.urls:
            fields["url"] = self.url
        if self.urls:
            fields["urls"] = self.urls
        if reason and self.reason:
            fields["reason"] = self.reason
        return orjson.dumps(fields)
