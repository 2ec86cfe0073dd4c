"""Children that are kept alive, also where they cannot be started at first."""

import asyncio
import contextlib
from pathlib import Path

import pytest

from framesrv.process import children


def test_child_that_cannot_be_started_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A missing program, or no descriptor or memory left, once ended the task, and the camera with it."""
    monkeypatch.setattr(children, "FIRST_DELAY", 0.05)
    program, mark = tmp_path / "program", tmp_path / "mark"

    async def run() -> None:
        task = asyncio.create_task(children.keep("cam", [str(program)]))
        async with asyncio.timeout(20):
            while not caplog.records:
                await asyncio.sleep(0.01)
            program.write_text(f"#!/bin/sh\ntouch {mark}\nexec sleep 60\n")
            program.chmod(0o755)
            while not mark.exists():
                assert not task.done()
                await asyncio.sleep(0.01)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert "child cannot be started, trying again child=cam" in caplog.text
