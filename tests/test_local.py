"""Pictures of this host's own cameras, by command."""

import io
from pathlib import Path

import pytest
import simplejpeg
from PIL import ExifTags, Image

from tests.support.edge import Edge, write_config
from tests.test_snapd_cli import snapd


@pytest.fixture
def config(edge: Edge, tmp_path: Path) -> Path:
    return write_config(edge, tmp_path / "framesrv.toml")


def test_grab_takes_the_part_that_is_wanted_and_says_what_it_is(edge: Edge, config: Path, tmp_path: Path) -> None:
    edge.camera("cam01", 640, 480)
    out = tmp_path / "a.jpg"
    done = snapd(
        "grab", "cam01", "-o", out, "--crop", "0.5,0.5,0.5,0.5", "--width", 160, "--overlay", "--config", config
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.decode().startswith(f"{out}: 160x120, ")
    content = out.read_bytes()
    assert simplejpeg.decode_jpeg_header(content)[:2] == (120, 160)
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.getexif()[ExifTags.Base.ImageDescription] == "cam01"


def test_grab_of_a_part_that_cannot_be_says_so(edge: Edge, config: Path, tmp_path: Path) -> None:
    edge.camera("cam01", 640, 480)
    for crop, status, words in (
        ("1,2,3", 2, "expected pixels as 100,50,640,360, or shares"),
        ("600,0,100,100", 1, "600,0,100,100 does not lie within 640x480 pixels"),
    ):
        done = snapd("grab", "cam01", "-o", tmp_path / "a.jpg", "--crop", crop, "--config", config)
        assert (done.returncode, done.stdout) == (status, b"")
        assert words in done.stderr.decode()
        assert b"Traceback" not in done.stderr
    assert not (tmp_path / "a.jpg").exists()
