"""The main job, whole: cameras over RTSP, ``framesrv up``, Redis, COS, callbacks, and pictures that are fresh."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import requests
import simplejpeg

from framesrv import camera_status
from framesrv.settings import SnapshotSettings
from tests.support.cos import CosServer
from tests.support.footage import footage, read_code
from tests.support.processes import Program, wait_for, write_config
from tests.support.redis_server import RedisServer
from tests.support.rtsp import RtspServer, Sent
from tests.support.wvp import WvpServer

CAMERAS = {f"3402000000132000000{number}": "hevc" if number == 5 else "h264" for number in range(1, 6)}
SIZES, SMALL = {"34020000001320000001": (1920, 1080), "34020000001320000005": (1280, 720)}, (640, 360)
REQUESTS, RATE = 100, 10
FRESH = SnapshotSettings().max_age  # s before the request, at most


def on_the_wire(sent: list[Sent], code: str, index: int, before: float) -> float:
    """When the camera last sent that frame before the moment `before`."""
    return max(one.time for one in sent if (one.name, one.index) == (code, index) and one.time <= before)


def test_a_hundred_requests_get_a_hundred_fresh_pictures(tmp_path: Path, prefix: str) -> None:
    videos = {
        code: footage(codec, *SIZES.get(code, SMALL), number=int(code[-1]))  # type: ignore[arg-type]
        for code, codec in CAMERAS.items()
    }
    with (
        RtspServer(videos, tmp_path) as rtsp,
        RedisServer(tmp_path / "redis") as redis,
        CosServer() as cos,
        WvpServer() as wvp,
    ):
        store = {"region": "ap-guangzhou", "bucket": cos.bucket, "secret_id": cos.secret_id}
        store |= {"secret_key": cos.secret_key, "domain": cos.domain, "scheme": "http"}
        sections = {"shm": {"prefix": prefix}, "redis": {"url": redis.url}, "store": store, "http": {"listen": ""}}
        cameras = [{"code": code, "source": rtsp.url(code)} for code in CAMERAS]
        config = write_config(tmp_path / "framesrv.toml", sections, cameras)
        with Program("framesrv", "up", "--config", config, log=tmp_path / "up.log") as up:
            client = redis.client()
            wait_for(
                lambda: all(camera_status(prefix, code).state == "live" for code in CAMERAS), "all cameras are live"
            )
            wait_for(lambda: client.exists("edge_snap_request"), "snapd has joined")
            asked = {}
            codes = list(CAMERAS)
            due = time.monotonic()
            for number in range(REQUESTS):
                request, code = f"request-{number}", codes[number % len(codes)]
                fields: dict[Any, Any] = {
                    "request_id": request,
                    "camera_code": code,
                    "cos_path": f"snap/{code}/{number}.jpg",
                }
                asked[request] = (code, time.time())
                client.xadd("edge_snap_request", {**fields, "callback_url": wvp.url})
                due += 1 / RATE
                time.sleep(max(0.0, due - time.monotonic()))
            wvp.wait(REQUESTS, timeout=30)
            # answered, and so acknowledged: nothing is left that could be answered twice
            wait_for(
                lambda: client.xpending("edge_snap_request", "edge_snap_group")["pending"] == 0, "all acknowledged"
            )
            assert up.stop() == 0

        assert wvp.bad == []
        assert Counter(result.request_id for result in wvp.results) == Counter(asked.keys())
        assert {result.status for result in wvp.results} == {"ok"}
        assert all(put.ok for put in cos.puts)
        sent = rtsp.sent()
        for result in wvp.results:
            code, at = asked[result.request_id]
            assert result.camera_code == code
            fetched = requests.get(result.url or "", timeout=10)
            assert (fetched.status_code, fetched.headers["Content-Type"]) == (200, "image/jpeg")
            picture = simplejpeg.decode_jpeg(fetched.content, "BGR")
            assert picture.shape == (*reversed(SIZES.get(code, SMALL)), 3)
            shown = read_code(picture)
            assert shown is not None
            assert shown[0] == int(code[-1])
            assert on_the_wire(sent, code, shown[1], result.time) > at - FRESH
