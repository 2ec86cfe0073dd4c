"""Cameras that are found in the local network, and what else may answer there."""

import fcntl
import json
import tempfile
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from framesrv.host.probe.discovery import Device, devices
from tests.support.onvif import Responder, answer
from tests.support.processes import run

SCOPES = (
    "onvif://www.onvif.org/type/video_encoder onvif://www.onvif.org/name/ACME%20Dome "
    "onvif://www.onvif.org/hardware/D-100 onvif://www.onvif.org/location/Gate_3"
)
BOMB = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa">
<!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]><x>&b;</x>"""
ASK = ("framesrv", "discover", "--interface", "lo", "--seconds", "1.5")


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """The group is the whole host's: a test of another run would hear, and be heard."""
    with (Path(tempfile.gettempdir()) / "framesrv-onvif.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_cameras_that_answer_are_printed_as_tables_to_fill_in() -> None:
    first = partial(answer, scopes=SCOPES)
    second = partial(answer, host="127.0.0.2", services="http://192.0.2.9/onvif http://127.0.0.2:8080/onvif")
    with Responder({"127.0.0.2": second, "127.0.0.1": first}) as responder:
        done = run(*ASK)
        assert done.returncode == 0, done.stderr
        assert json.loads(run(*ASK, "--json").stdout) == [
            {
                "host": "127.0.0.1",
                "name": "ACME Dome",
                "hardware": "D-100",
                "location": "Gate 3",
                "service": "http://127.0.0.1/onvif/device_service",
            },
            {
                "host": "127.0.0.2",
                "name": "",
                "hardware": "",
                "location": "",
                "service": "http://127.0.0.2:8080/onvif",
            },
        ]
    assert len(responder.asked) > 2  # UDP may lose any
    assert [(one["source"], one["code"]) for one in tomllib.loads(done.stdout)["camera"]] == [
        ("rtsp://127.0.0.1/", ""),
        ("rtsp://127.0.0.2/", ""),
    ]
    assert "# ACME Dome D-100, Gate 3, http://127.0.0.1/onvif/device_service" in done.stdout


def test_device_that_answers_to_the_other_kind_alone_is_found() -> None:
    with Responder({"127.0.0.1": answer}, kind="tds:Device"):
        assert run(*ASK).returncode == 0


def test_no_answer_is_said_with_what_may_be_the_reason() -> None:
    done = run(*ASK)
    assert done.returncode == 1
    assert "no ONVIF camera has answered within 1.5 s" in done.stderr


def test_interface_that_is_not_there_is_said() -> None:
    done = run("framesrv", "discover", "--interface", "eth77")
    assert done.returncode == 1
    assert "there is no network interface eth77: expected one of lo" in done.stderr


@pytest.mark.parametrize(
    "said",
    [b"", b"\xff\xfe\x00", b"<a>", b"<a/>", b"x" * 60_000, BOMB, b"<a>" * 10_000],
    ids=["nothing", "bytes", "half", "other", "long", "entities", "deep"],
)
def test_what_is_no_answer_hides_none(said: bytes) -> None:
    with Responder({"127.0.0.2": lambda _: said, "127.0.0.1": answer}):
        done = run(*ASK, "--json")
    assert [one["host"] for one in json.loads(done.stdout)] == ["127.0.0.1"]


def test_text_without_end_and_names_that_steer_a_terminal_are_cut_and_escaped() -> None:
    assert devices(answer("1", scopes="x" * 5000), "192.0.2.1") == []
    wide = answer("1", scopes="onvif://www.onvif.org/name/%1b%5b2J%0a[[camera]]" + "x" * 200)
    assert len(devices(wide, "192.0.2.1")[0].name) == 80
    with Responder({"127.0.0.1": lambda _: wide}):
        done = run(*ASK)
    assert "\x1b" not in done.stdout
    assert len(tomllib.loads(done.stdout)["camera"]) == 1


def test_answer_with_entities_is_none() -> None:
    plain = answer("1")
    assert devices(plain, "127.0.0.1") == [Device("127.0.0.1", service="http://127.0.0.1/onvif/device_service")]
    declared = plain.replace(b"?>", b'?><!DOCTYPE x [<!ENTITY a "b">]>', 1)
    assert devices(declared, "127.0.0.1") == []
