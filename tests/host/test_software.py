"""What `framesrv units` knows of the installed software: real metadata, real files, real processes."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from framesrv.host.units import software
from framesrv.host.units.software import Software, installed
from framesrv.host.units.systemd import Unit
from tests.support.processes import ROOT


def put(site: Path, name: str, version: str, requires: tuple[str, ...] = (), editable: Path | None = None) -> None:
    """A distribution as pip puts it in place; another version of it goes."""
    for old in site.glob(f"{name.replace('-', '_')}-*.dist-info"):
        shutil.rmtree(old)
    package, place = site / name.replace("-", "_"), site / f"{name.replace('-', '_')}-{version}.dist-info"
    place.mkdir()
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    (place / "METADATA").write_text("\n".join([*lines, *(f"Requires-Dist: {one}" for one in requires), ""]))
    record = [f"{place.name}/METADATA,,", f"{place.name}/RECORD,,"]
    if editable:
        (place / "direct_url.json").write_text(json.dumps({"url": editable.as_uri(), "dir_info": {"editable": True}}))
    else:
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text(f"version = '{version}'\n")
        record.append(f"{package.name}/__init__.py,,")
    (place / "RECORD").write_text("\n".join([*record, ""]))
    importlib.invalidate_caches()


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of packages that comes before all others, with a framesrv that needs three, one for tests."""
    site = tmp_path / "site-packages"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    put(site, "framesrv", "9.0", ("lens-grinder>=1", 'shutter; extra == "snapd"', 'tripod; extra == "test"'))
    put(site, "lens-grinder", "1.0", ("Glass.Blower (>=2)", 'sand; extra == "more"'))
    for name in ("glass-blower", "shutter", "tripod", "sand"):
        put(site, name, "2.0")
    return site


@pytest.fixture
def unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unit]:
    """A unit whose process has just been started, and what `sync` keeps of it in a place of its own."""
    monkeypatch.setattr(software, "STATE", tmp_path / "state")
    with subprocess.Popen(["sleep", "100"]) as process:
        yield running(process.pid)
        process.kill()


def running(pid: int, started_at: float | None = None) -> Unit:
    return Unit("framesrv@cam.service", "active", "running", 0, "", pid, started_at or time.time() + 1, ())


def changed(before: Software) -> set[str]:
    after = installed()
    names = {*before.parts, *after.parts}
    none = software.Part("", 0.0)
    return {name for name in names if before.parts.get(name, none).mark != after.parts.get(name, none).mark}


def test_what_framesrv_needs_counts_and_what_only_its_tests_need_does_not(packages: Path) -> None:
    assert set(installed().parts) == {"Python", "framesrv", "lens-grinder", "glass-blower", "shutter"}


def test_nothing_changes_by_itself(packages: Path) -> None:
    before = installed()
    (packages / "lens_grinder" / "__pycache__").mkdir()
    (packages / "lens_grinder" / "__pycache__" / "x.pyc").write_bytes(b"compiled")
    assert changed(before) == set()


def test_upgrade_of_a_dependency_of_a_dependency_is_seen(packages: Path) -> None:
    before = installed()
    put(packages, "glass-blower", "3.0")
    assert changed(before) == {"glass-blower"}


def test_file_that_was_mended_by_hand_is_seen(packages: Path) -> None:
    before = installed()
    (packages / "shutter" / "__init__.py").write_text("version = 'mended'\n")
    assert changed(before) == {"shutter"}


def test_file_that_is_gone_is_seen(packages: Path) -> None:
    before = installed()
    (packages / "shutter" / "__init__.py").unlink()
    assert changed(before) == {"shutter"}


def test_package_that_comes_or_goes_is_seen(packages: Path) -> None:
    before = installed()
    shutil.rmtree(packages / "shutter-2.0.dist-info")
    importlib.invalidate_caches()
    assert changed(before) == {"shutter"}


def test_clone_of_an_editable_dependency_is_seen_without_what_is_hidden_or_an_environment(
    packages: Path, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    for directory in ("deep/er", ".git", "env/lib", "deep/__pycache__"):
        (clone / directory).mkdir(parents=True)
    (clone / "env" / "pyvenv.cfg").write_text("")
    (clone / "deep" / "er" / "module.py").write_text("a = 1\n")
    put(packages, "shutter", "2.0", editable=clone)
    before = installed()
    for aside in (".git/index", "env/lib/module.py", "deep/__pycache__/module.pyc", ".draft"):
        (clone / aside).write_text("changed")
    assert changed(before) == set()
    (clone / "deep" / "er" / "module.py").write_text("a = 12\n")
    assert changed(before) == {"shutter"}
    before = installed()
    (clone / "deep" / "er" / "module.py").unlink()
    assert changed(before) == {"shutter"}


def test_every_file_of_an_editable_framesrv_counts(tmp_path: Path) -> None:
    """The time of one file told of a change in another only if that was put in place anew as well."""
    for name in ("framesrv", "snapd"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))

    def mark() -> str:
        code = "from framesrv.host.units.software import installed; print(installed().parts['framesrv'].mark)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout

    marks = [mark(), mark()]
    assert marks[0] == marks[1]
    for file in ("framesrv/segment/futex.py", "snapd/pages/files/page.js"):
        with (tmp_path / file).open("a") as opened:
            opened.write("\n")
        marks.append(mark())
    (tmp_path / "snapd" / "pages" / "parameters.py").unlink()
    marks.append(mark())
    assert len(set(marks)) == 4


def test_process_is_compared_with_what_was_noted_for_it(packages: Path, unit: Unit) -> None:
    before = installed()
    before.note([unit])
    assert before.changed_since(unit) == ()
    put(packages, "glass-blower", "3.0")
    (packages / "shutter" / "__init__.py").unlink()
    assert installed().changed_since(unit) == ("glass-blower", "shutter")
    put(packages, "shutter", "2.0")
    os.utime(packages / "shutter" / "__init__.py", ns=(0, 0))  # as from an archive; still it is another
    assert installed().changed_since(unit) == ("glass-blower", "shutter")
    installed().note([unit])
    assert installed().changed_since(unit) == ()


def test_another_process_of_the_unit_is_compared_with_the_times_of_the_files(packages: Path, unit: Unit) -> None:
    installed().note([unit])
    put(packages, "glass-blower", "3.0")
    with subprocess.Popen(["sleep", "100"]) as process:
        assert installed().changed_since(running(process.pid)) == ()
        long_ago = running(process.pid, os.stat(packages / "lens_grinder" / "__init__.py").st_ctime - 1)
        assert {"framesrv", "glass-blower", "lens-grinder", "shutter"} <= set(installed().changed_since(long_ago))
        process.kill()


def test_note_that_cannot_be_read_is_none(packages: Path, unit: Unit, tmp_path: Path) -> None:
    installed().note([unit])
    note = tmp_path / "state" / unit.name / software.NOTE
    for content in (b"", b"[]", b"{}", b'{"process": "1 1"}', b"\xff"):
        note.write_bytes(content)
        assert installed().changed_since(unit) == ()  # it was started after all that


def test_unit_without_a_process_runs_with_nothing_old(packages: Path, unit: Unit, tmp_path: Path) -> None:
    assert installed().changed_since(running(0, 1.0)) == ()
    ended = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True, timeout=60)
    installed().note([running(int(ended.stdout))])
    assert not (tmp_path / "state" / unit.name).exists()
