"""What snapd says of itself to its host: its status for the service manager, its report for everybody."""

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from framesrv import __version__
from framesrv.process import report
from framesrv.process.report import Report
from tests.support.edge import Edge, write_config
from tests.support.http_server import Fault
from tests.support.processes import Program, wait_for
from tests.support.service_manager import Manager


@dataclass(frozen=True)
class Snapd:
    """A snapd that has a place for its report."""

    edge: Edge
    manager: Manager
    program: Program
    config: Path
    place: Path

    @property
    def report(self) -> Report:
        return report.read(self.place)

    def reload(self, **sections: dict[str, object]) -> None:
        ready = self.manager.count("READY")
        write_config(self.edge, self.config, **sections)
        self.program.process.send_signal(signal.SIGHUP)
        self.manager.wait("READY", ready + 1)


@pytest.fixture
def snapd(edge: Edge, tmp_path: Path) -> Iterator[Snapd]:
    edge.camera("cam01")
    config = write_config(edge, tmp_path / "framesrv.toml")
    (tmp_path / "run").mkdir()
    with Manager(tmp_path / "notify", 1.0) as manager:
        environment = {**manager.environment, report.VARIABLE: str(tmp_path / "run")}
        with Program(
            "snapd", "run", "--config", config, log=tmp_path / "snapd.log", environment=environment
        ) as program:
            manager.wait_status(lambda text: text.startswith("serving"), "it serves")
            yield Snapd(edge, manager, program, config, tmp_path / "run" / report.NAME)


def test_status_never_says_serving_while_every_upload_fails(snapd: Snapd) -> None:
    edge, manager = snapd.edge, snapd.manager
    snapd.reload(store={"secret_key": "wrong"})
    since = time.strftime("%H:%M")
    for _ in range(3):
        assert edge.ask().status == "error"
    said = manager.wait_status(lambda text: ", 3 failed since " in text, "it counts what failed")
    assert said.startswith("the store takes no pictures: ")
    assert "SignatureDoesNotMatch" in said
    assert since <= said.partition(" failed since ")[2][:5]
    assert said.endswith("; 0 in hand")
    told = wait_for(lambda: (now := snapd.report).uploads.failed == 3 and now, "the report says so too")
    assert (told.uploads.trouble, told.uploads.failed_lately, told.uploads.ok_lately) == ("refused", 3, 0)
    snapd.reload()
    manager.wait_status(lambda text: text.startswith("serving"), "another store has not failed yet")
    assert edge.ask().status == "ok"
    wait_for(lambda: snapd.report.uploads.ok_lately == 1, "a success is told")
    assert snapd.report.uploads.failed == 0


def test_callbacks_that_fail_are_told_and_those_that_succeed_again(snapd: Snapd) -> None:
    edge, manager = snapd.edge, snapd.manager
    edge.wvp.fault = Fault(404)
    fields = edge.fields()
    edge.send(fields)
    assert edge.result_by_key(fields).status == "ok"
    said = manager.wait_status(lambda text: "callbacks fail" in text, "it says so")
    host = urlsplit(edge.wvp.url).netloc
    assert said.startswith("serving, ")
    words = "status 404: nothing there takes results, see result.callback_path"
    assert f"; callbacks fail: {host}: {words}, 1 failed since " in said
    edge.wvp.fault = None
    edge.ask()
    manager.wait_status(lambda text: "callbacks fail" not in text, "they succeed again")


def test_report_tells_who_serves_with_which_configuration_since_when(snapd: Snapd) -> None:
    told = wait_for(lambda: (now := snapd.report).lag is not None and now, "the queue is told")
    assert (told.pid, told.version, told.joined, told.away) == (snapd.program.pid, __version__, True, "")
    assert (told.consumer, told.wanted_consumer, told.lag, told.pending) == ("edge_snap_worker",) * 2 + (0, 0)
    assert 0 <= time.time() - told.began < 60
    assert told.ahead_of_redis == 0.0
    before = told.configured_at
    snapd.config.write_text("[nonsense]\n")
    snapd.program.process.send_signal(signal.SIGHUP)
    wait_for(lambda: snapd.report.refused, "a configuration that is wrong is told")
    assert snapd.report.configured_at == before
    snapd.reload()
    wait_for(lambda: not snapd.report.refused and snapd.report.configured_at > before, "the next one is in force")
    assert snapd.place.stat().st_mode & 0o777 == 0o644, "everybody may read it"
    assert snapd.edge.cos.secret_key not in snapd.place.read_text()


def test_report_is_written_when_something_has_changed_and_not_all_the_time(snapd: Snapd) -> None:
    wait_for(lambda: snapd.report.lag is not None, "the queue is told")
    inode = snapd.place.stat().st_ino
    snapd.manager.wait("WATCHDOG", snapd.manager.count("WATCHDOG") + 4)
    assert snapd.place.stat().st_ino == inode


def test_directory_tells_what_is_left_in_it(snapd: Snapd, tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    snapd.reload(store={"kind": "dir", "path": str(pictures)})
    assert snapd.edge.ask().status == "ok"
    told = wait_for(lambda: (now := snapd.report).free_bytes is not None and now, "the space is told")
    status = os.statvfs(pictures)
    assert told.place == str(pictures)
    assert told.size_bytes == status.f_blocks * status.f_frsize


def test_place_that_cannot_be_written_keeps_nobody_from_serving(snapd: Snapd) -> None:
    os.kill(snapd.program.pid, signal.SIGSTOP)  # between the two there is another reason
    snapd.place.parent.rename(snapd.place.parent.with_name("elsewhere"))
    snapd.place.parent.write_text("a file")
    os.kill(snapd.program.pid, signal.SIGCONT)
    snapd.reload()
    assert snapd.edge.ask().status == "ok"
    wait_for(lambda: "How snapd does cannot be told" in snapd.program.output, "it is said")
    assert snapd.program.output.count("How snapd does cannot be told") == 1
