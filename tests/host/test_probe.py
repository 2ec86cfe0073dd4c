"""What `framesrv probe` says of a source, and what to configure."""

import json
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from framesrv.settings import load
from tests.support.footage import footage
from tests.support.odd_camera import OddCamera
from tests.support.odd_clients import answering
from tests.support.processes import run, write_config
from tests.support.rtsp import RtspServer
from tests.support.terminal import Terminal

SECONDS = "3"
PASSWORD = "s3cret#of?mine"


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RtspServer]:
    """A camera that knows the time and asks for a password."""
    video = footage(width=640, height=360, gop=25, number=5)
    directory = tmp_path_factory.mktemp("probe")
    with RtspServer({"cam": video}, directory, rtcp="wall", login=("digest", "viewer", PASSWORD)) as server:
        yield server


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run("framesrv", "probe", *arguments, timeout=60)


def found(*arguments: str) -> dict[str, Any]:
    done = probe("--json", "--seconds", SECONDS, *arguments)
    assert done.returncode == 0, done.stderr
    fields: dict[str, Any] = json.loads(done.stdout)
    return fields


def with_password(url: str, password: str = PASSWORD) -> str:
    return url.replace("//", f"//viewer:{password}@")


def test_probe_says_what_a_stream_is(camera: RtspServer) -> None:
    seen = found(with_password(camera.url("cam")))
    assert seen["works"]
    assert (seen["codec"], seen["pixel_format"]) == ("h264", "yuv420p")
    assert (seen["width"], seen["height"], seen["matrix"]) == (640, 360, "bt601")
    assert seen["fps"] == pytest.approx(25, rel=0.01)
    assert seen["group_s"] == pytest.approx(1, rel=0.01)
    assert abs(seen["clock_ahead_s"]) < 10
    assert seen["transport"] == "tcp"
    assert [one.partition(" ")[0] for one in seen["authentication"]] == ["Digest"]
    assert seen["packets"] > 100
    assert (seen["missing"], seen["corrupt"]) == (0, 0)
    assert 0 < seen["cost"] < 100
    assert seen["bits_per_second"] > 10_000
    assert seen["seconds"] >= float(SECONDS)


def test_probe_ends_with_a_table_for_the_configuration_that_lacks_the_password_alone(
    camera: RtspServer, tmp_path: Path
) -> None:
    done = probe("--seconds", "1", with_password(camera.url("cam")))
    assert done.returncode == 0, done.stderr
    assert PASSWORD not in done.stdout + done.stderr
    report, _, table = done.stdout.partition("For the configuration:")
    assert len(report.strip().splitlines()) == 10
    assert tomllib.loads(table)["camera"] == [
        {"code": "CAMERA", "source": camera.url("cam"), "user": "viewer", "password": ""}
    ]
    file = tmp_path / "framesrv.toml"
    file.write_text(table.replace('password = ""', f'password = "{PASSWORD}"'))
    assert load(file).cameras[0].code == "CAMERA"
    assert found("--config", str(file), "CAMERA")["works"]


def test_probe_of_a_camera_that_refuses_tcp_says_so_and_what_to_configure() -> None:
    with OddCamera(
        footage(width=640, height=360, gop=25, number=5), answering("461 Unsupported", "SETUP", ("tcp",))
    ) as odd:
        seen = found(odd.url())
    assert seen["transport"] == "udp"
    assert seen["camera"]["transport"] == "udp"


def test_probe_counts_what_is_lost(tmp_path: Path) -> None:
    with RtspServer({"cam": footage(width=640, height=360, gop=25, number=5)}, tmp_path) as server:
        server.fault("lose")
        seen = found(server.url("cam"))
    assert seen["missing"] > 0
    assert seen["corrupt"] > 0


@pytest.mark.parametrize("as_json", [True, False])
def test_probe_of_a_source_that_does_not_work_says_why_and_what_to_do(camera: RtspServer, as_json: bool) -> None:
    done = probe(*(["--json"] if as_json else []), with_password(camera.url("cam"), "wrong-one"))
    assert done.returncode == 1
    assert "wrong-one" not in done.stdout + done.stderr
    if as_json:
        said = json.loads(done.stdout)
        assert (said["works"], said["cause"]) == (False, "unauthorized")
    else:
        assert done.stdout == ""
        assert "does not work: cannot be opened: the camera refuses the user or the password" in done.stderr


def test_silent_camera_is_tried_the_other_way_before_it_is_given_up(tmp_path: Path) -> None:
    config = tmp_path / "framesrv.toml"
    with RtspServer({"cam": footage(width=640, height=360, gop=25, number=5)}, tmp_path) as server:
        server.fault("stall")
        write_config(config, {}, [{"code": "cam", "source": server.url("cam"), "timeout": 1.0}])
        done = probe("--config", str(config), "--json", "cam")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert said["cause"] == "timeout"
    assert said["remedy"]


@pytest.mark.parametrize(
    ("word", "words"), [("test:what", "expected test:"), ("nobody", "neither a URL nor a camera")]
)
def test_what_can_be_no_source_is_wrong_usage(word: str, words: str, tmp_path: Path) -> None:
    config = write_config(tmp_path / "framesrv.toml", {}, [{"code": "cam", "source": "test:320x240@5"}])
    done = probe("--config", str(config), word)
    assert done.returncode == 2
    assert words in done.stderr


def test_test_picture_and_file_need_no_network() -> None:
    assert found("test:320x240@10")["fps"] == pytest.approx(10, rel=0.2)
    seen = found(str(footage(width=640, height=360, gop=25, number=5)))
    assert (seen["codec"], seen["authentication"]) == ("h264", None)


def test_progress_is_shown_on_a_terminal_and_taken_away(camera: RtspServer) -> None:
    with Terminal(
        "framesrv", "probe", "--seconds", SECONDS, with_password(camera.url("cam")), stderr=True
    ) as terminal:
        terminal.wait(lambda rows: any("looks at it, 1 of 3 s" in row for row in rows))
        assert terminal.end()[0] == 0
        assert not any("looks at it" in row for row in terminal.rows)
        assert any("H.264" in row for row in terminal.rows)


def test_shape_is_that_in_which_pictures_are_shown(camera: RtspServer, tmp_path: Path) -> None:
    url = with_password(camera.url("cam"))
    keys = {"code": "cam", "source": url, "substream": url, "aspect": "4:3", "rotate": 90}
    config = write_config(tmp_path / "framesrv.toml", {}, [keys])
    seen = found("--config", str(config), "cam")
    assert (seen["width"], seen["height"], seen["rotated"], seen["sample_aspect_ratio"]) == (360, 640, 90, "4:3")
    assert (seen["camera"]["aspect"], seen["camera"]["rotate"]) == ("4:3", 90)
    assert seen["camera"]["substream"] == camera.url("cam")
    done = probe("--config", str(config), "--seconds", "1", "cam.sub")
    assert "360x640, shown as 480x640, turned by 90 degrees, bt601" in done.stdout
    assert "For the configuration" not in done.stdout
