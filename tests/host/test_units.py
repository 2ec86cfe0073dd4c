"""What `framesrv units` knows without a systemd: names, the environment file, what is the same, where it refuses."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from framesrv.errors import ConfigError
from framesrv.host.units import applied, configuration, environment, files
from framesrv.host.units.known import known
from framesrv.host.units.systemd import RUNS, UnitsError, camera_code, unit_name
from framesrv.segment.owner import service_user
from framesrv.settings import Camera, RedisSettings, Settings, ShmSettings, SnapshotSettings, StoreSettings
from tests.support.processes import ROOT, run
from tests.support.systemd import build_wheel

CODES = ("34020000001320000001", "cam-1", ".hidden", "a.b_c", "-", "--help", "..", "A-.-_")


def camera(code: str = "cam01", **keys: Any) -> Camera:
    return Camera(code=code, source="test:320x240@5", **keys)


@pytest.mark.skipif(shutil.which("systemd-escape") is None, reason="there is no systemd-escape")
@pytest.mark.parametrize("code", CODES)
def test_codes_are_escaped_as_systemd_does(code: str) -> None:
    command = ["systemd-escape", "--template=framesrv@.service", "--", code]
    escaped = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    assert unit_name(code) == escaped


@pytest.mark.parametrize("code", CODES)
def test_a_units_name_tells_its_camera(code: str) -> None:
    assert camera_code(unit_name(code)) == code


def test_code_whose_unit_would_have_too_long_a_name_is_refused() -> None:
    assert len(unit_name("-" * 59)) <= 255
    with pytest.raises(ConfigError, match="expected fewer -"):
        unit_name("-" * 64)


@pytest.mark.parametrize("command", ["install", "sync", "remove"])
@pytest.mark.skipif(RUNS.exists(), reason="systemd runs on this host")
def test_host_without_systemd_is_told_so(command: str) -> None:
    done = run("framesrv", "units", command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "framesrv: systemd does not run on this host: use `framesrv up` instead of units\n"


@pytest.mark.parametrize("line", ["export FRAMESRV_REDIS__URL=x", "A B=c", "1A=b", "-=x"])
def test_environment_file_with_what_systemd_does_not_take_is_refused(tmp_path: Path, line: str) -> None:
    file = tmp_path / "framesrv.env"
    file.write_text(f"FRAMESRV_STORE__TOKEN=a\n{line}\n")
    with pytest.raises(ConfigError, match="line 2: expected FRAMESRV_SECTION__KEY=value"):
        environment.read(file)


def test_environment_file_without_a_pair_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "framesrv.env"
    file.write_text("FRAMESRV_STORE__TOKEN\n")
    with pytest.raises(ConfigError, match=r"framesrv\.env: line 1: expected FRAMESRV_SECTION__KEY=value"):
        environment.read(file)


def test_a_decoder_is_the_same_unless_its_camera_or_its_segments_differ() -> None:
    base = Settings(cameras=(camera("a"), camera("b")))
    assert configuration.same_for_decoder("a", base, Settings(cameras=(camera("b", slots=3), camera("a"))))
    assert not configuration.same_for_decoder("a", base, Settings(cameras=(camera("a", slots=3),)))
    assert not configuration.same_for_decoder("a", base, Settings(cameras=base.cameras, shm=ShmSettings(mode="0644")))


def test_snapd_tells_what_it_can_load_again_from_what_it_cannot() -> None:
    base = Settings(cameras=(camera("a"),))
    loadable = Settings(cameras=(camera("a"), camera("b")), snapshot=SnapshotSettings(quality=70))
    assert configuration.same_for_snapd(base, loadable, fixed=True)
    assert not configuration.same_for_snapd(base, loadable, fixed=False)
    assert not configuration.same_for_snapd(base, Settings(snapshot=SnapshotSettings(workers=3)), fixed=True)
    assert configuration.same_for_snapd(base, Settings(cameras=(camera("a", slots=3),)), fixed=False)


def test_each_service_is_given_what_is_its_own() -> None:
    other = Camera(code="b", source="rtsp://user:hunter2@192.0.2.2/")
    given = Settings(
        cameras=(camera("a", slots=3), other),
        redis=RedisSettings(url="redis://:letmein@127.0.0.1/0"),
        store=StoreSettings(secret_key="s3cret"),
        shm=ShmSettings(owner="framesrv"),
    )
    decoder = applied.of_camera(given, "a")
    assert decoder == Settings(cameras=(camera("a", slots=3),), shm=ShmSettings(group="framesrv"))
    snapd = applied.of_snapd(given)
    assert (snapd.redis, snapd.store, snapd.shm) == (given.redis, given.store, decoder.shm)
    assert [(one.code, one.source, one.slots) for one in snapd.cameras] == [("a", "-", 3), ("b", "-", 2)]
    assert applied.of_camera(Settings(shm=ShmSettings(group="video")), "a").shm.group == "video"


def test_lines_that_are_not_of_the_configuration_are_kept_as_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "framesrv.env"
    file.write_text("# one\nFRAMESRV_STORE__TOKEN=x\n OTEL_EXPORTER_OTLP_HEADERS='a=b'\nFRAMESRV_LOG_FORMAT=json\n")
    assert environment.others(file) == " OTEL_EXPORTER_OTLP_HEADERS='a=b'\nFRAMESRV_LOG_FORMAT=json\n"
    assert environment.others(tmp_path / "absent") == ""


def test_configuration_that_is_not_the_units_is_read_as_ever(tmp_path: Path) -> None:
    file = tmp_path / "framesrv.toml"
    file.write_text('[[camera]]\ncode = "a"\nsource = "test:320x240@5"\n')
    loaded, note = known(file)
    assert ([one.code for one in loaded.cameras], note) == (["a"], "")
    file.write_text("[redis")
    with pytest.raises(ConfigError, match="not TOML"):
        known(file)


def test_users_of_decoders_are_valid_for_systemd_whatever_the_code() -> None:
    for code in (*CODES, "x" * 64, "snapd"):
        assert re.fullmatch(r"framesrv-[A-Za-z0-9_-]{1,22}", service_user(code))


def test_wheel_carries_the_unit_files(tmp_path: Path) -> None:
    wheel = zipfile.ZipFile(build_wheel(tmp_path))
    ours = [file for file in (ROOT / "systemd").rglob("*") if file.is_file()]
    assert ours
    for file in ours:
        assert wheel.read(f"framesrv/systemd/{file.relative_to(ROOT / 'systemd')}") == file.read_bytes()


def test_installation_that_services_cannot_see_is_refused(tmp_path: Path) -> None:
    """Not with status 203 of a unit, at some later time."""
    home = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True, timeout=60)
    for name in ("framesrv", "snapd"):
        (home / "bin" / name).write_text("#!/bin/sh\n")
        (home / "bin" / name).chmod(0o755)
    code = "from framesrv.host.units import files; files.programs()"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    command = [str(home / "bin/python"), "-c", code]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{path}"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, env=environment)
    assert f"{home / 'bin'} cannot be seen by services" in done.stderr
    assert "install framesrv into /opt/framesrv" in done.stderr


def test_programs_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    with pytest.raises(UnitsError, match=f"{tmp_path}/framesrv does not exist: install framesrv with pip"):
        files.programs()
