"""What a service manager hears: a real datagram socket at one end, real decoders at the other."""

import io
import os
import signal
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import pytest

from framesrv import FrameReader, camera_status, segment_path
from framesrv.process.notify import Notifier, Progress
from tests.support.footage import footage
from tests.support.ports import free_port
from tests.support.processes import Program, alive, wait_for, write_config
from tests.support.rtsp import RtspServer
from tests.support.service_manager import Manager, abstract

WATCHDOG = 1.0  # s, as WatchdogSec=


@pytest.fixture(params=["file", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return abstract(tmp_path.name) if request.param == "abstract" else str(tmp_path / "notify")


def decoder(tmp_path: Path, prefix: str, manager: Manager, source: str | Path, **keys: Any) -> Program:
    variables = {name: keys.pop(name) for name in list(keys) if name.isupper()}
    config = write_config(
        tmp_path / "framesrv.toml",
        {"shm": {"prefix": prefix}, "http": {"listen": ""}},
        [{"code": "cam", "source": str(source), **keys}],
    )
    command = ("framesrv", "decode", "cam", "--config", config)
    return Program(*command, log=tmp_path / "cam.log", environment=manager.environment | variables)


def transport_stream(recording: Path) -> bytes:
    """The video of a recording in the form that a camera would send it in, without an index."""
    content = io.BytesIO()
    with av.open(recording) as source, av.open(content, "w", format="mpegts") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    return content.getvalue()


def test_decoder_is_ready_then_live_then_stopping(address: str, tmp_path: Path, prefix: str) -> None:
    with (
        Manager(address, WATCHDOG) as manager,
        decoder(tmp_path, prefix, manager, "test:320x240@25") as program,
    ):
        manager.wait("READY")
        manager.wait_status(lambda text: text.startswith("live 320x240") and "fps" in text, "live")
        manager.wait("WATCHDOG", 4)
        assert program.stop() == 0
        assert manager.wait("STOPPING").fields["STATUS"] == "stopping"
        assert manager.count("READY") == 1
        assert not (manager.messages[-1].fields.keys() & {"WATCHDOG", "READY"})


def test_decoder_without_a_watchdog_tells_its_state_and_nothing_else(tmp_path: Path, prefix: str) -> None:
    with (
        Manager(tmp_path / "notify") as manager,
        decoder(tmp_path, prefix, manager, "test:320x240@25") as program,
    ):
        manager.wait_status(lambda text: text.startswith("live"), "live")
        program.stop()
        manager.wait("STOPPING")
        assert manager.count("WATCHDOG") == 0
        assert len(manager.messages) <= 3


def test_watchdog_of_another_process_is_left_alone(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
    assert Notifier(environment).interval == 1.0
    assert Notifier({**environment, "WATCHDOG_PID": str(os.getpid())}).interval == 1.0
    assert Notifier({**environment, "WATCHDOG_PID": "1"}).interval is None
    assert Notifier({"WATCHDOG_USEC": "2000000"}).interval is None
    assert not Notifier({}).listens


def test_manager_that_is_gone_is_complained_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    for text in ("one", "two", "three"):
        notifier.status(text)
    assert len(caplog.records) == 1
    assert "No such file" in caplog.text


def test_status_is_one_line_without_passwords(tmp_path: Path) -> None:
    with Manager(tmp_path / "notify") as manager:
        Notifier(manager.environment).status("rtsp://user:secret@host/\nREADY=1")
        message = manager.wait("STATUS")
        assert message.fields == {"STATUS": "rtsp://user:***@host/ READY=1"}


def test_thread_is_overdue_only_after_what_it_expected() -> None:
    progress = Progress()
    assert progress.overdue == 0
    progress.expect(60)
    assert progress.overdue == 0
    progress.expect(-1)
    assert progress.overdue >= 1


def test_decoder_of_an_absent_camera_is_healthy_and_says_why_it_waits(tmp_path: Path, prefix: str) -> None:
    source = f"rtsp://127.0.0.1:{free_port()}/cam"
    with (
        Manager(tmp_path / "notify", WATCHDOG) as manager,
        decoder(tmp_path, prefix, manager, source, timeout=0.5) as program,
    ):
        manager.wait("READY")
        assert camera_status(prefix, "cam").state == "connecting"
        text = manager.wait_status(lambda text: text.startswith("reconnecting, attempt 4: "), "the fourth attempt")
        assert "refused" in text
        manager.wait("WATCHDOG", 24)  # that is longer than any of its waits
        times = [message.at for message in manager.named("WATCHDOG")]
        assert max(later - earlier for earlier, later in pairwise(times)) < 10 * WATCHDOG
        program.stop()


def test_decoder_of_a_camera_that_does_not_answer_is_healthy(tmp_path: Path, prefix: str) -> None:
    """It sits in a call for longer than the watchdog's time, which is as it should be."""
    with (
        RtspServer({"cam": footage(width=320, height=240, frames=50)}, tmp_path) as server,
        Manager(tmp_path / "notify", WATCHDOG) as manager,
        decoder(tmp_path, prefix, manager, server.url("cam"), timeout=4.0) as program,
    ):
        manager.wait_status(lambda text: text.startswith("live"), "live")
        server.fault("silent")
        manager.wait_status(lambda text: text.startswith("stalled"), "stalled")
        before = manager.count("WATCHDOG")
        manager.wait_status(lambda text: text.startswith("reconnecting"), "it is lost")
        manager.wait("WATCHDOG", before + 10)
        server.fault("run")
        manager.wait_status(lambda text: text.startswith("live"), "live again")
        program.stop()


def test_decoder_whose_thread_hangs_no_longer_tells_the_watchdog(tmp_path: Path, prefix: str) -> None:
    """A named pipe whose writer has fallen silent holds the decoding thread in read(2), whatever the time-outs."""
    pipe = tmp_path / "camera.ts"
    os.mkfifo(pipe)
    transport = transport_stream(footage(width=320, height=240, frames=100))
    with (
        Manager(tmp_path / "notify", WATCHDOG) as manager,
        decoder(tmp_path, prefix, manager, pipe, timeout=0.5) as program,
        pipe.open("wb") as camera_end,
    ):
        camera_end.write(transport)
        camera_end.flush()
        manager.wait_status(lambda text: text.startswith("live"), "live")
        manager.wait_status(lambda text: text == "hangs in its source", "it hangs")
        count = manager.count("WATCHDOG")
        wait_for(lambda: manager.silent_for("WATCHDOG") > 5 * WATCHDOG, "the watchdog hears nothing")
        assert manager.count("WATCHDOG") == count
        assert program.output.count("Decoder hangs in its source") == 1
        assert alive(program.pid)
        camera_end.write(transport)
        camera_end.flush()
        manager.wait("WATCHDOG", count + 1)
        assert program.stop() == 0


def test_abort_of_a_hung_decoder_is_explained_by_one_sentence_before_its_threads(tmp_path: Path, prefix: str) -> None:
    pipe = tmp_path / "camera.ts"
    os.mkfifo(pipe)
    with (
        Manager(tmp_path / "notify", WATCHDOG) as manager,
        decoder(tmp_path, prefix, manager, pipe, timeout=0.5, PYTHONFAULTHANDLER="1") as program,
        pipe.open("wb") as camera_end,
    ):
        camera_end.write(transport_stream(footage(width=320, height=240, frames=100)))
        camera_end.flush()
        manager.wait_status(lambda text: text == "hangs in its source", "it hangs")
        wait_for(lambda: "main" in program.output.partition("hangs in its source")[2], "its threads are shown")
        assert program.stop(signal.SIGABRT) == -signal.SIGABRT  # as the watchdog does
        before, _, after = program.output.partition("Decoder hangs in its source")
        assert "Thread 0x" not in before
        assert after.splitlines()[1].startswith("Thread 0x")
        assert "packets.py" in after
        assert after.count("Current thread") == 1
        assert "Fatal Python error" not in program.output
    os.unlink(segment_path(prefix, "cam"))


def test_stopped_decoder_is_silent(tmp_path: Path, prefix: str) -> None:
    with (
        Manager(tmp_path / "notify", WATCHDOG) as manager,
        decoder(tmp_path, prefix, manager, "test:320x240@25") as program,
    ):
        manager.wait("WATCHDOG", 2)
        program.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: manager.silent_for("WATCHDOG") > 5 * WATCHDOG, "the watchdog hears nothing")
        program.process.send_signal(signal.SIGCONT)
        manager.wait("WATCHDOG", manager.count("WATCHDOG") + 1)
        program.stop()


def test_status_does_not_go_on_saying_that_every_slot_is_pinned_when_frames_flow_again(
    tmp_path: Path, prefix: str
) -> None:
    """Without a watchdog nothing woke the decoder to tell; it said so for as long as the camera was live."""
    said: list[str] = []

    def told_that_every_slot_is_pinned() -> bool:
        """A decoder makes two new segments, to be pinned as well, and no third one for half a minute."""
        if not camera_status(prefix, "cam").pinned:
            held.enter_context(camera.latest(max_age=0, timeout=10.0))
        program.process.send_signal(signal.SIGUSR1)  # asks it to tell
        said[:] = [status for status in manager.statuses if "every slot is pinned by" in status]
        return bool(said)

    with (
        Manager(tmp_path / "notify") as manager,
        decoder(tmp_path, prefix, manager, "test:64x48@25") as program,
        FrameReader("cam", prefix=prefix) as camera,
    ):
        with ExitStack() as held:
            manager.wait_status(lambda text: text.startswith("live 64x48"), "live")
            wait_for(told_that_every_slot_is_pinned, "it tells who pins")
        wait_for(lambda: manager.statuses[-1].startswith("live 64x48"), f"{said} has ended")
        assert program.stop() == 0


def test_children_of_up_do_not_speak_for_it(tmp_path: Path, prefix: str) -> None:
    config = write_config(
        tmp_path / "framesrv.toml",
        {
            "shm": {"prefix": prefix},
            "http": {"listen": ""},
            "store": {"kind": "dir", "path": str(tmp_path / "store")},
        },
        [{"code": "cam", "source": "test:320x240@25"}],
    )
    with (
        Manager(tmp_path / "notify", WATCHDOG) as manager,
        Program(
            "framesrv", "up", "--config", config, log=tmp_path / "log", environment=manager.environment
        ) as program,
    ):
        wait_for(lambda: camera_status(prefix, "cam").state == "live", "the camera is live")
        assert program.stop() == 0
        assert manager.messages == []
