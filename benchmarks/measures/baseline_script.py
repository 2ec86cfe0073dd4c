"""Other ways to answer a request: the same steps in a row, and an ffmpeg started for each picture.

Both keep what can be kept: readers, connections, the client of the store.
"""

import subprocess
import time
import uuid
from types import TracebackType
from typing import Any, Self

import redis
import requests
import simplejpeg
from qcloud_cos import CosConfig, CosS3Client

from benchmarks.measures.cloud import Endpoints
from benchmarks.measures.host import Host
from benchmarks.measures.process import BenchmarkError
from benchmarks.measures.stages import CALLBACK, CONVERT, ENCODE, QUEUED, UPLOAD, WAITING, Stages
from framesrv import FrameReader
from tests.support.wvp import CALLBACK_PATH

GROUP = CONSUMER = "script"
QUALITY = 85
MAX_AGE = 2.0  # s
FFMPEG_TIMEOUT = 30.0  # s


class StageTimes:
    """Times one thing after the other."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._last = time.perf_counter()

    def end(self, stage: str) -> None:
        """A stage that began where the last one ended."""
        now = time.perf_counter()
        self.stages[stage] = (now - self._last) * 1000
        self._last = now


class UploadAndCallback:
    """The last steps of every way: upload, presigned URL, callback."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        config = CosConfig(
            SecretId=endpoints.secret_id,
            SecretKey=endpoints.secret_key,
            Scheme="http",
            Domain=endpoints.domain,
            Timeout=(3, 10),
        )
        self._store = CosS3Client(config, retry=0)
        self._session = requests.Session()
        self._session.trust_env = False

    def give(self, name: str, code: str, jpeg: bytes, times: StageTimes) -> None:
        """Hands a picture over as the answer to the request `name`."""
        key = f"snap/{name}.jpg"
        self._store.put_object(Bucket=self._endpoints.bucket, Body=jpeg, Key=key, ContentType="image/jpeg")
        url = self._store.get_presigned_url(self._endpoints.bucket, key, "GET", Expired=3600)
        times.end(UPLOAD)
        result = {"request_id": name, "camera_code": code, "status": "ok", "url": url}
        self._session.post(self._endpoints.callback_url + CALLBACK_PATH, json=result, timeout=5).raise_for_status()
        times.end(CALLBACK)

    def close(self) -> None:
        self._session.close()


class ScriptBaseline:
    """The steps of a snapshot, one after the other in this process, as a script would.

    Attributes:
        stages: of every request so far.
    """

    def __init__(self, host: Host, endpoints: Endpoints, client: redis.Redis) -> None:
        self.stages: dict[str, Stages] = {}
        self._client = client
        self._readers = {camera.code: FrameReader(camera.code, prefix=host.prefix) for camera in host.cameras}
        self._handover = UploadAndCallback(endpoints)
        self._stream = f"script.{uuid.uuid4().hex}"  # its own
        client.xgroup_create(self._stream, GROUP, id="0", mkstream=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for reader in self._readers.values():
            reader.close()
        self._handover.close()

    def serve(self, code: str) -> str:
        """Sends a request, takes it and answers it; its id."""
        name, times = uuid.uuid4().hex, StageTimes()
        self._client.xadd(self._stream, {"request_id": name, "camera_code": code})
        taken: Any = self._client.xreadgroup(GROUP, CONSUMER, {self._stream: ">"}, count=1)
        times.end(QUEUED)
        jpeg = self._picture(code, times)
        self._handover.give(name, code, jpeg, times)
        self._client.xack(self._stream, GROUP, taken[0][1][0][0])
        self.stages[name] = times.stages
        return name

    def _picture(self, code: str, times: StageTimes) -> bytes:
        with self._readers[code].latest(max_age=MAX_AGE) as frame:
            times.end(WAITING)
            bgr = frame.bgr()
        times.end(CONVERT)
        jpeg: bytes = simplejpeg.encode_jpeg(bgr, QUALITY, "BGR", "420")
        times.end(ENCODE)
        return jpeg


class FfmpegPerPicture(ScriptBaseline):
    """The same, but for the picture: an ffmpeg that is started for it, connects, decodes one frame and ends."""

    def __init__(self, host: Host, endpoints: Endpoints, client: redis.Redis) -> None:
        super().__init__(host, endpoints, client)
        self._url = host.url

    def _picture(self, code: str, times: StageTimes) -> bytes:
        words = ["ffmpeg", "-nostdin", "-loglevel", "error", "-rtsp_transport", "tcp", "-i", self._url]
        words += ["-frames:v", "1", "-q:v", "3", "-f", "image2pipe", "-c:v", "mjpeg", "pipe:"]
        done = subprocess.run(words, capture_output=True, timeout=FFMPEG_TIMEOUT, check=False)
        if done.returncode or not done.stdout:
            raise BenchmarkError(f"ffmpeg gave no picture: {done.stderr.decode(errors='replace')[-500:]}")
        times.end(WAITING)
        return done.stdout
