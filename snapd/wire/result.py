"""The answer to a request."""

from dataclasses import dataclass
from typing import Any, Literal, Self

import orjson

from snapd.wire.messages import word_of


@dataclass(frozen=True, slots=True)
class Result:
    """One answer: `url` where it is ok, `message` where it is an error, with a word for programs as `reason`."""

    request_id: str
    camera_code: str
    status: Literal["ok", "error"]
    url: str = ""
    message: str = ""
    reason: str = ""

    @classmethod
    def ok(cls, request_id: str, camera_code: str, url: str) -> Self:
        """The picture is at `url`."""
        return cls(request_id, camera_code, "ok", url=url)

    @classmethod
    def error(cls, request_id: str, camera_code: str, message: str, reason: str = "") -> Self:
        """There is no picture, because of `message`; that has a word of its own where there is no closer one."""
        return cls(request_id, camera_code, "error", message=message, reason=reason or word_of(message))

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """The result that `to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        fields = orjson.loads(text)
        return cls(**fields)

    def to_json(self, *, reason: bool = False) -> bytes:
        """The wire form; of an error with its reason, where that is asked for."""
        fields: dict[str, Any] = {
            "request_id": self.request_id,
            "camera_code": self.camera_code,
            "status": self.status,
        }
        fields |= {"url": self.url} if self.status == "ok" else {"message": self.message}
        if reason and self.reason:
            fields["reason"] = self.reason
        return orjson.dumps(fields)
