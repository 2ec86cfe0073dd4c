"""Why a camera gives no picture, in words that lead to the remedy, and how often it is asked again."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from framesrv import FrameReader, FrameUnavailableError, FrameWriter, camera_status
from framesrv.camera.attempts import UNAUTHORIZED, UNFORESEEN, Attempts
from framesrv.camera.decoder import Decoder
from framesrv.camera.policy import Policy
from framesrv.camera.sources import Facts, Sink, SourceFrame, open_source
from framesrv.errors import Cause, SourceError, SourceLimitError
from framesrv.process.notify import Notifier
from framesrv.process.repeats import Repeats
from framesrv.process.retry import FREE, pause_after
from framesrv.process.signals import Signals
from framesrv.settings import Camera
from tests.support.processes import ROOT, Program, run, wait_for, write_config
from tests.support.rtsp_answers import Answer, Answering, in_plain_words, refusing, saying_nothing, sound_alone

CERTIFICATE = ROOT / "tests/support/certificate.pem"  # with its key; of nobody, for a hundred years


def ending(connection: socket.socket) -> None:
    connection.recv(4096)


@pytest.fixture(scope="module")
def over_tls() -> Answer:
    """A server that speaks TLS and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secret:
            secret.recv(4096)

    return answer


class Nobody:
    """Whom a source tells nothing that matters here."""

    demanded = False

    def count(self, counter: str, number: int = 1) -> None: ...
    def active(self) -> None: ...
    def via(self, transport: str) -> None: ...
    def clock(self, ahead: float | None) -> None: ...
    def idle(self, width: int, height: int, pixel_format: object) -> None: ...
    def describe(self, *, error: str, cause: str) -> None: ...


def failure(source: str, timeout: float = 5.0) -> SourceError:
    """What opening the source raises."""
    frames = open_source(Camera(code="cam", source=source, timeout=timeout), Policy("all")).frames(Nobody())
    with pytest.raises(SourceError) as caught:
        next(frames)
    return caught.value


ANSWERS: list[tuple[str, Answer, Cause, str]] = [
    ("rtsp", refusing("401 Unauthorized"), "unauthorized", "refuses the user or the password (401 Unauthorized)"),
    (
        "rtsp",
        refusing("403 Forbidden"),
        "unauthorized",
        "forbids it (403 Forbidden): see the user's rights",
    ),
    ("rtsp", refusing("404 Not Found"), "not_found", "no such stream (404 Not Found): see the path in its source"),
    ("rtsp", refusing("454 Session Not Found"), "refused", "the camera answers 454 Session Not Found to OPTIONS"),
    ("rtsp", refusing("503 Service Unavailable"), "refused", "the camera answers 503 Service Unavailable to OPTIONS"),
    ("rtsp", sound_alone, "no_video", "there is no video in it, only sound"),
    ("rtsp", ending, "protocol", "ends the connection without an answer: is it a camera's rtsp port?"),
    ("rtsps", in_plain_words, "protocol", "does not speak TLS: try rtsp:// in its place"),
    ("https", in_plain_words, "protocol", "does not speak TLS: try http:// in its place"),
]


def test_server_that_waits_for_the_end_of_a_request_may_speak_no_tls() -> None:
    with Answering(saying_nothing) as server:
        error = failure(f"rtsps://127.0.0.1:{server.port}/stream", timeout=0.5)
    assert "no answer for 0.5 s to TLS: if it speaks none, try rtsp:// in its place" in str(error)
    assert error.cause == "timeout"


@pytest.mark.parametrize(("scheme", "answer", "cause", "words"), ANSWERS, ids=[one[3][:30] for one in ANSWERS])
def test_what_a_camera_answers_is_said_in_words(scheme: str, answer: Answer, cause: Cause, words: str) -> None:
    with Answering(answer) as server:
        error = failure(f"{scheme}://user:pass@127.0.0.1:{server.port}/stream")
    assert words in str(error)
    assert error.cause == cause
    assert "pass" not in str(error).replace("password", "")


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_port_that_speaks_tls_is_recognised(scheme: str, over_tls: Answer) -> None:
    with Answering(over_tls) as server:
        error = failure(f"{scheme}://127.0.0.1:{server.port}/stream")
    assert f"127.0.0.1:{server.port} speaks TLS: try {scheme}s:// in its place" in str(error)
    assert error.cause == "protocol"


@pytest.mark.parametrize(
    ("source", "cause", "words"),
    [
        ("rtsp://u:p@no-such-host.invalid/x", "name_unknown", "the host name no-such-host.invalid is unknown"),
        ("http://no-such-host.invalid/x", "name_unknown", "the host name no-such-host.invalid is unknown"),
        ("rtsp://127.0.0.1:1/x", "refused", "nothing listens at 127.0.0.1:1: Connection refused"),
        ("rtsp://[ff00::1%lo]/x", "no_route", "there is no way to ff00::1"),
        ("foo://127.0.0.1/x", "protocol", "FFmpeg knows no protocol foo:"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(source: str, cause: Cause, words: str) -> None:
    error = failure(source)
    assert words in str(error)
    assert error.cause == cause


def test_what_is_wrong_with_a_file_is_said(tmp_path: Path) -> None:
    head = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41\0\0\0\x10mdat12345678"
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "unfinished.mp4").write_bytes(head)
    (tmp_path / "text.txt").write_text("no video")
    (tmp_path / "list.m3u8").write_text(
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1/x.ts\n#EXT-X-ENDLIST\n"
    )
    for name, words in (
        ("empty.mp4", "the file is empty"),
        ("unfinished.mp4", "it has no index (moov)"),
        ("text.txt", "no video that FFmpeg knows"),
        ("list.m3u8", "it leads to http:, which a source of this kind may not use"),
        ("none.mp4", "No such file or directory"),
    ):
        assert words in str(failure(str(tmp_path / name)))


def test_password_that_is_refused_is_tried_ever_more_rarely() -> None:
    attempts = Attempts()
    refused = SourceError("401", "unauthorized")
    pauses = [attempts.failed(refused) for _ in range(6)]
    assert UNAUTHORIZED == (10.0, 60.0, 300.0, 900.0)
    for pause, wanted in zip(pauses, [*UNAUTHORIZED, 900.0, 900.0], strict=True):
        assert wanted <= pause <= wanted * 1.1
    assert attempts.failed(SourceError("lost", "lost")) <= 3.0, "it is switched off and on"
    assert attempts.failed(refused) >= 900.0, "which does not make the password right"
    attempts.reached()
    assert attempts.failed(refused) < 12.0
    assert attempts.failures == 1


def test_other_failures_are_tried_again_soon_and_unforeseen_ones_later() -> None:
    attempts = Attempts()
    assert max(attempts.failed(SourceError("gone", "refused")) for _ in range(50)) <= 3.0
    assert max(attempts.failed(ValueError("what?")) for _ in range(50)) > 10.0
    assert attempts.failed(SourceLimitError("too large")) >= 15.0
    assert attempts.failures == 101


def test_decoder_asks_a_camera_that_refuses_it_once_until_told_to(tmp_path: Path, prefix: str) -> None:
    with Answering(refusing("401 Unauthorized")) as server:
        source = f"rtsp://user:wrong@127.0.0.1:{server.port}/x"
        config = write_config(tmp_path / "c.toml", {"shm": {"prefix": prefix}}, [{"code": "cam", "source": source}])
        with Program("framesrv", "decode", "cam", "--config", config, log=tmp_path / "log") as program:
            wait_for(lambda: camera_status(prefix, "cam").cause == "unauthorized", "the cause is told")
            assert server.connections == 1
            with FrameReader("cam", prefix=prefix) as reader, pytest.raises(FrameUnavailableError) as caught:
                reader.latest(timeout=4)
            assert (caught.value.reason, caught.value.cause) == ("connecting", "unauthorized")
            assert server.connections == 1
            done = run("framesrv", "retry", "cam", "--config", config)
            assert (done.returncode, done.stdout) == (0, "camera cam: tried again now\n")
            wait_for(lambda: server.connections == 2, "it is tried again")
            wait_for(lambda: "; next try at " in camera_status(prefix, "cam").error, "it says when it tries next")
            done = run("framesrv", "retry", "none", "--config", config)
            assert done.returncode == 1
            assert "camera none has no decoder" in done.stderr
            assert program.stop() == 0
        assert program.output.count("no stream") == 1, "the same is said once an hour"
        assert "wrong" not in program.output


def test_the_same_is_said_once_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("framesrv.process.repeats.time.monotonic", lambda: now[0])
    said = Repeats()
    count = 0
    for _ in range(24 * 1200):  # a day, every three seconds
        count += said.is_news("gone")
        now[0] += 3
    assert count == 24
    assert said.is_news("another")
    assert not said.is_news("another")
    said.forget()
    assert said.is_news("another")
    for number in range(1000):
        said.is_news(str(number))
    assert len(said._said) <= 64


def test_decoder_waits_when_those_before_it_ended_soon(tmp_path: Path, prefix: str) -> None:
    longest = UNFORESEEN[1]
    assert [pause_after(number, longest) for number in range(FREE + 1)] == [0.0] * (FREE + 1)
    assert 0.4 < pause_after(FREE + 1, longest) <= 1.0
    assert 10 < pause_after(1000, longest) <= 30
    config = write_config(
        tmp_path / "c.toml", {"shm": {"prefix": prefix}}, [{"code": "cam", "source": "test:64x48@25"}]
    )
    with ExitStack() as stack:
        for number in range(FREE + 1):
            log = tmp_path / f"{number}.log"
            program = stack.enter_context(Program("framesrv", "decode", "cam", "--config", config, log=log))
            wait_for(lambda log=log: " live " in log.read_text(), "it is live")  # type: ignore[misc]
            assert "ended soon" not in program.output
            program.process.kill()
            program.process.wait()
        last = stack.enter_context(Program("framesrv", "decode", "cam", "--config", config, log=tmp_path / "log"))
        wait_for(lambda: " live " in last.output, "it is live")
        assert f"{FREE + 1} decoders before this one ended soon: waits" in last.output
        assert last.stop() == 0


class Surprising:
    """A source that fails in a way that nobody thought of."""

    def frames(self, sink: Sink) -> Iterator[SourceFrame | None]:
        raise ZeroDivisionError("what?")

    def facts(self) -> Facts:
        return Facts()


def test_unforeseen_error_is_a_traceback_once_and_the_camera_is_tried_again(
    prefix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []
    with FrameWriter("cam", 0, 0, "yuv420p", prefix=prefix) as writer:
        decoder = Decoder(Camera(code="cam", source="test:2x2@1"), prefix, Surprising(), writer, Notifier({}))

        def count(pause: float, _: object) -> None:
            pauses.append(pause)
            if len(pauses) == 5:
                decoder._stopping.set()

        monkeypatch.setattr(decoder, "_wait", count)
        decoder._follow(Signals())
        status = camera_status(prefix, "cam")
        assert (status.error, status.attempts) == ("ZeroDivisionError: what?", 5)
    assert pauses[4] > pauses[0]
    said = [record for record in caplog.records if record.levelname == "WARNING"]
    assert [record.exc_info is not None for record in said] == [True]
