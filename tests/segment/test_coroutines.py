"""Frames for coroutines: the event loop goes on, and no camera needs a thread."""

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import pytest

from framesrv import FrameReader, FrameUnavailableError, FrameWriter
from framesrv.segment import futex
from tests.segment.observing import numbers, wait_until
from tests.support.segment_programs import HEIGHT, WIDTH, path_of, pinned, put


@pytest.fixture(params=[True, False], ids=["one thread", "a thread each"])
def many(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Kernels with futex_waitv, and without; no camera stands still because this host is slow."""
    monkeypatch.setattr("framesrv.segment.mapping.STALL", 1000)
    monkeypatch.setattr("framesrv.segment.word_watch.IDLE", 0.05)
    if not request.param:
        monkeypatch.setattr(futex, "waits_for_many", lambda: False)
    elif not futex.waits_for_many():
        pytest.skip("this kernel has no futex_waitv")
    return bool(request.param)


def watching() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "framesrv-watch"]


def run(work: Awaitable[Any]) -> Any:
    return asyncio.run(asyncio.wait_for(work, 60))


async def comes_true(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.002)


def test_loop_goes_on_while_frames_of_many_cameras_are_waited_for(
    prefix: str, many: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("framesrv.segment.coroutines.LIVENESS", 1000)  # a frame wakes, not a look twice a second
    cameras = 5
    wait_until(lambda: not watching())

    async def follow(camera: FrameReader, seen: list[tuple[int, int | None]]) -> None:
        async for frame in camera.frames_async(timeout=20):
            seen.append(numbers(frame))
            if frame.stamp.pts == 9:
                return

    async def work(writers: list[FrameWriter], readers: list[FrameReader]) -> None:
        seen: list[list[tuple[int, int | None]]] = [[] for _ in readers]
        async with asyncio.TaskGroup() as tasks:
            for camera, its in zip(readers, seen, strict=True):
                tasks.create_task(follow(camera, its))
            await comes_true(lambda: all(writer.demanded for writer in writers))
            assert len(watching()) == (1 if many else cameras)
            for number in range(2, 10):
                for writer in writers:
                    put(writer, number)
                await comes_true(lambda: all(its and its[-1] == (number, number) for its in seen))  # noqa: B023
        assert seen == [[(number, number) for number in range(2, 10)]] * cameras

    with ExitStack() as stack:
        codes = [f"cam{number}" for number in range(cameras)]
        writers = [stack.enter_context(FrameWriter(code, WIDTH, HEIGHT, "yuv420p", prefix=prefix)) for code in codes]
        for writer in writers:
            put(writer, 1)
        readers = [stack.enter_context(FrameReader(code, prefix=prefix)) for code in codes]
        run(work(writers, readers))
        assert [pinned(prefix, code) for code in codes] == [[]] * cameras
        assert not any(writer.demanded for writer in writers)
    wait_until(lambda: not watching())  # with nothing to do it ends


@pytest.mark.usefixtures("many")
def test_newest_frame_is_waited_for_until_it_is_fresh(writer: FrameWriter, camera: FrameReader, prefix: str) -> None:
    put(writer, 1)

    async def work() -> None:
        with await camera.latest_async(max_age=None) as frame:
            assert numbers(frame) == (1, 1)
        waiting = asyncio.create_task(camera.latest_async(max_age=0, timeout=20))
        await comes_true(lambda: writer.demanded)
        put(writer, 2)
        with await waiting as frame:
            assert numbers(frame) == (2, 2)
        assert not writer.demanded
        with pytest.raises(FrameUnavailableError) as caught:
            await camera.latest_async(max_age=0, timeout=0.05)
        assert caught.value.reason == "stale"

    run(work())
    assert pinned(prefix, "cam") == []


@pytest.mark.usefixtures("many")
def test_coroutine_waits_for_a_camera_that_is_not_there_and_follows_its_segments(
    camera: FrameReader, prefix: str
) -> None:
    async def work() -> None:
        files = len(os.listdir("/proc/self/fd"))
        with pytest.raises(FrameUnavailableError) as caught:
            await camera.latest_async(timeout=0.05)
        assert caught.value.reason == "absent"
        assert len(os.listdir("/proc/self/fd")) == files
        frames = camera.frames_async(timeout=20)
        waiting = asyncio.ensure_future(anext(frames))
        await asyncio.sleep(0)
        with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as writer:
            await comes_true(lambda: writer.demanded)
            put(writer, 1)
            assert numbers(await waiting) == (1, 1)
            assert pinned(prefix, "cam") == [0]
            waiting = asyncio.ensure_future(anext(frames))
            await comes_true(lambda: not pinned(prefix, "cam"))
            writer.resize(WIDTH + 64, HEIGHT, "yuv420p")
            await comes_true(lambda: writer.demanded)
            put(writer, 2)
            assert numbers(await waiting) == (2, 2)
            waiting = asyncio.ensure_future(anext(frames))
            await comes_true(lambda: writer.demanded)
            os.unlink(path_of(prefix, "cam"))
            with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as other:
                await comes_true(lambda: other.demanded)
                put(other, 3)
                assert (await waiting).stamp.pts == 3
                await frames.aclose()
                assert pinned(prefix, "cam") == []
                assert not other.demanded

    run(work())


@pytest.mark.usefixtures("many")
def test_coroutine_that_is_cancelled_or_leaves_its_loop_leaves_nothing_behind(
    writer: FrameWriter, camera: FrameReader, prefix: str
) -> None:
    put(writer, 1)

    async def work() -> None:
        waiting = asyncio.create_task(camera.latest_async(max_age=0, timeout=20))
        await comes_true(lambda: writer.demanded)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not writer.demanded

    async def break_off() -> None:
        frames = camera.frames_async(timeout=20)
        waiting = asyncio.ensure_future(anext(frames))
        await comes_true(lambda: writer.demanded)
        put(writer, 3)
        await waiting
        assert len(pinned(prefix, "cam")) == 1

    run(work())
    run(break_off())
    assert pinned(prefix, "cam") == []
    assert not writer.demanded
    wait_until(lambda: not watching())
