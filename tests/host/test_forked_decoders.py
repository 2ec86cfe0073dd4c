"""The decoders that ``framesrv up`` keeps: what they have imported lies in memory once."""

import re
from pathlib import Path

from framesrv import camera_status
from tests.support.footage import footage
from tests.support.processes import Program, run, wait_for, write_config
from tests.support.redis_server import RedisServer
from tests.support.rtsp import RtspServer

CODES = ("cam0", "cam1")
ONCE = 10_000  # kB, of some twenty


def shared(pid: int | None) -> int:
    """What a process has written, and has in common with others, in kB."""
    found = re.search(r"^Shared_Dirty: +(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def test_decoders_of_one_host_share_what_they_have_imported_and_can_be_told_apart(
    tmp_path: Path, prefix: str
) -> None:
    sections = {"shm": {"prefix": prefix}, "http": {"listen": ""}}
    sections |= {"store": {"kind": "dir", "path": str(tmp_path)}}
    video = footage(width=320, height=240)
    with RedisServer(tmp_path / "redis") as redis, RtspServer({"cam": video}, tmp_path) as server:
        cameras = [{"code": code, "source": server.url("cam"), "decode": "demand"} for code in CODES]
        config = write_config(tmp_path / "framesrv.toml", sections | {"redis": {"url": redis.url}}, cameras)
        with Program("framesrv", "up", "--config", config, log=tmp_path / "up.log") as up:
            for code in CODES:
                wait_for(lambda code=code: camera_status(prefix, code).state == "live", "it is live")  # type: ignore[misc]
            for code in CODES:
                pid = camera_status(prefix, code).pid
                assert shared(pid) > ONCE
                command = Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")
                assert re.search(rf" -m framesrv decode --kept .*-- {code}\Z", command)
            told = run("framesrv", "retry", *CODES, "--config", config)
            assert (told.returncode, told.stderr) == (0, "")
            assert up.stop() == 0
        assert not list(Path("/dev/shm").glob(f"{prefix}.*"))
