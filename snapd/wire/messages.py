"""The texts of errors as a platform is shown them, and the word that each has for programs.

The cloud side knows `INCOMPLETE`, `NOT_CONNECTED` and `UPLOAD_FAILED` to the letter; the others are of the same kind.
"""

INCOMPLETE = "请求字段不完整"
NOT_CONNECTED = "摄像头流未连接: {code}"
UPLOAD_FAILED = "COS 上传失败"
BAD_ENCODING = "请求字段编码错误"
BAD_PATH = "cos_path 不合法"
BAD_ID = "request_id 不合法"
INTERNAL = "内部错误"
EXPIRED = "请求已超时"

_REASONS = {
    INCOMPLETE: "incomplete",
    BAD_ENCODING: "bad_encoding",
    BAD_ID: "bad_id",
    BAD_PATH: "bad_path",
    NOT_CONNECTED.partition("{")[0]: "not_connected",
    UPLOAD_FAILED: "upload_failed",
    EXPIRED: "expired",
    INTERNAL: "internal",
}


def word_of(message: str) -> str:
    """The word of a message, ``not_connected`` and the like; ``other`` for any other."""
    return next((word for start, word in _REASONS.items() if message.startswith(start)), "other")
