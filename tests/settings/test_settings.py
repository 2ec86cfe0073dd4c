"""The configuration: defaults, places, overrides, secrets, and how it is written."""

import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from framesrv import settings
from framesrv.host.units.files import TEMPLATE
from framesrv.settings import SECTIONS, Camera, Settings
from tests.settings.conftest import CAMERA

# The example of the documentation, to the letter
PAGE = (Path(__file__).parents[2] / "docs/configuration.md").read_text("utf-8")
EXAMPLE = PAGE.partition("```toml\n")[2].partition("```")[0]
DOCUMENT = tomllib.loads(EXAMPLE)


# Defaults


def test_defaults_are_those_of_the_example(load: Callable[..., Settings]) -> None:
    example, nothing = load(EXAMPLE), load("")
    for name in SECTIONS:
        if name == "camera_defaults":
            continue
        section = getattr(nothing, name)
        values = {key: getattr(section, key) for key in section.__struct_fields__}
        documented = {
            key: tuple(value) if isinstance(value, list) else value for key, value in DOCUMENT[name].items()
        }
        assert values == documented, name
        assert {key: type(value) for key, value in values.items()} == {
            key: type(value) for key, value in documented.items()
        }
        assert getattr(example, name) == section
    assert nothing.cameras == ()


def test_template_of_units_install_is_that_example_commented_out(load: Callable[..., Settings]) -> None:
    template = TEMPLATE.read_text("utf-8")
    assert load(template) == load("")
    lines = template.partition("\n\n")[2].splitlines()
    assert "".join(f"{line.removeprefix('#')}\n" for line in lines) == EXAMPLE


def test_cameras_defaults_are_those_of_the_example(load: Callable[..., Settings]) -> None:
    (table,) = DOCUMENT["camera"]
    (bare,) = load(f'[[camera]]\ncode = "{table["code"]}"\nsource = "{table["source"]}"\n').cameras
    assert {key: getattr(bare, key) for key in Camera.__struct_fields__} == table
    assert load(EXAMPLE).cameras == (bare,)
    assert load(EXAMPLE).camera(table["code"]) == bare
    assert load(EXAMPLE).camera("another") is None


def test_camera_takes_what_it_does_not_say_from_the_defaults(load: Callable[..., Settings]) -> None:
    text = '[camera_defaults]\nslots = 4\ntransport = "udp"\n' + CAMERA + "slots = 3\n"
    (camera,) = load(text).cameras
    assert (camera.slots, camera.transport, camera.decode) == (3, "udp", "all")


def test_camera_out_of_service_is_as_if_it_were_not_configured(load: Callable[..., Settings]) -> None:
    loaded = load(CAMERA + 'enabled = false\n[[camera]]\ncode = "other"\nsource = "test:64x48@1"\n')
    assert [camera.code for camera in loaded.cameras] == ["other"]
    assert loaded.disabled == ("cam",)
    assert loaded.camera("cam") is None


def test_whole_number_will_do_for_seconds(load: Callable[..., Settings]) -> None:
    assert load("[snapshot]\nwait = 3\n").snapshot.wait == 3.0


@pytest.mark.parametrize("decode", ["all", "keyframes", "demand", "fps:1", "fps:12.5", "fps:0.2"])
def test_decode_policies_that_exist_are_taken(load: Callable[..., Settings], decode: str) -> None:
    assert load(CAMERA + f'decode = "{decode}"\n').cameras[0].decode == decode


def test_owner_of_segments_must_be_a_user(load: Callable[..., Settings], problems: Callable[..., list[str]]) -> None:
    assert load('[shm]\nowner = "root"\n').shm.owner == "root"
    assert load('[shm]\nowner = "4711"\n').shm.owner == "4711"
    (problem,) = problems('[shm]\nowner = "no-such-user"\n')
    assert problem == "shm.owner: there is no user 'no-such-user' on this host (line 2)"


def test_mode_is_octal(load: Callable[..., Settings]) -> None:
    assert load("").shm.permissions == 0o640
    assert load('[shm]\nmode = "0666"\n').shm.permissions == 0o666


# Places


def test_file_is_found_by_option_then_variable_then_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, quality in (("option", 1), ("variable", 2), ("framesrv", 3)):
        (tmp_path / f"{name}.toml").write_text(f"[snapshot]\nquality = {quality}\n", "utf-8")
    environment = {"FRAMESRV_CONFIG": str(tmp_path / "variable.toml")}
    assert settings.load(tmp_path / "option.toml", environment).snapshot.quality == 1
    assert settings.load(None, environment).snapshot.quality == 2
    assert settings.load(None, {}).snapshot.quality == 3


def test_settings_know_their_file(load: Callable[..., Settings], tmp_path: Path) -> None:
    assert load("").file == tmp_path / "framesrv.toml"


# The environment


def test_environment_overrides_the_file(load: Callable[..., Settings]) -> None:
    loaded = load(
        '[snapshot]\nquality = 50\nworkers = 3\n[store]\nsecret_key = "from the file"\n' + CAMERA,
        FRAMESRV_SNAPSHOT__QUALITY="95",
        FRAMESRV_SNAPSHOT__WAIT="0.5",
        FRAMESRV_STORE__SECRET_KEY="12345",
        FRAMESRV_STORE__TOKEN="null",
        FRAMESRV_REDIS__URL="rediss://:hunter2@redis.example:6380/1",
        FRAMESRV_RESULT__ALLOWED_CALLBACKS="https://a.example:18080, http://b.example,",
        FRAMESRV_CAMERA_DEFAULTS__DECODE="keyframes",
        FRAMESRV_CAMERA_DEFAULTS__SLOTS="5",
        FRAMESRV_HTTP__LISTEN="",
        FRAMESRV_HTTP__INSECURE="true",
        FRAMESRV_CONFIG="elsewhere",
        PATH="/bin",
    )
    assert (loaded.snapshot.quality, loaded.snapshot.wait, loaded.snapshot.workers) == (95, 0.5, 3)
    assert (loaded.store.secret_key, loaded.store.token) == ("12345", "null")
    assert loaded.redis.url == "rediss://:hunter2@redis.example:6380/1"
    assert loaded.result.allowed_callbacks == ("https://a.example:18080", "http://b.example")
    assert (loaded.cameras[0].decode, loaded.cameras[0].slots) == ("keyframes", 5)
    assert (loaded.http.listen, loaded.http.insecure) == ("", True)


def test_file_of_variables_beside_the_configuration_counts_and_the_environment_wins(
    load: Callable[..., Settings], problems: Callable[..., list[str]], tmp_path: Path
) -> None:
    beside = tmp_path / "framesrv.env"
    beside.write_text(
        "FRAMESRV_STORE__SECRET_KEY='from the file'\nFRAMESRV_STORE__TOKEN=t\nOTHER=x\nFRAMESRV_CONFIG=/x\n"
    )
    loaded = load('[store]\nsecret_key = "below"\n', FRAMESRV_STORE__TOKEN="wins")
    assert (loaded.store.secret_key, loaded.store.token) == ("from the file", "wins")
    beside.write_text("export FRAMESRV_STORE__TOKEN=t\n")
    (problem,) = problems("")
    assert problem == f"{beside}: line 1: expected FRAMESRV_SECTION__KEY=value"
    beside.write_text("FRAMESRV_STORE__TOKN=t\n")
    (problem,) = problems("")
    assert "FRAMESRV_STORE__TOKN: no such key in the environment" in problem


def test_environment_can_empty_a_list(load: Callable[..., Settings]) -> None:
    text = '[result]\nallowed_callbacks = ["https://a.example"]\n'
    assert load(text, FRAMESRV_RESULT__ALLOWED_CALLBACKS="").result.allowed_callbacks == ()


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("FRAMESRV_SNAPSHOT__QUALTY", "85", "no such key in the environment; expected FRAMESRV_SECTION__KEY"),
        ("FRAMESRV_NOTHING__AT_ALL", "1", "no such key in the environment; expected FRAMESRV_SECTION__KEY"),
        ("FRAMESRV_SNAPSHOT__QUALITY", "high", "expected a whole number from 1 to 100"),
        ("FRAMESRV_SNAPSHOT__QUALITY", "", "expected a whole number from 1 to 100"),
        ("FRAMESRV_SNAPSHOT__WAIT", "nan", "expected a number above 0"),
        ("FRAMESRV_STORE__KIND", "s3", 'expected one of "cos", "dir"'),
        ("FRAMESRV_RESULT__ALLOWED_CALLBACKS", "https://a.example,b", "expected a list, each an origin"),
    ],
)
def test_wrong_variable_is_reported_by_its_name(
    problems: Callable[..., list[str]], variable: str, value: str, line: str
) -> None:
    (found,) = problems("", **{variable: value})
    assert found.startswith(f"{variable}: {line}")


# Secrets


def test_no_secret_is_shown_by_a_repr(load: Callable[..., Settings]) -> None:
    loaded = load(
        '[redis]\nurl = "redis://:hunter2@localhost"\n[store]\nsecret_id = "hunter2"\nsecret_key = "hunter2"\n'
        'token = "hunter2"\n[result]\nsigning_secret = "hunter2"\n'
        '[[camera]]\ncode = "cam"\nsource = "rtsp://user:hunter2@192.0.2.1/"\n'
    )
    shown = [repr(loaded), str(loaded), f"{loaded.store!r} {loaded.redis} {loaded.result}", repr(loaded.cameras)]
    assert "hunter2" not in "".join(shown)
    assert loaded.store.secret_key == "hunter2"


def test_no_secret_is_shown_by_an_error(problems: Callable[..., list[str]]) -> None:
    lines = problems(
        '[redis]\nurl = "http://:hunter2@localhost"\n[store]\nsecret_key = ["hunter2"]\ntoken = {a = "hunter2"}\n'
        'scheme = "hunter2"\n[result]\nsigning_secret = ["hunter2"]\nallowed_callbacks = ["hunter2"]\n'
        '[[camera]]\ncode = "cam"\nsource = ["rtsp://user:hunter2@192.0.2.1/"]\n',
        FRAMESRV_REDIS__URL="hunter2",
        FRAMESRV_STORE__SECRET="hunter2",
    )
    assert len(lines) == 9
    assert "hunter2" not in "".join(lines)


def test_settings_cannot_be_changed(load: Callable[..., Settings]) -> None:
    for section in msgspec.structs.asdict(load("")).values():
        if isinstance(section, settings.Section):
            with pytest.raises(AttributeError):
                setattr(section, section.__struct_fields__[0], "changed")


# Written


def test_what_is_written_is_read_as_it_was(load: Callable[..., Settings]) -> None:
    """A TOML document, its environment and its defaults for cameras, in one file."""
    given = load(
        '[store]\nsecret_id = "x"\n[result]\nallowed_callbacks = ["https://wvp.example:1"]\n'
        "[camera_defaults]\nslots = 4\ntimeout = 3\n"
        '[[camera]]\ncode = "-a"\nsource = "rtsp://user:pass@192.0.2.1/摄"\n' + CAMERA,
        FRAMESRV_STORE__SECRET_KEY="s3cret",
        FRAMESRV_HTTP__INSECURE="true",
    )
    written = settings.to_json(given)
    assert msgspec.structs.replace(load(written.decode()), file=given.file) == given
    assert msgspec.structs.replace(load(settings.to_json(load("")).decode()), file=None) == Settings()
    assert b"quality" not in written, "what is as by default is not fixed for the versions to come"


def test_file_that_begins_as_json_does_and_is_none_is_refused(problems: Callable[..., list[str]]) -> None:
    assert problems('{"shm": {"mode": "0640"')[0].startswith("not JSON: ")
    assert problems('{"shm": {"mode": 7}}') == ['shm.mode: expected an octal mode such as "0640"']
