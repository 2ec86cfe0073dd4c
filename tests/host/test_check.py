"""`framesrv check`: sources that can never work, said before anything starts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from framesrv.host.check import USUAL
from tests.support.processes import write_config


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("rtps://192.0.2.11/1", f"rtps: is no kind of source; usual ones are {USUAL}"),
        ("RTSTP://192.0.2.11/1", f"RTSTP: is no kind of source; usual ones are {USUAL}"),
        ("192.0.2.11", "there is no file 192.0.2.11; an address begins with its scheme, as rtsp://"),
        ("192.0.2.11:554/1", "there is no file 192.0.2.11:554/1; an address begins with its scheme, as rtsp://"),
        ("/nowhere/cam.mp4", "there is no file /nowhere/cam.mp4; an address begins with its scheme, as rtsp://"),
    ],
)
def test_source_that_can_never_work_is_found(tmp_path: Path, source: str, said: str) -> None:
    assert [one["message"] for one in cameras_found(tmp_path, source)] == [said]


@pytest.mark.parametrize("source", ["rtsp://192.0.2.11/1", "HTTP://192.0.2.11/1", "rtmpt://192.0.2.11/1", __file__])
def test_source_that_may_work_is_no_finding(tmp_path: Path, source: str) -> None:
    assert cameras_found(tmp_path, source) == []


def cameras_found(directory: Path, source: str) -> list[dict[str, str]]:
    """What `check` finds of cameras."""
    config = write_config(directory / "framesrv.toml", {}, [{"code": "cam", "source": source}])
    words = [sys.executable, "-m", "framesrv", "check", "--json", "--config", str(config)]
    done = subprocess.run(words, capture_output=True, check=False, timeout=60)
    return [one for one in json.loads(done.stdout) if one["name"] == "camera cam"]
