"""Every mistake in a configuration is reported at once, each in a line that leads to it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from framesrv import ConfigError, settings
from framesrv.settings import Settings
from tests.settings.conftest import CAMERA


def test_every_mistake_is_reported_at_once(problems: Callable[..., list[str]]) -> None:
    lines = problems(
        """
        camera = [ {code = "a/b", source = ""}, {code = "x"}, {code = "x", source = "y", slot = 3}, 5 ]
        [redis]
        url = "http://127.0.0.1"
        [stream]
        name = ""
        unknown_camera = "maybe"
        [snapshot]
        quality = 101
        workers = "8"
        wait = 0
        [result]
        allowed_callbacks = ["https://wvp.example:18080", "ftp://x"]
        key_ttl = 0.5
        [stores]
        kind = "cos"
        [shm]
        mode = "0777"
        prefix = "a.b"
        [http]
        listen = "8390"
        token = "too short"
        insecure = "no"
        [camera_defaults]
        decode = "fps:0"
        slots = 1
        code = "all"
        """
    )
    assert [line.split(":")[0] for line in lines] == [
        *("stores", "redis.url", "stream.name", "stream.unknown_camera", "snapshot.quality", "snapshot.workers"),
        *("snapshot.wait", "result.allowed_callbacks", "result.key_ttl", "shm.mode", "shm.prefix", "http.listen"),
        *("http.token", "http.insecure"),
        *("camera_defaults.decode", "camera_defaults.slots", "camera_defaults.code"),
        *("camera[0].code", "camera[0].source", "camera[1].source", "camera[2].slot", "camera[2].code", "camera[3]"),
    ]
    assert all("expected" in line for line in lines), [line for line in lines if "expected" not in line]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[snapshot]\nquality = 0\n", "snapshot.quality: expected a whole number from 1 to 100"),
        ("[snapshot]\nprocesses = 0\n", "snapshot.processes: expected a whole number from 1 to 64"),
        ('[snapshot]\nprocesses = "2"\n', "snapshot.processes: expected a whole number from 1 to 64, without quotes"),
        ('[snapshot]\nwait = "2s"\n', "snapshot.wait: expected a number above 0, at most 86400, without quotes"),
        ("[store]\nkeep = -1\n", "store.keep: expected a number from 0 to 36500"),
        ("[store]\nmin_free = 5\n", "store.min_free: expected a number from 0, below 1"),
        (CAMERA + "history = 301\n", "camera[0].history: expected a number from 0 to 300"),
        (
            "[[camera]]\ncode = 34020000001320000001\nsource = 'x'\n",
            "camera[0].code: expected 1 to 64 of A-Z a-z 0-9 _ . -, in quotes",
        ),
        ("[snapshot]\nquality = true\n", "snapshot.quality: expected a whole number from 1 to 100"),
        ("[snapshot]\nencoder = 'pil'\n", 'snapshot.encoder: expected one of "simplejpeg", "turbojpeg"'),
        ("[snapshot]\ndeadline = -1.0\n", "snapshot.deadline: expected a number above 0"),
        ("[snapshot]\ndeadline = inf\n", "snapshot.deadline: expected a number above 0"),
        ("[snapshot]\ndeadline = nan\n", "snapshot.deadline: expected a number above 0"),
        ("[stream]\nname = ''\n", "stream.name: expected a text that is not empty"),
        ("[stream]\nname = 5\n", "stream.name: expected a text that is not empty"),
        ("[store]\nbucket = 5\n", "store.bucket: expected a text"),
        ("[result]\nallowed_callbacks = 'https://a'\n", "result.allowed_callbacks: expected a list, each an origin"),
        ("[result]\nallowed_callbacks = ['https://a/path']\n", "result.allowed_callbacks: expected a list"),
        ("[result]\ncallback_path = 'api'\n", 'result.callback_path: expected a path that begins with "/"'),
        ("[http]\nlisten = ':'\n", 'http.listen: expected "HOST:PORT", or "" to turn it off'),
        ("[http]\ntoken = 'hunter2'\n", "http.token: expected 16 to 200 characters of ASCII without spaces"),
        ("[http]\ninsecure = 1\n", "http.insecure: expected true or false"),
        ("[shm]\nmode = 416\n", 'shm.mode: expected an octal mode such as "0640"'),
        ("[shm]\nprefix = 'a/b'\n", "shm.prefix: expected 1 to 64 of A-Z a-z 0-9 _ -"),
        ("redis = 'redis://'\n", "redis: expected a table"),
        ("camera = 5\n", "camera: expected [[camera]] tables"),
        ("[camera]\ncode = 'cam'\n", "camera: expected [[camera]] tables"),
        ("nonsense = 1\n", "nonsense: no such section; expected one of redis, stream,"),
        (
            "[snapshot]\nqualty = 85\n",
            "snapshot.qualty: no such key; did you mean quality? expected one of quality, encoder,",
        ),
        (CAMERA + "pixel_format = 'nv12'\n", 'camera[0].pixel_format: expected one of "bgr24", "yuv420p"'),
        (
            CAMERA + "decode = 'fps:'\n",
            'camera[0].decode: expected "all", "keyframes", "demand" or "fps:N" with N above 0',
        ),
        (CAMERA + "decode = 'fps:0.0'\n", "camera[0].decode: expected"),
        (CAMERA + "slots = 17\n", "camera[0].slots: expected a whole number from 2 to 16"),
        (CAMERA + "rotate = 45\n", 'camera[0].rotate: expected one of 0, 90, 180, 270, "auto"'),
        (CAMERA + 'aspect = "16/9"\n', 'camera[0].aspect: expected "auto" or a ratio such as "16:9"'),
        ("[[camera]]\nsource = 'x'\n", "camera[0].code: expected a value"),
        ("[[camera]]\ncode = 'x'\n", "camera[0].source: expected a value"),
        (CAMERA + CAMERA, "camera[1].code: cam is also that of camera[0]; expected another"),
    ],
)
def test_mistake_is_one_line_that_names_the_key_and_what_was_expected(
    problems: Callable[..., list[str]], text: str, line: str
) -> None:
    (found,) = problems(text)
    assert found.startswith(line)


def test_mistake_is_found_by_its_line_and_its_cameras_code(problems: Callable[..., list[str]]) -> None:
    text = """
        [ snapshot ]
        quality = 0

        # [[camera]]
        [[camera]]
        source = "test:64x48@1"
        code = "cam-1"
        [[camera]]
        code = "cam-2"
        sorce = "rtsp://admin:secret@192.0.2.1/x"
        slots = 99
        [[camera]]
        code = "no code at all/"
        source = "x"
        [stores]
    """
    found = problems(text)
    assert [line.rpartition(" (")[2] for line in found] == [
        *("line 16)", "line 3)", "line 11, camera cam-2)", "line 12, camera cam-2)", "line 9, camera cam-2)"),
        "line 14)",
    ]
    assert "did you mean source?" in found[2]
    assert "secret" not in "".join(found)


@pytest.mark.parametrize("code", ["", "a/b", "../cam", "a b", "x" * 65, "cam\\n", "摄像头", "a\\u0000"])
def test_ill_formed_code_is_reported(problems: Callable[..., list[str]], code: str) -> None:
    (line,) = problems(f'[[camera]]\ncode = "{code}"\nsource = "test:320x240@5"\n')
    assert line == "camera[0].code: expected 1 to 64 of A-Z a-z 0-9 _ . - (line 2)"


def test_what_is_no_toml_is_reported_with_its_place(problems: Callable[..., list[str]]) -> None:
    (line,) = problems("[redis]\nurl = redis\n")
    assert line.startswith("not TOML: ")
    assert "line 2" in line


def test_file_that_is_no_utf8_is_reported(tmp_path: Path) -> None:
    file = tmp_path / "framesrv.toml"
    file.write_bytes(b'[redis]\nurl = "\xff"\n')
    with pytest.raises(ConfigError, match=r"not UTF-8: .* at byte 15"):
        settings.load(file, {})


def test_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.toml: cannot be read: No such file or directory"):
        settings.load(tmp_path / "nothing.toml", {})
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        settings.load(tmp_path, {})
    with pytest.raises(ConfigError, match=r"nothing\.toml: cannot be read"):
        settings.load(None, {"FRAMESRV_CONFIG": str(tmp_path / "nothing.toml")})


def test_store_that_lacks_keys_names_them(load: Callable[..., Settings]) -> None:
    with pytest.raises(ConfigError) as caught:
        load("").store.check()
    assert [line.split(":")[0] for line in caught.value.problems] == [
        f"store.{key}" for key in ("bucket", "secret_id", "secret_key", "region")
    ]
    with pytest.raises(ConfigError, match=r"store\.path: expected a value"):
        load('[store]\nkind = "dir"\n').store.check()
    load('[store]\nkind = "dir"\npath = "/srv/pictures"\n').store.check()


@pytest.mark.parametrize("command", [["framesrv", "ls"], ["framesrv", "decode", "cam"]])
def test_command_ends_with_two_and_a_line_for_each_mistake(tmp_path: Path, command: list[str]) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(
        '[snapshot]\nquality = 0\nqualty = 85\n[[camera]]\ncode = "a/b"\nsource = ["rtsp://u:hunter2@x/"]\n', "utf-8"
    )
    run = subprocess.run(
        [sys.executable, "-m", *command, "--config", str(file)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 2
    assert run.stdout == ""
    lines = run.stderr.splitlines()
    keys = ("snapshot.quality", "snapshot.qualty", "camera[0].code", "camera[0].source")
    assert len(lines) == len(keys)
    for line, key in zip(lines, keys, strict=True):
        assert line.startswith(f"framesrv: {file}: {key}: ")
        assert "expected" in line
    assert "hunter2" not in run.stderr


def test_byte_order_mark_that_an_editor_puts_first_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "framesrv.toml").write_text(
        CAMERA.replace("test:", "rtsp://h/") + 'user = "u"\npassword_file = "p"\n', "utf-8-sig"
    )
    (tmp_path / "framesrv.env").write_text("FRAMESRV_STREAM__NAME=from_env\n", "utf-8-sig")
    (tmp_path / "p").write_text("s3cret\n", "utf-8-sig")
    loaded = settings.load(tmp_path / "framesrv.toml", {})
    assert (loaded.cameras[0].code, loaded.stream.name) == ("cam", "from_env")
    assert ":s3cret@" in loaded.cameras[0].source
