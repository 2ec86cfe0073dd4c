"""A snapd that ends soon after its start, again and again, waits before it begins; not so one that is stopped."""

import signal
from pathlib import Path

from framesrv.process import report, starts
from framesrv.process.retry import FREE
from framesrv.process.starts import Starts
from tests.support.edge import Edge, write_config
from tests.support.processes import Program, wait_for
from tests.support.service_manager import Manager


def test_snapd_that_is_killed_again_and_again_waits_and_one_that_is_stopped_does_not(
    edge: Edge, tmp_path: Path
) -> None:
    config = write_config(edge, tmp_path / "framesrv.toml")
    (tmp_path / "run").mkdir()
    log = tmp_path / "snapd.log"
    with Manager(tmp_path / "notify", 1.0) as manager:
        environment = {**manager.environment, report.VARIABLE: str(tmp_path / "run")}

        def live(number: signal.Signals) -> str:
            """What one says that is ended so once it serves."""
            log.unlink(missing_ok=True)
            with Program("snapd", "run", "--config", config, log=log, environment=environment) as program:
                wait_for(lambda: "Started stream=" in program.output, "it begins", 40)
                program.stop(number)
                return program.output

        for _ in range(FREE + 1):
            assert "ended soon" not in live(signal.SIGKILL)
        assert f"{FREE + 1} starts before this one ended soon: waits 1 s" in live(signal.SIGKILL)
        assert any("ended soon" in text for text in manager.statuses)
        assert "ended soon" in live(signal.SIGTERM)
        assert "ended soon" not in live(signal.SIGTERM)


def test_start_long_after_the_last_one_is_a_first_one(tmp_path: Path) -> None:
    environment = {report.VARIABLE: str(tmp_path)}
    said: list[str] = []
    for _ in range(FREE + 2):
        Starts(environment).begin(10.0, said.append, lambda _: None)
    assert len(said) == 1
    (tmp_path / starts.NAME).write_text('{"began": 1000.0, "soon": 7}')
    Starts(environment).begin(10.0, said.append, lambda _: None)
    (tmp_path / starts.NAME).write_text("rubbish")
    Starts(environment).begin(10.0, said.append, lambda _: None)
    assert len(said) == 1
