"""What is shown of a text: no secret in whatever form, and nothing that steers a terminal."""

import io
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from framesrv import FrameWriter, log, masking, settings
from framesrv.masking import mask, password_of, printable, protect, shown


@pytest.fixture(autouse=True)
def own_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is protected here is not in other tests of this process, nor theirs here."""
    monkeypatch.setattr(masking, "_secrets", frozenset())
    monkeypatch.setattr(masking, "_pattern", None)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("rtsp://admin:p@ss@host/x", "p@ss"),
        ("rtsp://admin:a/b@host/x", "a/b"),
        ("rtsp://admin:p@s/s@host/x", "p@s/s"),
        ("rtsp://admin:p%40ss@host:554/x", "p%40ss"),
        ("rtsp://admin:p#ss@host/x", "p#ss"),
        ("rtsp://admin:p?s/s@host/x?channel=1", "p?s/s"),
        ("rtsp://admin:12#34@192.0.2.1/x", "12#34"),
        ("rtsp://admin:p@ss/w#rd@192.0.2.1/x", "w#rd"),
        ("rtsp://admin:p@ss?w/rd@camera.example:554/x", "w/rd"),
        ("rtsp://admin:12/34@camera.example/x", "12/34"),
        ("rtsp://admin:12?3@[2001:db8::1]/x", "12?3"),
        ("redis://:sesame@host:6379/0", "sesame"),
        ("source=rtsp://u:pw@h/1 attempt=3: refused", "pw@"),
        ("http://h/?pwd=opened", "opened"),
        ("http://h/?a=1&passwd=opened&b=2", "opened"),
        ("http://h/?key=opened", "opened"),
        ("http://h/?auth=opened", "opened"),
        ("http://h/?token=opened", "opened"),
        ("https://b.cos/x?q-sign-algorithm=sha1&q-ak=AKID&q-signature=f00", "f00"),
        ("secret_key=opened", "opened"),
        ("password=opened", "opened"),
    ],
)
def test_secret_of_anybody_is_masked(text: str, secret: str) -> None:
    assert secret in text
    assert secret not in mask(text)


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://host:554/cam@1",
        "rtsp://user@host/x",
        "rtsp://host:554/x?of=a@b",
        "rtsp://192.0.2.1:554/a@b/c?d#e",
        "http://127.0.0.1:8390/?filter=gate",
        "Changed keys that need a restart keys=redis.url,shm.prefix",
        "摄像头流未连接: 34020000001320000001",
    ],
)
def test_what_is_no_secret_is_shown(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize("secret", ["p@ss", "a/b c", "密码密码", "100%sure", "sekret+key"])
@pytest.mark.parametrize("form", [str, quote, lambda secret: quote(secret, "")])
def test_configured_secret_is_masked_however_it_stands(
    tmp_path: Path, secret: str, form: Callable[[str], str]
) -> None:
    file = tmp_path / "framesrv.toml"
    file.write_text(f'[[camera]]\ncode = "cam"\nsource = "rtsp://admin:{secret}@192.0.2.1/1"\n', "utf-8")
    loaded = settings.load(file, {})
    assert password_of(loaded.cameras[0].source) == secret
    assert form(secret) not in shown(f"cannot open {form(secret)}: {form(secret)!r}")


@pytest.mark.parametrize("variable", ["STORE__SECRET_KEY", "STORE__TOKEN", "RESULT__SIGNING_SECRET", "HTTP__TOKEN"])
def test_secret_of_the_environment_is_masked(variable: str) -> None:
    settings.load(Path("/dev/null"), {f"FRAMESRV_{variable}": f"whispered-{variable.lower()}"})
    assert mask(f"refused: whispered-{variable.lower()}") == "refused: ***"


@pytest.mark.parametrize("secret", ["pass", "password", "token"])
def test_secret_that_is_the_name_of_one_hides_no_other(secret: str) -> None:
    """A password "pass" was masked in "passwd=opened", and what followed was shown."""
    protect([secret])
    for text in ("http://h/?passwd=opened", "password=opened", "http://h/?token=opened&a=1", "rtsp://u:opened@h/"):
        assert "opened" not in mask(text)
    assert mask(f"it is {secret}, is it?") == "it is ***, is it?"
    assert mask("Passed over=3") == "Passed over=3"


def test_short_secret_does_not_spoil_every_text() -> None:
    protect(["ab"])
    assert mask("about the lab") == "about the lab"


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\r", "\x9b", "\u202e", "\u2066", "\u200f", "\u2028", "\x00"])
def test_character_that_steers_is_escaped(character: str) -> None:
    text = printable(f"a{character}像")
    assert text.isprintable()
    assert character not in text
    assert text.startswith("a\\")
    assert text.endswith("像")


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_log_lines_are_masked_and_printable(monkeypatch: pytest.MonkeyPatch, log_format: log.Format) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.setup(log_format, camera="ca\x1bm")
    protect(["open sesame"])
    try:
        raise ValueError("said open sesame\x1b[2J\u202e")
    except ValueError:
        logging.getLogger("test").exception("It said open sesame\x1b[31m")
    text = stream.getvalue()
    assert "sesame" not in text
    assert all(line.isprintable() for line in text.splitlines())
    assert "ValueError" in text


def test_ls_does_not_pass_on_what_a_header_or_a_file_name_says(tmp_path: Path, prefix: str) -> None:
    file = tmp_path / "framesrv.toml"
    file.write_text(f'[shm]\nprefix = "{prefix}"\n[[camera]]\ncode = "cam"\nsource = "test:64x48@5"\n')
    stranger = Path(f"/dev/shm/{prefix}.x\x1b[2J")
    with FrameWriter("cam", 64, 48, "yuv420p", prefix=prefix) as writer:
        writer.describe(error="\x1b]0;title\x07 rtsp://u:hidden@h/ \u202e")
        stranger.touch()
        try:
            done = subprocess.run(
                [sys.executable, "-m", "framesrv", "ls", "--config", str(file)],
                capture_output=True,
                text=True,
                timeout=30,
                check=True,
            )
        finally:
            stranger.unlink()
    assert all(line.isprintable() for line in done.stdout.splitlines())
    assert "hidden" not in done.stdout
    assert "\\x1b[2J" in done.stdout
