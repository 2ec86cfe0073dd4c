"""A camera that asks for a user and a password gets those that are configured, whatever is in them."""

from pathlib import Path

import pytest

from framesrv import camera_status
from tests.support.footage import footage
from tests.support.processes import Program, wait_for, write_config
from tests.support.rtsp import RtspServer
from tests.support.rtsp_login import Scheme

SPECIAL = "#a/b?c%20d@e:f&g=h+i !\"'$~`^{}[]|\\<>,;*()摄"


@pytest.mark.parametrize("scheme", ["basic", "digest"])
@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("admin", SPECIAL),
        ("a@b#c/d?e%f", "#/?%@:"),
        *(("admin", f"{one}x") for one in "#/?%@:"),
        *(("admin", f"x{one}") for one in "#/?%@:"),
        ("admin", ""),
    ],
)
def test_password_is_given_to_the_camera_as_it_is_written(
    scheme: Scheme, user: str, password: str, tmp_path: Path, prefix: str
) -> None:
    video = footage(width=320, height=240, frames=50)
    with RtspServer({"cam": video}, tmp_path, login=(scheme, user, password)) as server:
        camera = {"code": "cam", "source": server.url("cam"), "user": user, "password": password}
        config = write_config(tmp_path / "framesrv.toml", {"shm": {"prefix": prefix}}, [camera])
        with Program("framesrv", "decode", "cam", "--config", config, log=tmp_path / "log") as program:
            wait_for(lambda: camera_status(prefix, "cam").state == "live", "it is live")
            assert program.stop() == 0
    assert "live 320x240" in program.output
    assert len(password) < 4 or password not in program.output


def test_wrong_password_is_refused_and_not_shown(tmp_path: Path, prefix: str) -> None:
    """Which also shows that the server asks for it."""
    video = footage(width=320, height=240, frames=50)
    with RtspServer({"cam": video}, tmp_path, login=("digest", "admin", "right")) as server:
        camera = {"code": "cam", "source": server.url("cam"), "user": "admin", "password": "wr@ng/one"}
        config = write_config(tmp_path / "framesrv.toml", {"shm": {"prefix": prefix}}, [camera])
        with Program("framesrv", "decode", "cam", "--config", config, log=tmp_path / "log") as program:
            wait_for(lambda: "401" in camera_status(prefix, "cam").error, "it is refused")
            wait_for(lambda: "401" in program.output, "it says so")
            assert program.stop() == 0
    assert "wr@ng" not in program.output
    assert "wr%40ng" not in program.output
