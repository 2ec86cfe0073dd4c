"""The software that services run: framesrv, what it needs, Python itself. What of it has changed since a unit began.

A process keeps the software that it was started with, so a unit has to be restarted when any of that is another:
after an upgrade of PyAV alone, or a change in the clone of an editable installation, as well as after one of
framesrv. `sync` notes what each process was started with. Where it could not, as after a boot, the files' times tell.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

from framesrv.host.units import versions
from framesrv.host.units.configuration import STATE
from framesrv.host.units.systemd import Unit
from framesrv.process.atomic import write_file

OURS = "framesrv"
PACKAGES = ("framesrv", "snapd")
NO_SERVICES = {"demo", "docs", "plot", "test"}  # extras of which no service loads anything
NOTE = "software.json"
UNIT_FILE = "its unit file"


@dataclass(frozen=True)
class Part:
    """One distribution, or Python.

    Attributes:
        mark: the same as long as nothing of it has changed.
        changed_at: Unix time at which the newest of its files was put in place.
    """

    mark: str
    changed_at: float


@dataclass(frozen=True)
class Software:
    """What is installed now; each part by its name."""

    parts: Mapping[str, Part]

    @property
    def mark(self) -> str:
        """The same as long as nothing of it has changed."""
        return hashlib.sha256(json.dumps(self._marks(), sort_keys=True).encode()).hexdigest()

    def changed_since(self, unit: Unit) -> tuple[str, ...]:
        """What is not as it was when the unit's process was started, by name; nothing if none runs.

        That is parts of the software, the unit's file and drop-ins, or all of framesrv, if another version of those
        that lie side by side runs.
        """
        if not unit.pid:
            return ()
        environment = versions.environment_of(unit)
        if environment is not None and environment != Path(sys.prefix).resolve():
            return (OURS,)
        noted = _noted(unit)
        if noted is None:
            # unlike st_mtime nobody can set the time of a change of a file's own data back
            old = [name for name, part in self.parts.items() if part.changed_at > unit.started_at]
            return (*old, *([UNIT_FILE] if _unit_file(unit).changed_at > unit.started_at else []))
        now = self._marks(unit)
        return tuple(name for name in sorted({*noted, *now}) if noted.get(name) != now.get(name))

    def note(self, units: Iterable[Unit]) -> None:
        """Notes that the processes of these units were started with this."""
        for unit in units:
            if process := _process(unit):
                directory = STATE / unit.name
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                content = json.dumps({"process": process, "marks": self._marks(unit)})
                write_file(directory / NOTE, content.encode(), mode=0o600)

    def _marks(self, unit: Unit | None = None) -> dict[str, str]:
        marks = {name: part.mark for name, part in self.parts.items()}
        return marks | {UNIT_FILE: _unit_file(unit).mark} if unit else marks


def _unit_file(unit: Unit) -> Part:
    """The unit's file and drop-ins: by what they say, for they may be put there anew and say the same."""
    there = [Path(file) for file in unit.files if os.path.exists(file)]
    mark = hashlib.sha256(b"\0".join(os.fsencode(file) + b"\0" + file.read_bytes() for file in sorted(there)))
    return Part(mark.hexdigest(), max((file.stat().st_ctime for file in there), default=0.0))


def installed() -> Software:
    """The software that a service would be started with now."""
    interpreter = Path(sys.executable).resolve()
    parts = {"Python": _part(sys.version, [interpreter])}
    for name, one in _distributions().items():
        own = [place for package in PACKAGES for place in _place(package)] if name == OURS else []
        files = {Path(str(one.locate_file(file))) for file in one.files or () if file.suffix != ".pyc"}
        files |= {file for root in [*own, *_clone(name, one)] for file in _below(root)}
        parts[name] = _part(one.version, files)
    return Software(parts)


def _distributions() -> dict[str, Distribution]:
    """framesrv, and what of its requirements, and of theirs, is installed."""
    found: dict[str, Distribution] = {}
    todo = [OURS]
    while todo:
        name = re.sub(r"[-_.]+", "-", todo.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # of an extra that is not wanted here, or for another system
            continue
        for requirement in found[name].requires or ():
            extra = re.search(r"""extra\s*==\s*["']([^"']+)""", requirement)
            if extra is None or (name == OURS and extra[1] not in NO_SERVICES):
                todo += re.findall(r"^[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
    return found


def _place(package: str) -> list[Path]:
    """Where a package is imported from."""
    spec = find_spec(package)
    return [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []


def _clone(name: str, one: Distribution) -> list[Path]:
    """Where an editable installation has its source, see PEP 660; of our own only the packages count."""
    url = json.loads(one.read_text("direct_url.json") or "{}")
    if name == OURS or not url.get("dir_info", {}).get("editable"):
        return []
    return [Path(unquote(urlsplit(url["url"]).path))]


def _below(root: Path) -> Iterator[Path]:
    """The files of a source directory, without what is hidden, compiled or a virtual environment."""
    for directory, below, names in os.walk(root):
        below[:] = [
            name
            for name in below
            if name != "__pycache__"
            and not name.startswith(".")
            and not os.path.exists(os.path.join(directory, name, "pyvenv.cfg"))
        ]
        yield from (Path(directory, name) for name in names if not name.startswith("."))


def _part(version: str, files: Iterable[Path]) -> Part:
    mark, changed_at = hashlib.sha256(version.encode()), 0.0
    for file in sorted(files):
        try:
            status = file.stat()
        except (FileNotFoundError, NotADirectoryError):
            mark.update(f"\0{file} is missing".encode())
            continue
        mark.update(f"\0{file} {status.st_size} {status.st_mtime_ns}".encode())
        changed_at = max(changed_at, status.st_ctime)
    return Part(mark.hexdigest(), changed_at)


def _noted(unit: Unit) -> dict[str, str] | None:
    """The marks that were noted for the unit's process; None if none were."""
    try:
        note = json.loads((STATE / unit.name / NOTE).read_bytes())
        marks: dict[str, str] = note["marks"]
        return marks if note["process"] == _process(unit) else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def _process(unit: Unit) -> str:
    """The unit's process, so that no later one is taken for it; empty if there is none."""
    try:
        fields = Path(f"/proc/{unit.pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return f"{unit.pid} {fields[19]}"  # since the boot, in clock ticks; see stat in proc(5)
