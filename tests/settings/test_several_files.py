"""conf.d: the configuration in several files, as configuration management writes it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from framesrv import ConfigError, settings
from framesrv.settings import Settings
from tests.settings.conftest import CAMERA, enterable
from tests.support.users import ALICE, as_user, needs_root


@pytest.fixture
def beside(tmp_path: Path) -> Callable[..., None]:
    """Writes files of conf.d."""
    directory = tmp_path / "conf.d"
    directory.mkdir()

    def write(**texts: str) -> None:
        for name, text in texts.items():
            (directory / f"{name}.toml").write_text(text, "utf-8")

    return write


def camera(code: str, **keys: str) -> str:
    return f'[[camera]]\ncode = "{code}"\nsource = "test:64x48@1"\n' + "".join(
        f"{key} = {value}\n" for key, value in keys.items()
    )


def test_files_are_parts_of_one_configuration_in_the_order_of_their_names(
    load: Callable[..., Settings], beside: Callable[..., None]
) -> None:
    beside(
        b_cameras=camera("b") + camera("c") + "[camera_defaults]\nslots = 4\n",
        a_store='[store]\nkind = "dir"\n[snapshot]\nquality = 70\n' + camera("a"),
    )
    loaded = load('[store]\npath = "/p"\n' + camera("main"), FRAMESRV_SNAPSHOT__WORKERS="3")
    assert [one.code for one in loaded.cameras] == ["main", "a", "b", "c"]
    assert {one.slots for one in loaded.cameras} == {4}
    assert (loaded.store.kind, loaded.store.path) == ("dir", "/p")
    assert (loaded.snapshot.quality, loaded.snapshot.workers) == (70, 3)


def test_other_files_and_drafts_are_passed_over(load: Callable[..., Settings], tmp_path: Path) -> None:
    directory = tmp_path / "conf.d"
    directory.mkdir()
    for name in ("cameras.toml.bak", ".ansible_tmpcameras.toml", "README"):
        (directory / name).write_text("[[[")
    assert load(CAMERA).camera("cam") is not None


def test_key_of_two_files_is_an_error_that_names_both_and_their_lines(
    problems: Callable[..., list[str]], beside: Callable[..., None], tmp_path: Path
) -> None:
    beside(a="[redis]\n\n\nurl = 'redis://:letmein@b'\n[http]\nlisten = ''\n", b="[http]\n#\nlisten = ''\n")
    assert problems("[redis]\nurl = 'redis://:hunter2@a'\n") == [
        f"{tmp_path}/conf.d/a.toml: redis.url: also set in {tmp_path}/framesrv.toml (line 2); "
        "expected in one of them (line 4)",
        f"{tmp_path}/conf.d/b.toml: http.listen: also set in {tmp_path}/conf.d/a.toml (line 6); "
        "expected in one of them (line 3)",
    ]


def test_camera_of_two_files_is_an_error_that_names_both_and_their_lines(
    problems: Callable[..., list[str]], beside: Callable[..., None], tmp_path: Path
) -> None:
    beside(a=camera("a") + camera("cam"), b="\n" + camera("cam"), c=camera("c") + camera("c"))
    assert problems(CAMERA) == [
        f"{tmp_path}/conf.d/a.toml: camera[1].code: cam is also that of camera[0] in {tmp_path}/framesrv.toml "
        "(line 2); expected another (line 5, camera cam)",
        f"{tmp_path}/conf.d/b.toml: camera[0].code: cam is also that of camera[0] in {tmp_path}/framesrv.toml "
        "(line 2); expected another (line 3, camera cam)",
        f"{tmp_path}/conf.d/c.toml: camera[1].code: c is also that of camera[0]; expected another (line 5, camera c)",
    ]


def test_mistake_is_found_in_its_file_and_line(
    problems: Callable[..., list[str]], beside: Callable[..., None], tmp_path: Path
) -> None:
    beside(
        a=camera("a") + "[snapshot]\nwait = 1\n",
        b=camera("b") + camera("c", slots="99", sorce="1") + "[snapshot]\nqualty = 1\n[stores]\n",
        c="[redis",
        d="camera = 3\n",
    )
    found = [line.removeprefix(f"{tmp_path}/conf.d/") for line in problems(CAMERA + "[snapshot]\nquality = 0\n")]
    wanted = [
        r"c\.toml: not TOML: .*at end of document",
        r"d\.toml: camera: expected a table like that in .*framesrv\.toml",
        r"b\.toml: stores: no such section; .* \(line 11\)",
        r"snapshot\.quality: .* \(line 5\)",
        r"b\.toml: snapshot\.qualty: .* did you mean quality\?.* \(line 10\)",
        r"b\.toml: camera\[1\]\.slots: .* \(line 7, camera c\)",
        r"b\.toml: camera\[1\]\.sorce: .* did you mean source\?.* \(line 8, camera c\)",
    ]
    assert [bool(re.match(pattern, line)) for pattern, line in zip(wanted, found, strict=True)] == [True] * 7, found


@needs_root
def test_files_that_cannot_be_read_are_reported_and_never_passed_over(tmp_path: Path) -> None:
    directory = tmp_path / "conf.d"
    directory.mkdir()
    (directory / "a.toml").write_text(CAMERA)
    main = tmp_path / "framesrv.toml"
    main.write_text("")
    enterable(tmp_path)

    def problems() -> list[str]:
        try:
            settings.load(main, {})
        except ConfigError as error:
            return error.problems
        return []

    assert as_user(ALICE, problems) == []
    for path in (directory / "a.toml", directory):
        path.chmod(0)
        assert as_user(ALICE, problems) == [f"{path}: cannot be read: Permission denied"]
