"""The text of the configuration: its file, and the files of ``conf.d`` beside it, which stand for one.

Their `[[camera]]` tables follow one another in the order of the files' names. Any other key stands in one of them
alone. So none hides what another says, and their order matters to nobody.
"""

import os
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from framesrv.segment.layout import CODE

DIRECTORY = "conf.d"

_PLACE = re.compile(r"(?P<section>\w+)(\[(?P<index>\d+)\])?(\.(?P<key>[\w-]+))?: ")


@dataclass(frozen=True)
class Part:
    """One file: its text, and the tables in it; `is_copy` of what `writing.to_json` has made, which is whole."""

    path: Path
    text: str
    tables: dict[str, Any]
    is_copy: bool = False

    def line(self, section: str, index: int | None, key: str | None) -> int | None:
        """The line of a key, or of its table's heading; None where that is not written as usual.

        tomllib does not tell places. A table that is written in another way, as ``camera = [{...}]``, is not found.
        """
        heading = re.compile(rf"\s*\[\[?\s*{re.escape(section)}\s*\]")
        begins, at = -1 if index is None else index, None
        for number, line in enumerate(self.text.splitlines(), 1):
            if line.lstrip().startswith("["):
                if at is not None:
                    return at
                if heading.match(line):
                    begins -= 1
                    at = number if begins < 0 else None
            elif at is not None and key and re.match(rf"\s*{re.escape(key)}\s*=", line):
                return number
        return at


class Document:
    """All files as one.

    Attributes:
        tables: of all of them.
        parts: the files that could be read.
        problems: one line for each file that cannot be read, and for each key that two of them set.
    """

    def __init__(self, path: Path | None) -> None:
        self.tables: dict[str, Any] = {}
        self.problems: list[str] = []
        self._path = path
        self._keys: dict[tuple[str, str | None], Part] = {}  # where each table begins, and each key stands
        self._cameras: list[tuple[Part, int]] = []
        self.parts = list(self._read(path)) if path else []
        for part in self.parts:
            for name, table in part.tables.items():
                self._add(part, name, table)

    def located(self, problem: str) -> str:
        """What is wrong with a key of `tables`: with its file, and the line and the camera where they can be told."""
        match = _PLACE.match(problem)
        if self._path is None:
            return problem
        if match is None:
            return f"{self._path}: {problem}"
        section, key = match["section"], match["key"]
        if match["index"] is None:
            part, index = self._keys.get((section, key)) or self._keys.get((section, None)), None
            if part is None:
                return f"{self._path}: {problem}"
            code = ""
        else:
            part, index = self._cameras[int(match["index"])]
            problem = f"{section}[{index}]" + problem.removeprefix(f"{section}[{match['index']}]")
            code = _code(part, index)
        number = part.line(section, index, key)
        place = ", ".join(filter(None, (f"line {number}" if number else "", code)))
        return f"{part.path}: {problem}" + (f" ({place})" if place else "")

    def camera(self, index: int, beside: int) -> str:
        """How a problem with the camera `beside` names another one: by its place in the file, and by another file."""
        part, number = self._cameras[index]
        name = f"camera[{number}]"
        if part is self._cameras[beside][0]:
            return name
        line = part.line("camera", number, "code")
        return f"{name} in {part.path}" + (f" (line {line})" if line else "")

    def _read(self, path: Path) -> Iterator[Part]:
        if (own := self._part(path)) is not None:
            yield own
        if own is not None and own.is_copy:
            return
        try:
            others = beside(path)
        except OSError as error:
            self.problems.append(f"{error.filename}: cannot be read: {error.strerror}")
            return
        yield from filter(None, map(self._part, others))

    def _part(self, path: Path) -> Part | None:
        try:
            text = path.read_text("utf-8-sig")  # some editors put a byte order mark first, which TOML does not know
            if text.startswith("{"):  # as no TOML document does
                return Part(path, text, msgspec.json.decode(text, type=dict[str, Any]), is_copy=True)
            return Part(path, text, tomllib.loads(text))
        except OSError as error:
            self.problems.append(f"{path}: cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            self.problems.append(f"{path}: not UTF-8: {error.reason} at byte {error.start}")
        except tomllib.TOMLDecodeError as error:
            self.problems.append(f"{path}: not TOML: {error}")
        except msgspec.DecodeError as error:
            self.problems.append(f"{path}: not JSON: {error}")
        return None

    def _add(self, part: Part, name: str, table: Any) -> None:
        if name == "camera" and isinstance(table, list) and isinstance(self.tables.get(name, []), list):
            self._cameras += [(part, number) for number in range(len(table))]
            self.tables.setdefault(name, []).extend(table)
        elif name not in self.tables:
            self.tables[name] = dict(table) if isinstance(table, dict) else table
            self._keys[name, None] = part
            self._keys |= {(name, key): part for key in (table if isinstance(table, dict) else ())}
        elif isinstance(table, dict) and isinstance(self.tables[name], dict):
            for key, value in table.items():
                if (other := self._keys.get((name, key))) is not None:
                    line, own = other.line(name, None, key), part.line(name, None, key)
                    self.problems.append(
                        f"{part.path}: {name}.{key}: also set in {other.path} (line {line}); "
                        f"expected in one of them (line {own})"
                    )
                else:
                    self.tables[name][key] = value
                    self._keys[name, key] = part
        else:
            other = self._keys.get((name, None)) or self._cameras[0][0]
            self.problems.append(f"{part.path}: {name}: expected a table like that in {other.path}")


def beside(path: Path) -> list[Path]:
    """The files of ``conf.d`` beside the one at `path`, in their order. Raises OSError: it cannot be read."""
    directory = path.parent / DIRECTORY
    try:
        names = os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []
    # what begins with a dot is the draft of an editor or of a tool
    return [directory / name for name in sorted(names) if name.endswith(".toml") and not name.startswith(".")]


def _code(part: Part, index: int) -> str:
    """The camera that is meant; empty where it has no code."""
    camera = part.tables["camera"][index]
    code = camera.get("code") if isinstance(camera, dict) else None
    return f"camera {code}" if isinstance(code, str) and re.fullmatch(CODE, code) else ""
