"""The answer to a request, and every message the cloud may be shown.

The cloud side knows the first three messages to the letter; the others are of the same kind.
"""

from dataclasses import dataclass
from typing import Any, Literal, Self

import orjson

INCOMPLETE = "请求字段不完整"
NOT_CONNECTED = "摄像头流未连接: {code}"
UPLOAD_FAILED = "COS 上传失败"
BAD_ENCODING = "请求字段编码错误"
BAD_PATH = "cos_path 不合法"
BAD_ID = "request_id 不合法"
INTERNAL = "内部错误"
EXPIRED = "请求已超时"


@dataclass(frozen=True, slots=True)
class Result:
    """One answer: `url` where it is ok, `message` where it is an error."""

    request_id: str
    camera_code: str
    status: Literal["ok", "error"]
    url: str = ""
    message: str = ""

    @classmethod
    def ok(cls, request_id: str, camera_code: str, url: str) -> Self:
        """The picture is at `url`."""
        return cls(request_id, camera_code, "ok", url=url)

    @classmethod
    def error(cls, request_id: str, camera_code: str, message: str) -> Self:
        """There is no picture, because of `message`."""
        return cls(request_id, camera_code, "error", message=message)

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """The result that `to_json` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        fields = orjson.loads(text)
        return cls(**fields)

    def to_json(self) -> bytes:
        """The wire form."""
        fields: dict[str, Any] = {
            "request_id": self.request_id,
            "camera_code": self.camera_code,
            "status": self.status,
        }
        fields |= {"url": self.url} if self.status == "ok" else {"message": self.message}
        return orjson.dumps(fields)
