"""The documents are true: what they name exists, and both languages say the same."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, get_args

import click
import pytest

import framesrv.cli
import snapd.cli
from framesrv import settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
PAIRS = [("README.md", "README.zh-CN.md"), ("docs/getting-started.md", "docs/getting-started.zh.md")]
PROGRAMS: dict[str, click.Command] = {"framesrv": framesrv.cli.main, "snapd": snapd.cli.main}

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_COMMAND = re.compile(r"(?:^|&& |\$ |sudo )(?:\S*/)?(framesrv|snapd) ([a-z][^`|&;#·…\n]*)", re.MULTILINE)


def text(page: str | Path) -> str:
    return (ROOT / page).read_text("utf-8")


def fences(page: str | Path, *languages: str) -> list[str]:
    """What stands between fences of these languages; of all, if none is named."""
    return [content for language, content in _FENCE.findall(text(page)) if not languages or language in languages]


def keys(document: Any, path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """The path of every key, and its value, of a TOML document."""
    if isinstance(document, dict):
        return {found for key, value in document.items() for found in keys(value, (*path, key))}
    if isinstance(document, list):
        return {found for value in document for found in keys(value, path)} or {path}
    return {(*path, repr(document))}


@pytest.mark.parametrize(("english", "chinese"), PAIRS)
def test_both_languages_have_the_same_commands_and_keys(english: str, chinese: str) -> None:
    for languages in (("sh",), ("python",), ("",)):
        ours, theirs = fences(english, *languages), fences(chinese, *languages)
        if languages == ("",):  # what is printed; a drawing has words in it
            ours, theirs = ([one for one in found if "──" not in one] for found in (ours, theirs))
        assert ours == theirs
    ours, theirs = fences(english, "toml"), fences(chinese, "toml")
    assert [keys(tomllib.loads(one)) for one in ours] == [keys(tomllib.loads(one)) for one in theirs]
    assert len(re.findall(r"^#+ ", text(english), re.MULTILINE)) == len(
        re.findall(r"^#+ ", text(chinese), re.MULTILINE)
    )
    own = {english, chinese, Path(english).name, Path(chinese).name}
    translated = {"docs/getting-started.md": "docs/getting-started.zh.md"}
    links = [translated.get(link, link) for link in _LINK.findall(text(english)) if link not in own]
    assert sorted(links) == sorted(link for link in _LINK.findall(text(chinese)) if link not in own)


def test_examples_of_configuration_are_right(tmp_path: Path) -> None:
    count = 0
    for page in PAGES:
        for example in fences(page, "toml"):
            if page.name == "configuration.md" and "[" not in example:
                continue  # of another file
            file = tmp_path / "framesrv.toml"
            file.write_text(example, "utf-8")
            settings.load(file, {})
            count += 1
    assert count > 4


def commands() -> list[tuple[str, str]]:
    found = set()
    for page in PAGES:
        inline = re.findall(r"`([^`\n]+)`", _FENCE.sub("", text(page)))
        inside = "\n".join([*fences(page, "sh", "console"), *inline])
        for program, words in _COMMAND.findall(inside):
            found.add((program, words.strip().rstrip("\\").strip()))
    return sorted(found)


@pytest.mark.parametrize(("program", "words"), commands())
def test_every_command_named_exists_with_its_options(program: str, words: str) -> None:
    command, context = PROGRAMS[program], click.Context(PROGRAMS[program])
    for word in shlex.split(words.replace("[", " ").replace("]", " ").replace("'", "")):
        if isinstance(command, click.Group) and not word.startswith("-"):
            found = command.get_command(context, word)
            assert found is not None, f"there is no {program} {word}"
            command = found
        elif re.match(r"--?[a-z]", word):
            options = [one for parameter in command.params for one in parameter.opts] + ["-h", "--help"]
            assert word.partition("=")[0] in options, f"{program} {words}: no {word}"


def test_commands_are_found() -> None:
    assert len(commands()) > 25


def test_every_command_is_told_of() -> None:
    told = {(program, words.split()[0]) for program, words in commands()}
    hidden = {("framesrv", "units")}  # its commands are
    for program, group in PROGRAMS.items():
        assert isinstance(group, click.Group)
        assert {(program, name) for name in group.commands} - hidden <= told


def test_table_of_commands_has_every_command() -> None:
    """It lacked four, `framesrv retry` among them."""
    table = re.findall(r"^\| (`.*?`) \|", text("docs/operating.md"), re.MULTILINE)
    listed = {
        tuple(words.split()[:2]) for cell in table for words in re.findall(r"`((?:framesrv|snapd) [^`]*)`", cell)
    }
    for program, group in PROGRAMS.items():
        assert isinstance(group, click.Group)
        assert {(program, name) for name in group.commands} - {("framesrv", "snapd")} <= listed


def test_readme_is_short() -> None:
    for readme in PAIRS[0]:
        assert len(text(readme).splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_to_files_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(text(page)):
        if "://" not in link:
            assert (page.parent / link).exists(), link


def test_wire_page_has_every_error_text() -> None:
    from framesrv.errors import Cause, Reason
    from snapd.errors import StoreTrouble
    from snapd.wire import messages

    texts = [messages.INCOMPLETE, messages.BAD_ENCODING, messages.BAD_PATH, messages.UPLOAD_FAILED, messages.EXPIRED]
    texts += [messages.CROP_OUTSIDE, messages.NO_OVERLAY]
    texts += [messages.BAD_FIELD.format(name=name) for name in messages.CHECKED]
    texts += [messages.INTERNAL, messages.NOT_CONNECTED.format(code="CODE")]
    words = {messages.word_of(one) for one in texts} - {"not_connected", "upload_failed"}  # these have closer ones
    words |= {*get_args(Cause), *get_args(Reason), *(f"store_{one}" for one in get_args(StoreTrouble))} - {""}
    assert [one for one in (*texts, *words) if f"`{one}`" not in text("docs/wire.md")] == []


def test_every_public_name_stands_in_the_api() -> None:
    shown = set(re.findall(r"^::: framesrv\.(\w+)$", text("docs/api.md"), re.MULTILINE))
    assert shown | {"SHM_DIRECTORY"} == set(framesrv.__all__)


def test_examples_in_python_run_as_they_stand() -> None:
    for page in PAGES:
        for example in fences(page, "python"):
            compile(example, page.name, "exec")
