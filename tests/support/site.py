"""A host's surroundings for tests under a real systemd: its cameras, Redis, COS and WVP, and what asks them."""

import re
import shutil
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from framesrv.errors import SegmentOwnerError
from framesrv.host.units.systemd import unit_name
from framesrv.segment import layout
from tests.support.background import Background
from tests.support.cos import CosServer
from tests.support.processes import write_config
from tests.support.redis_server import RedisServer
from tests.support.rtsp import RtspServer
from tests.support.systemd import Host
from tests.support.wvp import WvpServer

CAMERAS = ("cam-1", ".cam.2", "cam_3")  # codes that are not what their units are called
SPARE = "spare"
ALL = (*CAMERAS, SPARE)
SNAPD = "framesrv-snapd.service"
ROUTE = "framesrv-route.service"


@dataclass(frozen=True)
class Seen:
    """A camera at one moment: its decoder, its segment, its counters, and the frames its server has sent."""

    pid: int
    inode: int
    seq: int
    dropped: int
    reconnects: int
    sent: int


# A program that prints the size of the first camera's newest frame.
READ = """
from framesrv import FrameReader
with FrameReader("cam-1") as camera, camera.latest(max_age=2.0, timeout=10.0) as frame:
    print(frame.width, frame.height)
"""


class Site:
    """The host and its surroundings."""

    def __init__(self, host: Host, rtsp: dict[str, RtspServer], redis: RedisServer, cos: CosServer, wvp: WvpServer):
        self.host, self.rtsp, self.redis, self.cos, self.wvp = host, rtsp, redis, cos, wvp

    def configure(self, codes: Sequence[str] = CAMERAS, **sections: dict[str, Any]) -> None:
        """Writes the configuration of the services, with cameras of the RTSP servers."""
        self.write(
            [{"code": code, "source": self.rtsp[code].url(code), "timeout": 3.0} for code in codes], **sections
        )

    def write(self, cameras: list[dict[str, Any]], **sections: dict[str, Any]) -> None:
        cos = self.cos
        store = {"region": "ap-guangzhou", "bucket": cos.bucket, "domain": cos.domain, "scheme": "http"}
        given = {"redis": {"url": self.redis.url}, "store": store, "http": {"listen": ""}} | sections
        write_config(self.host.path("/etc/framesrv/framesrv.toml"), given, cameras)

    def sync(self, *options: str) -> str:
        return self.host.must("framesrv", "units", "sync", *options)

    def settle(self) -> None:
        """The usual cameras, live, whatever the test before has left."""
        self.configure()
        self.sync()
        self.host.must("systemctl", "start", "framesrv.target")  # with what was stopped by hand
        self.host.wait_for(lambda: all(self.is_live(code) for code in CAMERAS), "the cameras are live")
        self.host.wait_for(lambda: self.host.show(SNAPD, "ActiveState") == "active", "snapd is")

    def is_live(self, code: str) -> bool:
        try:
            with closing(self.host.segment(code)) as segment:
                return segment.state == "live" and segment.arrived is not None
        except (FileNotFoundError, SegmentOwnerError):  # absent, or not its decoder's
            return False

    def owner(self, code: str) -> int | None:
        """The user whose file is in the place of a segment; None if nothing is there."""
        try:
            return self.host.path(f"/dev/shm/framesrv.{code}").lstat().st_uid
        except FileNotFoundError:
            return None

    def kill(self, code: str) -> None:
        """Kills a camera's decoder."""
        self.host.kill(unit_name(code), "SIGKILL")

    def pid(self, code: str) -> int:
        return int(self.host.show(unit_name(code), "MainPID"))

    def seen(self, code: str) -> Seen:
        with closing(self.host.segment(code)) as segment:
            header = segment.header
            numbers = [int(header[name][0]) for name in ("pid", "seq", "dropped", "reconnects")]
            inode = self.host.path(f"/dev/shm/framesrv.{code}").stat().st_ino
        sent = sum(one.name == code for one in self.rtsp[code].sent())
        return Seen(numbers[0], inode, numbers[1], numbers[2], numbers[3], sent)

    def segments(self) -> list[str]:
        return sorted(path.name for path in self.host.path("/dev/shm").iterdir())


def assert_without_a_gap(before: Seen, after: Seen) -> None:
    """The same process has gone on in the same segment, and published each frame that its camera sent."""
    assert (after.pid, after.inode) == (before.pid, before.inode)
    assert (after.dropped, after.reconnects) == (before.dropped, before.reconnects)
    sent, published = after.sent - before.sent, after.seq - before.seq
    assert published > 0
    assert abs(sent - published) <= 10, "what is under way at either moment, and no more"


class Load(Background):
    """Requests for all the usual cameras in turn, 20 a second, as long as it is open; then all are answered once."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self._site = site
        self.asked: dict[str, str] = {}

    def answers(self) -> dict[str, str]:
        """The status of the answer to each request, once every one has come; each has come once."""
        wvp = self._site.wvp
        with wvp.changed:
            everything = wvp.changed.wait_for(
                lambda: self.asked.keys() <= {one.request_id for one in wvp.results}, 60
            )
        results = [one for one in wvp.results if one.request_id in self.asked]
        assert everything, f"lost: {self.asked.keys() - {one.request_id for one in results}}"
        assert set(Counter(one.request_id for one in results).values()) == {1}
        assert wvp.bad == []
        return {one.request_id: one.status for one in results}

    def run(self) -> None:
        """See `Background.run`."""
        client = self._site.redis.client()
        number = 0
        while not self.stopped.wait(0.05):
            code, request = CAMERAS[number % len(CAMERAS)], uuid.uuid4().hex
            number += 1
            self.asked[request] = code
            fields: dict[Any, Any] = {"request_id": request, "camera_code": code, "cos_path": f"snap/{request}.jpg"}
            client.xadd("edge_snap_request", {**fields, "callback_url": self._site.wvp.url})


def upgrade(site: Site, *, layout_version: int = layout.VERSION) -> None:
    """Puts another version in place, perhaps one with another layout of segments, and that alone."""
    package = next(site.host.path("/opt/framesrv/lib").glob("python*/site-packages/framesrv"))
    for module, name, value in (
        ("__init__.py", "__version__", f'"{uuid.uuid4()}"'),
        ("segment/layout.py", "VERSION", str(layout_version)),
        ("segment/layout.py", "OLDEST", str(layout_version)),
    ):
        path = package / module
        text, count = re.subn(rf"^{name} = .*$", f"{name} = {value}", path.read_text(), flags=re.MULTILINE)
        assert count == 1
        path.write_text(text)


def upgrade_dependency(site: Site, name: str, version: str | None) -> None:
    """Puts the metadata of another version of a package before those of the present one; None takes them away."""
    packages = next(site.host.path("/opt/framesrv/lib").glob("python*/site-packages"))
    for old in packages.glob(f"{name}-*.dist-info"):
        shutil.rmtree(old)
    if version is not None:
        place = packages / f"{name}-{version}.dist-info"
        place.mkdir()
        (place / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (place / "RECORD").write_text(f"{place.name}/METADATA,,\n{place.name}/RECORD,,\n")
