"""Programs in C and C++ that read frames: compiled with `framesrv.h`, and run with a pipe each way."""

import os
import select
import shutil
import subprocess
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest

import framesrv

INCLUDE = Path(framesrv.__file__).parent / "include"
READER = Path(__file__).parent / "c_reader.c"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror")
LANGUAGES = {"c": ("cc", "-std=c11", "-x", "c"), "c++": ("c++", "-std=c++17", "-x", "c++")}
SANITIZERS = {
    "plain": (),
    "asan": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
    "tsan": ("-fsanitize=thread",),
}
# what calls return, as in framesrv.h
OK, ABSENT, DOWN, CONNECTING, STALLED, STALE, GONE, FORMAT, OWNER, UNREADABLE, INVALID, FORKED, SYSTEM = range(13)
_built = TemporaryDirectory(prefix="framesrv-c-")


def compiled(
    *sources: Path, language: str = "c", sanitizer: str = "plain", warnings: Sequence[str] = WARNINGS
) -> Path:
    """The program of these sources; skips the test where there is no compiler or no such sanitizer."""
    why_not = _missing(language, sanitizer)
    if why_not:
        pytest.skip(why_not)
    return _compiled(sources, language, sanitizer, tuple(warnings))


@cache
def _compiled(sources: tuple[Path, ...], language: str, sanitizer: str, warnings: tuple[str, ...]) -> Path:
    program = Path(_built.name) / f"{sources[0].stem}-{language}-{sanitizer}-{abs(hash(sources))}"
    done = _compile(language, sanitizer, *warnings, *map(str, sources), "-o", str(program))
    assert done.returncode == 0, done.stderr
    return program


@cache
def _missing(language: str, sanitizer: str) -> str:
    """Why nothing can be compiled so; empty where it can."""
    compiler = LANGUAGES[language][0]
    if shutil.which(compiler) is None:
        return f"there is no compiler {compiler}: apt-get install build-essential"
    source, program = Path(_built.name) / "empty.c", Path(_built.name) / "empty"
    source.write_text("int main(void) { return 0; }\n")
    if _compile(language, sanitizer, str(source), "-o", str(program)).returncode != 0:
        return f"{compiler} has no {SANITIZERS[sanitizer][:1]}"
    if subprocess.run([program], check=False, timeout=60).returncode != 0:
        return f"a program with {SANITIZERS[sanitizer][:1]} does not start on this host"
    return ""


def _compile(language: str, sanitizer: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LANGUAGES[language], "-g", "-O1", "-pthread", *SANITIZERS[sanitizer], f"-I{INCLUDE}", *words],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def output(program: Path, *words: str) -> str:
    """What a program prints that ends well."""
    done = subprocess.run([program, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Running:
    """A program that talks by lines; killed at the end of the block."""

    def __init__(self, program: Path, *words: str) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen([program, *words], stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def line(self, timeout: float = 60.0) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        deadline, got = time.monotonic() + timeout, b""
        while not got.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the program says nothing: {got!r}"
            byte = os.read(self.process.stdout.fileno(), 1)
            assert byte, f"the program has ended: {got!r} {self.end()}"
            got += byte
        return got.decode().rstrip("\n")

    def go_on(self) -> None:
        """Tells it to go on."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")

    def end(self, timeout: float = 60.0) -> tuple[int, str]:
        """Waits for its end; its exit status, and what it told standard error."""
        _, errors = self.process.communicate(timeout=timeout)
        return self.process.returncode, errors.decode()


def one(program: Path, prefix: str, *words: str) -> tuple[int, str]:
    """The code and the rest of the line that a reader says of the newest frame."""
    with Running(program, "one", prefix, "cam", *words) as running:
        code, _, rest = running.line().partition(" ")
        status, errors = running.end()
        assert (status, errors) == (int(code) != OK, "")
        return int(code), rest
