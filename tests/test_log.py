"""What the programs' log lines look like, where the journal, a terminal, or anything else reads them."""

import json
import logging
import os
import pty
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from framesrv import log
from tests.support.edge import Edge, wait_until, write_config
from tests.support.http_server import Fault
from tests.support.ports import free_port
from tests.support.processes import ROOT, Program, run, wait_for
from tests.support.processes import write_config as write_host
from tests.support.rtsp import die_with_parent

SECRET = "sekret4711"


def absent(tmp_path: Path, prefix: str, *cameras: str) -> Path:
    """The configuration of cameras that are not there."""
    store = {"kind": "dir", "path": str(tmp_path / "store")}
    source = f"rtsp://user:{SECRET}@127.0.0.1:{free_port()}/cam"
    return write_host(
        tmp_path / "framesrv.toml",
        {
            "shm": {"prefix": prefix},
            "http": {"listen": ""},
            "store": store,
            "redis": {"url": "redis://127.0.0.1:1/0"},
        },
        [{"code": code, "source": source} for code in cameras or ("cam",)],
    )


def journal(file: Path) -> dict[str, str]:
    """The environment of a program whose standard error is `file`, as the journal gives it."""
    file.touch()
    status = file.stat()
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


def objects(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def decoder_output(tmp_path: Path, prefix: str, *options: str, environment: dict[str, str]) -> str:
    """What a decoder says whose camera is not there, until it is told to end."""
    file = tmp_path / "log"
    config = absent(tmp_path, prefix)
    with Program(
        "framesrv", "decode", "cam", "--config", config, *options, log=file, environment=environment
    ) as program:
        wait_for(lambda: "no stream" in program.output, "an attempt")
        assert program.stop() == 0
    assert SECRET not in program.output
    return program.output


def test_journal_is_told_priorities_and_no_times(tmp_path: Path, prefix: str) -> None:
    lines = decoder_output(tmp_path, prefix, environment=journal(tmp_path / "log")).splitlines()
    assert all(line.startswith("<4>camera=cam no stream source=rtsp://user:***@127.0.0.1") for line in lines[:-1])
    assert lines[-1] == "<6>camera=cam decoder ended frames=0"


def test_stream_that_is_not_the_journals_gets_whole_lines(tmp_path: Path, prefix: str) -> None:
    lines = decoder_output(tmp_path, prefix, environment={"JOURNAL_STREAM": "1:2"}).splitlines()
    start = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} (WARNING|INFO   ) camera=cam "
    assert [line for line in lines if not re.match(start, line)] == []


@pytest.mark.parametrize("to_journal", [False, True])
def test_json_has_a_field_for_everything(to_journal: bool, tmp_path: Path, prefix: str) -> None:
    environment = journal(tmp_path / "log") if to_journal else {}
    output = decoder_output(tmp_path, prefix, "--log-format", "json", environment=environment)
    if to_journal:
        assert all(re.match(r"<[46]>\{", line) for line in output.splitlines())
        output = re.sub(r"(?m)^<\d>", "", output)
    lines = objects(output)
    assert {tuple(line) for line in lines} == {("time", "level", "camera", "message")}
    assert {(line["level"], line["camera"]) for line in lines} == {("warning", "cam"), ("info", "cam")}
    written = datetime.fromisoformat(lines[0]["time"])
    assert written.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - written) < timedelta(minutes=5)


def test_format_comes_from_the_environment_too(tmp_path: Path, prefix: str) -> None:
    assert objects(decoder_output(tmp_path, prefix, environment={"FRAMESRV_LOG_FORMAT": "json"}))


def on_terminal(command: list[str], environment: dict[str, str]) -> str:
    """What a program says on a terminal of its own, until it has said that there is no stream."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **environment},
        preexec_fn=die_with_parent,  # noqa: PLW1509
    )
    os.close(theirs)
    output = b""
    try:
        while b"no stream" not in output or not output.endswith(b"\n"):
            output += os.read(ours, 4096)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        os.close(ours)
    return output.decode()


@pytest.mark.parametrize(("variable", "coloured"), [("", True), ("1", False)])
def test_terminal_gets_short_lines_in_colours_unless_they_are_not_wanted(
    variable: str, coloured: bool, tmp_path: Path, prefix: str
) -> None:
    command = ["framesrv", "decode", "cam", "--config", str(absent(tmp_path, prefix))]
    output = on_terminal(command, {"NO_COLOR": variable})
    line = re.match(r"(\x1b\[33m)?\d\d:\d\d:\d\d WARNING camera=cam no stream ", output)
    assert line is not None
    assert bool(line[1]) is coloured
    assert ("\x1b" in output) is coloured


def test_children_of_up_write_as_it_does(tmp_path: Path, prefix: str) -> None:
    config = absent(tmp_path, prefix, "one", "two")
    with Program("framesrv", "up", "--config", config, "--log-format", "json", log=tmp_path / "log") as program:
        for words in ('"camera": "one"', '"camera": "two"', "Redis cannot be read", "started cameras=2"):
            wait_for(lambda words=words: words in program.output, words)  # type: ignore[misc]
        assert program.stop() == 0
        assert len(objects(program.output)) > 4


@pytest.mark.parametrize(("options", "start"), [((), "<3>"), (("--log-format", "json"), '<3>{"time"')])
def test_journal_is_told_of_a_wrong_configuration_as_of_an_error(
    options: tuple[str, ...], start: str, tmp_path: Path
) -> None:
    config = write_host(tmp_path / "wrong.toml", {"shm": {"mode": "rw", "prefix": "/"}}, [])
    file = tmp_path / "log"
    with Program("snapd", "run", "--config", config, *options, log=file, environment=journal(file)) as program:
        assert program.process.wait(20) == 2
    lines = program.output.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(start) for line in lines)


def test_wrong_configuration_is_one_plain_line_a_problem_elsewhere(tmp_path: Path) -> None:
    config = write_host(tmp_path / "wrong.toml", {"shm": {"mode": "rw"}}, [])
    done = run("snapd", "run", "--config", config)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"snapd: {config}: shm.mode: expected ")


def test_request_id_is_on_every_line_about_a_request(edge: Edge, tmp_path: Path) -> None:
    edge.camera("cam01")
    config = write_config(edge, tmp_path / "framesrv.toml", snapshot={"max_age": 3600.0, "wait": 0.1})
    command = ("snapd", "run", "-v", "--config", config, "--log-format", "json")
    with Program(*command, log=tmp_path / "log") as program:
        unheard, refused = edge.fields(callback_url="http://127.0.0.1:1"), edge.fields()
        edge.send(unheard)
        edge.result_by_key(unheard)
        edge.cos.fault = Fault(403)
        edge.send(refused)
        edge.wvp.wait(1, 30)
        dark = edge.fields("down")
        edge.send(dark)
        edge.wvp.wait(2, 30)
        wait_until(lambda: edge.pending == 0)
        assert program.stop() == 0
    lines = [line for line in objects(program.output) if "request_id" in line]
    said = {(line["request_id"], line["message"].partition(" ")[0], line["camera"]) for line in lines}
    assert said == {
        (unheard["request_id"], "Callback", "cam01"),
        (unheard["request_id"], "Answered", "cam01"),
        (refused["request_id"], "COS", "cam01"),
        (refused["request_id"], "Upload", "cam01"),
        (refused["request_id"], "Answered", "cam01"),
        (dark["request_id"], "No", "down"),
        (dark["request_id"], "Answered", "down"),
    }
    others = {line["message"].partition(" ")[0] for line in objects(program.output) if "request_id" not in line}
    assert others <= {"Started", "Stopping", "Stopped", "Made"}


FAILING = f"""
import logging, threading
from framesrv import log
log.setup("FORMAT", camera="cam")
threading.Thread(target=lambda: 1 / 0, name="side").start()
raise RuntimeError("rtsp://user:{SECRET}@host and\\nanother line")
"""


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_unforeseen_errors_are_lines_like_any_other(log_format: str) -> None:
    program = FAILING.replace("FORMAT", log_format)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 1
    assert SECRET not in done.stderr
    if log_format == "json":
        lines = sorted(objects(done.stderr), key=lambda line: str(line["message"]))
        assert [line["message"] for line in lines] == [
            "Unforeseen error in thread=MainThread",
            "Unforeseen error in thread=side",
        ]
        assert "ZeroDivisionError" in lines[1]["exception"]
        assert {(line["level"], line["camera"]) for line in lines} == {("critical", "cam")}
    else:
        assert all("camera=cam " in line for line in done.stderr.splitlines())
        assert "camera=cam another line" in done.stderr


def test_what_a_line_is_about_ends_with_its_block() -> None:
    record = logging.LogRecord("name", logging.INFO, "path", 1, "said %s", ("so",), None)
    form = log.Line("journal", {"camera": "cam"})
    with log.about(request_id="a b", camera=""):
        assert form.format(record) == "<6>camera=cam request_id='a b' said so"
    assert form.format(record) == "<6>camera=cam said so"
