"""The configuration and the environment, checked whole: every wrong key is reported at once."""

import errno
import logging
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, get_type_hints

import msgspec

from framesrv.errors import ConfigError
from framesrv.masking import protect
from framesrv.segment.owner import SUB, named_user
from framesrv.settings import exposure, ffmpeg_options, login, variables
from framesrv.settings.document import Document
from framesrv.settings.sections import HOST_RULE, NOBODY, SECTIONS, Camera, HttpOrigin, Section, Settings

PLACES = (Path("framesrv.toml"), Path("/etc/framesrv/framesrv.toml"))
READERS = Path("/etc/framesrv/applied/readers.json")  # what of it `framesrv units sync` tells everybody

LONGEST = 64 - len(SUB)  # characters of a code whose camera has a substream

DENIED = os.strerror(errno.EACCES)  # ends what is said of a file that this user may not read

logger = logging.getLogger(__name__)

Kind = TypeVar("Kind", bound=Section)


def load(file: Path | None = None, environment: Mapping[str, str] = os.environ) -> Settings:
    """The settings from `file`, or else from the first place that has one, and from the environment.

    The files of ``conf.d`` beside it count as parts of it, see `document`. Where ``framesrv.env`` lies beside it, its
    variables count as those of the environment, which win.

    Raises:
        ConfigError: with a line for every problem there is.
    """
    return _load(find(file, environment), environment)


def load_as_reader(file: Path | None = None, environment: Mapping[str, str] = os.environ) -> tuple[Settings, str]:
    """The same for those who only read frames, and may not read the configuration where it was found by itself.

    Returns:
        The settings; what everybody may know of them, if they may not be read. And a sentence about that, else empty.

    Raises:
        ConfigError: as `load`.
    """
    path = find(file, environment)
    try:
        return _load(path, environment), ""
    except ConfigError as error:
        hidden = [problem for problem in error.problems if DENIED in problem]
        if path not in PLACES or file or environment.get("FRAMESRV_CONFIG") or not hidden:
            raise
        return load_public(environment), hidden[0]


def load_public(environment: Mapping[str, str] = os.environ) -> Settings:
    """What everybody may know of the configuration of this host's services: how segments are named."""
    return _load(READERS if os.access(READERS, os.R_OK) else None, environment)


def _load(path: Path | None, environment: Mapping[str, str]) -> Settings:
    directory = path.parent if path else Path()
    own = variables.read(directory / variables.NAME) if path else {}
    own = {name: value for name, value in own.items() if variables.is_key(name)}
    problems: list[str] = []
    document = Document(path)
    problems.extend(
        f"{name}: no such section; expected one of {', '.join([*SECTIONS, '[[camera]]'])}"
        for name in document.tables
        if name not in SECTIONS and name != "camera"
    )
    overrides = _overrides(own | dict(environment), problems)
    sections = {
        name: _section(name, kind, document.tables.get(name, {}), overrides.get(name, {}), problems)
        for name, kind in SECTIONS.items()
    }
    defaults = sections.pop("camera_defaults")
    try:
        named_user(sections["shm"].get("owner", ""))
    except ValueError as error:
        problems.append(f"shm.owner: {error}")
    stream = sections["stream"]
    if stream.get("host") == NOBODY:
        problems.append(f"stream.host: expected {HOST_RULE}")
    if stream.get("routed") and stream.get("unknown_camera") == "ignore":
        problems.append('stream.unknown_camera: expected "error", as only what is for this host is routed to it')
    cameras = _cameras(document, defaults, directory, problems)
    if problems or document.problems:
        raise ConfigError(document.problems + [_located(problem, document) for problem in problems])
    made = {name: SECTIONS[name](**values) for name, values in sections.items()}
    settings = Settings(
        file=path,
        cameras=tuple(camera for camera in cameras if camera.enabled),
        disabled=tuple(camera.code for camera in cameras if not camera.enabled),
        exposed=tuple(_exposed(document, directory, own, defaults)),
        **cast("dict[str, Any]", made),
    )
    protect(settings.secrets)
    for file in settings.exposed:
        logger.warning("Everybody on this host can read the passwords in %s: chmod o-r %s", file, file)
    return settings


def _exposed(
    document: Document, directory: Path, own: Mapping[str, str], defaults: Mapping[str, Any]
) -> Iterator[Path]:
    """The files with passwords that everybody may read: of the configuration, and those that it names."""
    files = [part.path for part in document.parts if not part.is_copy and exposure.has_passwords(part.tables)]
    if exposure.has_passwords(_overrides(own, [])):
        files.append(directory / variables.NAME)
    tables = [defaults, *document.tables.get("camera", [])]
    files += [directory / table["password_file"] for table in tables if table.get("password_file")]
    yield from filter(exposure.is_open, dict.fromkeys(files))


def find(file: Path | None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The configuration file in force: `file`, ``$FRAMESRV_CONFIG``, or the first of `PLACES` that exists."""
    named = file or (Path(environment["FRAMESRV_CONFIG"]) if environment.get("FRAMESRV_CONFIG") else None)
    return named or next((place for place in PLACES if _exists(place)), None)


def outranked(file: Path | None, environment: Mapping[str, str] = os.environ) -> Path | None:
    """The file of `PLACES` that is there and is not read, because of the one in this directory; None without one."""
    here, host = PLACES
    by_itself = not file and not environment.get("FRAMESRV_CONFIG")
    return host if by_itself and _exists(here) and _exists(host) else None


def _exists(place: Path) -> bool:
    """Whether there is such a file. A directory of this process's own that it may not enter has none for it."""
    try:
        place.stat()
    except PermissionError:
        return place.is_absolute()
    except OSError:
        return False
    return True


def _located(problem: str, document: Document) -> str:
    return problem if problem.startswith(variables.PREFIX) else document.located(problem)


def _overrides(environment: Mapping[str, str], problems: list[str]) -> dict[str, dict[str, str]]:
    """``FRAMESRV_SECTION__KEY`` as {section: {key: text}}."""
    found: dict[str, dict[str, str]] = {}
    for variable, text in environment.items():
        if not variable.startswith(variables.PREFIX) or "__" not in variable:
            continue
        section, key = variable.removeprefix(variables.PREFIX).lower().split("__", 1)
        if section not in SECTIONS or key not in SECTIONS[section].__struct_fields__:
            problems.append(f"{variable}: no such key in the environment; expected FRAMESRV_SECTION__KEY")
        else:
            found.setdefault(section, {})[key] = text
    return found


def _section(
    name: str, kind: type[Section], table: object, overrides: dict[str, str], problems: list[str]
) -> dict[str, Any]:
    """The checked keys of one section; those of the environment win."""
    if not isinstance(table, dict):
        problems.append(f"{name}: expected a table")
        table = {}
    values = dict(_checked(name, kind, table, problems, strict=True))
    values.update(
        _checked(
            f"{variables.PREFIX}{name}__".upper(),
            kind,
            {key: _listed(kind, key, text) for key, text in overrides.items()},
            problems,
            strict=False,
        )
    )
    return values


def _listed(kind: type[Section], key: str, text: str) -> str | list[str]:
    """A list stands in a variable as its items, separated by commas."""
    is_list = isinstance(getattr(kind(), key), tuple)
    return [item.strip() for item in text.split(",") if item.strip()] if is_list else text


def _cameras(
    document: Document, defaults: dict[str, Any], directory: Path, problems: list[str]
) -> tuple[Camera, ...]:
    tables = document.tables.get("camera", [])
    if not isinstance(tables, list):
        problems.append("camera: expected [[camera]] tables")
        return ()
    cameras: list[Camera] = []
    first: dict[str, int] = {}
    for index, table in enumerate(tables):
        name = f"camera[{index}]"
        if not isinstance(table, dict):
            problems.append(f"{name}: expected a table")
            continue
        values = defaults | dict(_checked(name, Camera, table, problems, strict=True))
        missing = [key for key in ("code", "source") if key not in table]
        problems.extend(f"{name}.{key}: expected a value" for key in missing)
        if "code" in values:
            code = values["code"]
            if code in first:
                other = document.camera(first[code], index)
                problems.append(f"{name}.code: {code} is also that of {other}; expected another")
            first.setdefault(code, index)
            if code.endswith(SUB):
                problems.append(f"{name}.code: expected one that does not end in {SUB}, as those of substreams do")
            if values.get("substream") and len(code) > LONGEST:
                problems.append(
                    f"{name}.code: expected at most {LONGEST} characters, as its substream is {code}{SUB}"
                )
        if "code" in values and "source" in values:
            wrong = login.fill(values, table, directory) if values.get("enabled", True) else ""
            problems.extend([f"{name}.{wrong}"] if wrong else [])
            cameras.append(Camera(**values))
    return tuple(cameras)


def _checked(
    name: str, kind: type[Kind], table: Mapping[str, object], problems: list[str], *, strict: bool
) -> Iterator[tuple[str, Any]]:
    """Every key of `table` whose value is as `kind` says; a problem for every other."""
    types = get_type_hints(kind, include_extras=True)
    for key, value in table.items():
        full = f"{name}.{key}" if strict else f"{name}{key.upper()}"
        if key not in types:
            from difflib import get_close_matches  # which only a mistake needs

            near = get_close_matches(key, kind.__struct_fields__, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            problems.append(f"{full}: no such key; {hint}expected one of {', '.join(kind.__struct_fields__)}")
            continue
        try:
            converted = msgspec.convert(value, types[key], strict=strict)
        except msgspec.ValidationError:
            expected = _expected(types[key])
            quotes = _quotes(types[key], value) if strict and '"' not in expected else ""
            problems.append(f"{full}: expected {expected}{quotes}")
            continue
        if key == "ffmpeg_options" and (problem := ffmpeg_options.problem(converted)):
            problems.append(f"{full}: {problem}")
            continue
        yield key, converted


def _expected(kind: Any) -> str:
    """The type of a key in words. Values are not repeated: they may be secret."""
    info = msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.Metadata):
        described = (info.extra_json_schema or {}).get("description")
        if described:
            return str(described)
        info = info.type
    match info:
        case msgspec.inspect.LiteralType(values=values):
            return "one of " + ", ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values)
        case msgspec.inspect.IntType(ge=low, le=high):
            return f"a whole number from {low} to {high}"
        case msgspec.inspect.FloatType():
            return _number(info)
        case msgspec.inspect.StrType(min_length=1):
            return "a text that is not empty"
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.VarTupleType():
            return "a list, each " + _expected(HttpOrigin)
        case _:
            return "a text"


def _number(info: msgspec.inspect.FloatType) -> str:
    if info.gt is not None:
        return f"a number above {info.gt:g}, at most {info.le:g}"
    return f"a number from {info.ge:g}" + (f" to {info.le:g}" if info.lt is None else f", below {info.lt:g}")


def _quotes(kind: Any, value: object) -> str:
    """What quotation marks have to do with it: ``"10s"`` is no number, a code of 20 digits without them no text."""
    info = msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.Metadata):
        info = info.type
    match info:
        case msgspec.inspect.StrType() if not isinstance(value, str):
            return ", in quotes"
        case msgspec.inspect.IntType() | msgspec.inspect.FloatType() | msgspec.inspect.BoolType():
            return ", without quotes" if isinstance(value, str) else ""
        case _:
            return ""
