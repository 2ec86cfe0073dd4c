"""The texts of errors as a platform is shown them, and the word that each has for programs.

The cloud side knows `INCOMPLETE`, `NOT_CONNECTED` and `UPLOAD_FAILED` to the letter; the others are of the same kind.
"""

INCOMPLETE = "请求字段不完整"
NOT_CONNECTED = "摄像头流未连接: {code}"
UPLOAD_FAILED = "COS 上传失败"
BAD_ENCODING = "请求字段编码错误"
BAD_PATH = "cos_path 不合法"
BAD_ID = "request_id 不合法"
BAD_FIELD = "{name} 不合法"
CROP_OUTSIDE = "crop 超出画面"
NO_OVERLAY = "overlay 不可用"
NO_HISTORY = "摄像头未保留历史: {code}"
NOT_IN_HISTORY = "该时刻不在历史中: {code}"
DAMAGED_THEN = "该时刻画面已损坏: {code}"
NO_CLIP = "无法生成片段: {code}"
INTERNAL = "内部错误"
EXPIRED = "请求已超时"

CHECKED = (
    "width",
    "quality",
    "crop",
    "overlay",
    "count",
    "interval",
    "at",
    "clip",
)  # the fields that `BAD_FIELD` can name

_REASONS = {
    INCOMPLETE: "incomplete",
    BAD_ENCODING: "bad_encoding",
    BAD_ID: "bad_id",
    BAD_PATH: "bad_path",
    CROP_OUTSIDE: "crop_outside",
    NO_OVERLAY: "no_overlay",
    NO_HISTORY.partition("{")[0]: "no_history",
    NOT_IN_HISTORY.partition("{")[0]: "not_in_history",
    DAMAGED_THEN.partition("{")[0]: "damaged",
    NO_CLIP.partition("{")[0]: "no_clip",
    **{BAD_FIELD.format(name=name): f"bad_{name}" for name in CHECKED},
    NOT_CONNECTED.partition("{")[0]: "not_connected",
    UPLOAD_FAILED: "upload_failed",
    EXPIRED: "expired",
    INTERNAL: "internal",
}


def word_of(message: str) -> str:
    """The word of a message, ``not_connected`` and the like; ``other`` for any other."""
    return next((word for start, word in _REASONS.items() if message.startswith(start)), "other")
