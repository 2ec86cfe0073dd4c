"""A host under a real systemd, for the tests of this room."""

from collections.abc import Iterator

import pytest

from tests.support.cos import CosServer
from tests.support.footage import footage
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.rtsp import RtspServer
from tests.support.site import ALL, CAMERAS, SPARE, Site
from tests.support.systemd import Host, build_wheel
from tests.support.wvp import WvpServer


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    rtsp = {}
    for number, code in enumerate(ALL):
        (directory / code).mkdir()
        video = footage(width=640, height=360, number=number)
        rtsp[code] = RtspServer({code: video}, directory / code, port=free_port())
    with (
        Host(build_wheel(directory)) as host,
        RedisServer(directory / "redis") as redis,
        CosServer() as cos,
        WvpServer() as wvp,
        rtsp[CAMERAS[0]],
        rtsp[CAMERAS[1]],
        rtsp[CAMERAS[2]],
        rtsp[SPARE],
    ):
        host.must("framesrv", "units", "install")
        secrets = f"FRAMESRV_STORE__SECRET_ID={cos.secret_id}\nFRAMESRV_STORE__SECRET_KEY='{cos.secret_key}'\n"
        host.path("/etc/framesrv/framesrv.env").write_text(secrets)
        yield Site(host, rtsp, redis, cos, wvp)
