"""``framesrv top`` on a real terminal, with real decoders."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framesrv import FrameReader, FrameWriter, camera_status
from framesrv.host.top.cameras import ORDERS
from tests.support.footage import footage
from tests.support.ports import free_port
from tests.support.processes import ROOT, Program, run, wait_for, write_config
from tests.support.rtsp import RtspServer
from tests.support.terminal import Terminal

PICTURE = "test:160x120@10"


LONG = "34020000001320000001"  # as GB/T 28181 has them


def configure(tmp_path: Path, prefix: str, sources: dict[str, str]) -> Path:
    cameras = [{"code": code, "source": source} for code, source in sources.items()]
    return write_config(tmp_path / "framesrv.toml", {"shm": {"prefix": prefix}}, cameras)


class Host:
    """Decoders of cameras, and `top` for them."""

    def __init__(self, stack: ExitStack, tmp_path: Path, prefix: str) -> None:
        self._stack, self._tmp_path, self._prefix = stack, tmp_path, prefix
        self.config = tmp_path / "framesrv.toml"

    def decode(self, sources: dict[str, str], *absent: str) -> dict[str, Program]:
        """Decoders for all but `absent`."""
        self.config = configure(self._tmp_path, self._prefix, sources)
        programs = {}
        for code in sources.keys() - set(absent):
            command = ("framesrv", "decode", code, "--config", self.config)
            programs[code] = self._stack.enter_context(Program(*command, log=self._tmp_path / f"{code}.log"))
            self._stack.callback(_end, programs[code])
        return programs

    def until(self, code: str, state: str) -> None:
        wait_for(lambda: camera_status(self._prefix, code).state == state, f"{code} is {state}")

    def top(self, *options: object, **terminal: Any) -> Terminal:
        command = ("framesrv", "top", "--interval", "0.2", "--config", self.config, *options)
        return self._stack.enter_context(Terminal(*command, **terminal))


def _end(decoder: Program) -> None:
    """In good order, so that its segment goes too."""
    if decoder.process.poll() is None:
        decoder.stop()


@pytest.fixture
def host(tmp_path: Path, prefix: str) -> Iterator[Host]:
    with ExitStack() as stack:
        yield Host(stack, tmp_path, prefix)


def table(rows: list[str]) -> dict[str, str]:
    """The rows of the table that are cameras, by code and in their order."""
    return {row.split()[0]: row for row in rows[2:-1] if row}


def states(rows: list[str]) -> dict[str, str]:
    return {code: row.split()[1] for code, row in table(rows).items()}


def segments(stack: ExitStack, prefix: str, count: int) -> list[FrameWriter]:
    """Cameras of this process, each with one frame."""
    writers = [
        stack.enter_context(FrameWriter(f"cam{number:03}", 32, 32, "bgr24", prefix=prefix)) for number in range(count)
    ]
    for writer in writers:
        writer.write((np.zeros((32, 32, 3), np.uint8),))
    return writers


def test_worst_cameras_stand_first_with_their_reasons(host: Host, tmp_path: Path) -> None:
    sources = {"a-live": PICTURE, "b-refused": f"rtsp://user:hidden@127.0.0.1:{free_port()}/cam", "d-none": PICTURE}
    with RtspServer({"cam": footage(width=320, height=240, frames=50)}, tmp_path) as server:
        host.decode(sources | {"c-stalled": server.url("cam")}, "d-none")
        host.until("a-live", "live")
        host.until("c-stalled", "live")
        server.fault("stall")
        host.until("c-stalled", "stalled")
        top = host.top(columns=100)
        rows = top.wait(lambda rows: len(table(rows)) == 4 and "refused" in "".join(rows))
    assert list(states(rows).items()) == [
        ("d-none", "down"), ("c-stalled", "stalled"), ("b-refused", "connecting"), ("a-live", "live"),
    ]  # fmt: skip
    assert rows[0].startswith("4 cameras: 1 down, 1 stalled, 1 connecting, 1 live")
    assert rows[1].split() == ["CODE", "STATE", "SIZE", "FPS", "AGE", "DROPS", "BAD", "RECONN", "REASON"]
    shown = table(rows)
    assert shown["d-none"].endswith("no decoder runs")
    assert shown["c-stalled"].endswith("nothing comes")
    assert shown["b-refused"].endswith("Connection refused")
    assert re.fullmatch(r"a-live +live +160x120 +\d+\.\d +\d\.\d\d s +0 +0 +0", shown["a-live"])
    assert b"hidden" not in top.written


@pytest.mark.leaves_segment
def test_camera_whose_decoder_is_killed_rises_to_the_top(host: Host) -> None:
    decoders = host.decode(dict.fromkeys(["one", "three", "two"], PICTURE))
    for code in decoders:
        host.until(code, "live")
    top = host.top()
    top.wait(lambda rows: list(states(rows).items()) == [(code, "live") for code in ("one", "three", "two")])
    decoders["two"].process.kill()
    rows = top.wait(lambda rows: "down" in states(rows).values())
    assert list(table(rows)) == ["two", "one", "three"]
    assert table(rows)["two"].endswith("its decoder died")
    assert rows[0].startswith("3 cameras: 1 down, 2 live")


def test_camera_that_comes_up_and_one_that_is_removed_are_seen(host: Host) -> None:
    decoders = host.decode({"one": PICTURE, "two": PICTURE}, "two")
    top = host.top()
    top.wait(lambda rows: states(rows) == {"two": "down", "one": "live"})
    assert decoders["one"].stop() == 0
    rows = top.wait(lambda rows: states(rows) == {"one": "down", "two": "down"})
    assert table(rows)["one"].endswith("no decoder runs")


def test_frames_that_are_dropped_are_said_as_they_are(host: Host, prefix: str) -> None:
    host.decode({})
    with ExitStack() as stack:
        writers = segments(stack, prefix, 2)
        pinned = stack.enter_context(FrameReader("cam001", prefix=prefix))
        pins = [stack.enter_context(pinned.latest(max_age=None))]
        writers[1].write((np.zeros((32, 32, 3), np.uint8),))
        pins.append(stack.enter_context(pinned.latest(max_age=None)))
        top = host.top()
        top.wait(lambda rows: len(table(rows)) == 2)

        def drops(rows: list[str]) -> bool:
            for writer in writers:
                writer.write((np.zeros((32, 32, 3), np.uint8),))
            return "drops " in "".join(rows)

        rows = top.wait(drops)
    assert list(table(rows)) == ["cam001", "cam000"]
    assert re.search(r"drops \d+\.\d/s$", table(rows)["cam001"])
    assert "drops" not in table(rows)["cam000"]


def test_s_changes_the_order(host: Host, prefix: str) -> None:
    host.decode({})
    with ExitStack() as stack:
        for writer in segments(stack, prefix, 3)[::-1]:  # the newest frame is the first one's
            time.sleep(0.01)  # their ages are to differ
            writer.write((np.zeros((32, 32, 3), np.uint8),))
        top = host.top()
        found = {}
        for order in ORDERS:
            rows = top.wait(lambda rows: rows[-1].endswith(f", {order}"))  # noqa: B023  it is called now
            found[order] = list(table(rows))
            top.press("s")
        top.wait(lambda rows: rows[-1].endswith("worst first"))
    assert found["code"] == ["cam000", "cam001", "cam002"]
    assert found["age"] == ["cam002", "cam001", "cam000"]


def test_filter_shows_what_matches_and_escape_everything(host: Host, prefix: str) -> None:
    host.decode({"north": PICTURE, "south": PICTURE}, "north", "south")
    with ExitStack() as stack:
        segments(stack, prefix, 3)
        top = host.top()
        top.wait(lambda rows: len(table(rows)) == 5)
        top.press("/")
        top.wait(lambda rows: rows[-1].startswith("filter: "))
        top.press("LIVX")
        top.wait(lambda rows: not table(rows))
        top.press("\x7fe")
        top.wait(lambda rows: list(table(rows)) == ["cam000", "cam001", "cam002"])
        top.press("\r")
        rows = top.wait(lambda rows: "1-3 of 3 with 'LIVe'" in rows[-1])
        assert rows[0].startswith("5 cameras: 2 down, 3 live")
        top.press("f")
        top.press("sou")
        top.wait(lambda rows: list(table(rows)) == ["south"])
        top.press("q")  # is a letter here
        top.wait(lambda rows: rows[-1].startswith("filter: souq"))
        top.press("\x1b")
        top.wait(lambda rows: len(table(rows)) == 5 and "of 5," in rows[-1])


def test_pause_stands_still_and_goes_on(host: Host, prefix: str) -> None:
    host.decode({"cam": PICTURE})
    host.until("cam", "live")
    top = host.top()
    top.wait(lambda rows: states(rows) == {"cam": "live"})
    top.press("p")
    rows = top.wait(lambda rows: "PAUSED" in rows[0])
    stat = Path(f"/proc/{top.process.pid}/stat")
    wait_for(lambda: stat.read_text().split()[2] == "S", "what it did for the key is done")
    ticks = stat.read_text().split()[13:15]
    time.sleep(0.6)  # three looks, if it looked
    assert top.rows == rows
    assert stat.read_text().split()[13:15] == ticks
    top.press(" ")
    top.wait(lambda now: "PAUSED" not in now[0] and table(now) != table(rows))


@pytest.mark.parametrize("how", ["q", "\x03", signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
@pytest.mark.parametrize("asking", [False, True])
def test_terminal_is_as_it_was_however_it_ends(host: Host, how: Any, asking: bool) -> None:
    host.decode({"cam": PICTURE}, "cam")
    top = host.top()
    top.wait(lambda rows: "cam" in table(rows))
    assert not top.is_restored()
    if asking and how != "q":
        top.press("/x")
        top.wait(lambda rows: rows[-1].startswith("filter: x"))
    top.press(how) if isinstance(how, str) else top.process.send_signal(how)
    assert top.end() == (0, "")
    assert top.is_restored()


def test_error_leaves_the_terminal_as_it_was(host: Host, tmp_path: Path) -> None:
    """Whatever goes wrong while it runs."""
    host.decode({"cam": PICTURE}, "cam")
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import framesrv.host.top.cameras as trouble\n"
        "look, seen = trouble.HealthTracker.look, []\n"
        "def failing(self, cameras, now):\n"
        "    seen.append(now)\n"
        "    if len(seen) > 2: raise RuntimeError('broken on purpose')\n"
        "    return look(self, cameras, now)\n"
        "trouble.HealthTracker.look = failing\n"
    )
    path = os.pathsep.join([str(broken), str(ROOT)])
    top = host.top(environment={"PYTHONPATH": path})
    status, error = top.end()
    assert status == 1
    assert "broken on purpose" in error
    assert top.is_restored()


def test_terminal_that_goes_away_ends_it_without_a_word(host: Host) -> None:
    host.decode({"cam": PICTURE}, "cam")
    top = host.top()
    top.wait(lambda rows: "cam" in table(rows))
    top.hang_up()
    assert top.end() == (0, "")


def test_ctrl_z_gives_the_terminal_back_until_it_goes_on(host: Host) -> None:
    host.decode({"cam": PICTURE}, "cam")
    top = host.top()
    top.wait(lambda rows: "cam" in table(rows))
    top.press("\x1a")
    wait_for(
        lambda: Path(f"/proc/{top.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T",
        "it is stopped",
    )
    assert top.is_restored()
    top.screen.reset()
    top.process.send_signal(signal.SIGCONT)
    top.wait(lambda rows: "cam" in table(rows))
    assert not top.is_restored()
    top.press("q")
    assert top.end() == (0, "")


@pytest.mark.parametrize("columns", [80, 60, 120, 40])
def test_every_camera_has_one_line_at_any_width(host: Host, columns: int) -> None:
    gone = f"rtsp://127.0.0.1:{free_port()}/a/rather/long/path"
    host.decode({LONG: gone, "x" * 64: PICTURE, "short": PICTURE}, "x" * 64)
    host.until("short", "live")
    top = host.top(columns=columns, lines=12)
    rows = top.wait(lambda rows: "refused" in "".join(rows))
    assert len(rows[1:]) == 11
    assert max(map(len, rows)) <= columns
    assert [row.split()[0] for row in rows[2:5]] == [f"…{'x' * (max(20, columns // 4) - 1)}", LONG, "short"]
    assert rows[5:11] == [""] * 6
    assert [row.split()[1] for row in rows[2:5]] == ["down", "connecting", "live"]
    assert rows[3].endswith("refused")
    assert rows[3].endswith("Connection refused") is (columns >= 80)
    assert rows[11].startswith("s sort  / filter  p pause  q quit")
    assert rows[11].endswith("1-3 of 3, worst first") is (columns >= 60)


def test_table_follows_the_size_of_the_terminal(host: Host, prefix: str) -> None:
    host.decode({})
    with ExitStack() as stack:
        segments(stack, prefix, 30)
        top = host.top(lines=24)
        top.wait(lambda rows: "1-21 of 30" in rows[-1])
        assert "SIZE" not in top.rows[1]
        top.resize(110, 12)
        rows = top.wait(lambda rows: len(rows) == 12 and "1-9 of 30" in rows[-1])
        assert "SIZE" in rows[1]
        assert len(table(rows)) == 9
        top.resize(30, 4)
        top.wait(lambda rows: len(rows) == 4 and len(table(rows)) == 1)
        top.resize(80, 40)
        top.wait(lambda rows: len(rows) == 40 and len(table(rows)) == 30)


def test_hundred_cameras_are_to_be_gone_through(host: Host, prefix: str) -> None:
    host.decode({})
    with ExitStack() as stack:
        segments(stack, prefix, 100)
        top = host.top()
        rows = top.wait(lambda rows: "1-21 of 100" in rows[-1])
        assert rows[0].startswith("100 cameras: ")
        seen = set(table(rows))
        for part in ("22-42", "43-63", "64-84", "80-100"):
            top.press("\x1b[6~")
            seen |= set(table(top.wait(lambda rows: f"{part} of 100" in rows[-1])))  # noqa: B023
        assert seen == {f"cam{number:03}" for number in range(100)}
        top.press("\x1b[A")
        top.wait(lambda rows: "79-99 of 100" in rows[-1])
        top.press("\x1b[H")
        top.wait(lambda rows: "1-21 of 100" in rows[-1])
        top.press("/cam09\r")
        rows = top.wait(lambda rows: "1-10 of 10 " in rows[-1])
        assert sorted(table(rows)) == [f"cam09{number}" for number in range(10)]


def test_lines_come_where_there_is_no_terminal(host: Host) -> None:
    host.decode({"down": PICTURE, "live": PICTURE}, "down")
    host.until("live", "live")
    process = subprocess.Popen(
        [sys.executable, "-m", "framesrv", "top", "--interval", "0.2", "--config", str(host.config)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        for _ in range(3):
            lines = [process.stdout.readline() for _ in range(5)]
            assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  2 cameras: 1 down, 1 live\n", lines[0])
            assert lines[1].split() == ["CODE", "STATE", "SIZE", "FPS", "AGE", "DROPS", "BAD", "RECONN", "ERROR"]
            assert [line.split()[0] for line in lines[2:4]] == ["down", "live"]
            assert lines[2].endswith("no decoder runs\n")
            assert "\x1b" not in "".join(lines)
    finally:
        process.terminate()
        assert process.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_lines_end_at_a_signal(host: Host, tmp_path: Path, number: int) -> None:
    host.decode({"down": PICTURE}, "down")
    command = ("framesrv", "top", "--interval", "3600", "--config", host.config)
    with Program(*command, log=tmp_path / "lines") as program:
        wait_for(lambda: "no decoder runs" in program.output, "it has begun")
        assert program.stop(number) == 0
        assert "Traceback" not in program.output


def test_dumb_terminal_gets_lines(host: Host) -> None:
    host.decode({"down": PICTURE}, "down")
    top = host.top(environment={"TERM": "dumb"})
    top.wait(lambda rows: "no decoder runs" in "".join(rows))
    assert b"\x1b[?" not in top.written


def test_without_a_keyboard_it_shows_the_table_all_the_same(host: Host) -> None:
    host.decode({"cam": PICTURE}, "cam")
    top = host.top(stdin=False)
    top.wait(lambda rows: "cam" in table(rows))
    top.process.terminate()
    assert top.end() == (0, "")
    assert top.is_restored()


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "x"])
def test_interval_that_cannot_be_is_refused(host: Host, interval: str) -> None:
    host.decode({})
    done = run("framesrv", "top", f"--interval={interval}", "--config", host.config)
    assert done.returncode == 2
    assert "--interval" in done.stderr


def test_rich_is_loaded_by_this_command_alone() -> None:
    script = "import sys, framesrv.cli, framesrv.host.top.app, snapd.cli; print('rich' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == b"False"
