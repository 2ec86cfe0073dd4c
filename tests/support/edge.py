"""A host's surroundings for tests of snapd, and snapd itself in threads of the test."""

import json
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from framesrv import FrameWriter, settings
from framesrv.settings import Settings
from snapd.pictures.encoder import Encoder
from snapd.service import Service
from snapd.telemetry.trace import Listener
from snapd.wire.result import Result
from tests.support.cos import CosServer
from tests.support.redis_server import RedisServer
from tests.support.wvp import Callback, WvpServer

STREAM, GROUP, CONSUMER = "edge_snap_request", "edge_snap_group", "edge_snap_worker"
Fields = dict[Any, Any]


def wait_until(condition: Callable[[], object], timeout: float = 60.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.005)


class Edge:
    """A host's surroundings (Redis, COS, WVP), its cameras, whose frames never age, and its configuration."""

    def __init__(self, redis_server: RedisServer, cos: CosServer, wvp: WvpServer) -> None:
        self.redis_server, self.cos, self.wvp = redis_server, cos, wvp
        self.redis = redis_server.client(decode_responses=False)
        self.prefix = f"t{uuid.uuid4().hex[:8]}"
        self.writers: dict[str, FrameWriter] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self.writers.values():
            writer.close()
        self.redis.close()

    def camera(self, code: str, width: int = 320, height: int = 240, pixel_format: Any = "yuv420p") -> None:
        self.writers[code] = FrameWriter(code, width, height, pixel_format, prefix=self.prefix)
        chroma = (-(-height // 2), -(-width // 2))
        shapes = [(height, width), chroma, chroma] if pixel_format == "yuv420p" else [(height, width, 3)]
        self.writers[code].write(tuple(np.full(shape, 100, np.uint8) for shape in shapes))

    def settings(self, **sections: dict[str, Any]) -> Settings:
        given: dict[str, dict[str, Any]] = {
            "redis": {"url": self.redis_server.url},
            "snapshot": {"max_age": 3600.0, "wait": 0.3},
            "store": {
                "bucket": self.cos.bucket,
                "secret_id": self.cos.secret_id,
                "secret_key": self.cos.secret_key,
                "token": self.cos.token,
                "scheme": "http",
                "domain": self.cos.domain,
            },
            "shm": {"prefix": self.prefix},
            "http": {"listen": ""},
        }
        for name, values in sections.items():
            given[name] = given.get(name, {}) | values
        codes = ["cam01", "cam02", "cam03", "down"]
        return Settings(
            cameras=tuple(settings.Camera(code=code, source="test:320x240@5") for code in codes),
            **{name: settings.SECTIONS[name](**values) for name, values in given.items()},  # type: ignore[arg-type]
        )

    def fields(self, code: str = "cam01", **changes: Any) -> Fields:
        fields: Fields = {
            "request_id": uuid.uuid4().hex,
            "camera_code": code,
            "cos_path": f"snap/{uuid.uuid4().hex}.jpg",
            "callback_url": self.wvp.url,
        } | changes
        return {name: value for name, value in fields.items() if value is not None}

    def send(self, *requests: Fields) -> None:
        """All at once: no worker sees some of them without the others."""
        with self.redis.pipeline(transaction=True) as pipeline:
            for fields in requests:
                pipeline.xadd(STREAM, fields)
            pipeline.execute()

    def ask(self, **changes: Any) -> Callback:
        """Sends one request; its result as the platform gets it."""
        count = len(self.wvp.results)
        self.send(self.fields(**changes))
        return self.wvp.wait(count + 1, 30)[-1]

    def result_by_key(self, fields: Fields) -> Result:
        key = f"snap:result:{fields['request_id']}"
        wait_until(lambda: self.redis.exists(key))
        content: Any = self.redis.get(key)
        assert 0 < int(self.redis.ttl(key)) <= 60
        return Result.parse(content)

    @property
    def pending(self) -> int:
        """Requests that are not acknowledged."""
        groups: Any = self.redis.xinfo_groups(STREAM)
        if not groups:
            return int(self.redis.xlen(STREAM))
        return int(groups[0]["pending"]) + int(groups[0]["lag"] or 0)


def write_config(edge: Edge, path: Path, *more: str, **sections: dict[str, Any]) -> Path:
    """The edge's configuration as a file, appearing whole; with cameras of the codes `more`."""
    configuration = edge.settings(**sections)
    lines = []
    for name in ("redis", "stream", "snapshot", "result", "store", "shm", "http", "route"):
        section = getattr(configuration, name)
        lines.append(f"[{name}]")
        lines += [f"{key} = {json.dumps(getattr(section, key))}" for key in section.__struct_fields__]
    for code in [*(camera.code for camera in configuration.cameras), *more]:
        lines += ["[[camera]]", f'code = "{code}"', 'source = "test:320x240@5"']
    draft = path.with_suffix(".new")
    draft.write_text("\n".join(lines))
    return draft.replace(path)


class Running:
    """snapd in threads of this process."""

    def __init__(
        self, configuration: Settings, on_answered: Listener = lambda _: None, kind: type[Service] = Service
    ) -> None:
        self.encoder = Encoder.of(configuration.snapshot)
        self.changes = 0
        self.service = kind.open(kind.own(configuration), self.encoder, self._changed, on_answered)
        self.thread = threading.Thread(target=self.service.run)

    def _changed(self) -> None:
        self.changes += 1

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.service.stop()
        self.thread.join(60)
        assert not self.thread.is_alive()
