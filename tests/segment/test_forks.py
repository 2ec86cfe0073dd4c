"""Readers in processes that are forked, spawned, or started by a server of forks: each has locks of its own."""

import gc
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

import pytest

from framesrv import Frame, FrameReader, FrameWriter, camera_status
from framesrv.segment import locks
from framesrv.segment.attachment import Attachment
from framesrv.segment.layout import DEMAND_BYTE
from tests.segment.observing import newest, numbers, wait_until
from tests.support.segment_programs import HEIGHT, WIDTH, pinned, put

METHODS = ("fork", "spawn", "forkserver")


@contextmanager
def started(method: Any, target: Callable[..., object], *arguments: object) -> Iterator[Any]:
    """A process that runs ``target(pipe, *arguments)``, and the pipe to it."""
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join(20)


def heard(pipe: Connection) -> Any:
    assert pipe.poll(30), "no answer from the process"
    return pipe.recv()


def follow(pipe: Connection, camera: FrameReader) -> None:
    """Pins the newest frame, says which, and, told to, whether it is still the same; then says each new one."""
    with camera.latest(max_age=None, timeout=20) as frame:
        pipe.send(numbers(frame))
        pipe.recv()
        pipe.send(numbers(frame))
    frames = camera.frames(timeout=20)
    pipe.send("waits")
    for frame in frames:
        pipe.send(numbers(frame))


@pytest.mark.parametrize("method", METHODS)
def test_reader_works_in_another_process_and_shares_no_pin_with_it(
    method: str, writer: FrameWriter, camera: FrameReader, prefix: str
) -> None:
    put(writer, 1)
    mine = camera.latest(max_age=None)
    with started(method, follow, camera) as (_, pipe):
        assert heard(pipe) == (1, 1)
        mine.release()
        del mine
        gc.collect()
        assert pinned(prefix, "cam") == [0]  # the child's
        for number in range(2, 12):
            assert put(writer, number)
        pipe.send("still the same?")
        assert heard(pipe) == (1, 1)
        assert heard(pipe) == "waits"
        with camera.latest(max_age=None) as frame:
            assert numbers(frame) == (11, 11)
            put(writer, 12)
            assert heard(pipe) == (12, 12)
            assert numbers(frame) == (11, 11)
    wait_until(lambda: pinned(prefix, "cam") == [])


def let_go(pipe: Connection, camera: FrameReader, attachment: Attachment, frames: Any, frame: Frame) -> None:
    frame.release()
    frames.close()
    attachment.unask()
    attachment.close()
    camera.close()
    pipe.send("closed")
    pipe.recv()


def test_child_that_lets_go_of_what_it_inherited_takes_no_pin_and_no_demand_from_its_parent(
    writer: FrameWriter, camera: FrameReader, prefix: str
) -> None:
    put(writer, 1)
    frames = camera.frames(timeout=0.01)
    put(writer, 2)
    with next(frames) as held, camera.latest(max_age=None) as frame:
        attachment = camera._attacher._attachment
        assert attachment is not None
        attachment.ask()
        with started("fork", let_go, camera, attachment, frames, frame) as (_, pipe):
            assert heard(pipe) == "closed"
            assert writer.demanded
            assert pinned(prefix, "cam") == [1]
            for number in range(3, 12):
                assert put(writer, number)
            assert numbers(frame) == numbers(held) == (2, 2)


def die_of_a_fork(pipe: Connection, prefix: str) -> None:
    """Pins a frame, asks for more, forks a child that says its number and stays, and is killed."""
    camera = FrameReader("cam", prefix=prefix)
    frame = camera.latest(max_age=None)
    camera._attacher._attachment.ask()  # type: ignore[union-attr]
    child = os.fork()
    if child == 0:
        pipe.send(os.getpid())
        signal.pause()
    os.waitid(os.P_PID, child, os.WEXITED)
    frame.release()


def test_pins_and_demand_of_a_killed_reader_go_though_its_child_lives(writer: FrameWriter, prefix: str) -> None:
    put(writer, 1)
    with started("fork", die_of_a_fork, prefix) as (parent, pipe):
        child = heard(pipe)
        try:
            assert pinned(prefix, "cam") == [0]
            assert writer.demanded
            parent.kill()
            wait_until(lambda: pinned(prefix, "cam") == [])
            assert not locks.is_held(writer._segment.fd, DEMAND_BYTE, exclusively=False)
            os.kill(child, 0)
        finally:
            os.kill(child, signal.SIGKILL)


def use_writer(pipe: Connection, writer: FrameWriter) -> None:
    with writer:
        try:
            put(writer, 99)
        except ValueError as error:
            pipe.send(str(error))
    pipe.recv()


def test_writer_refuses_to_write_in_a_child_and_is_not_ended_by_it(writer: FrameWriter, camera: FrameReader) -> None:
    put(writer, 1)
    with started("fork", use_writer, writer) as (_, pipe):
        assert heard(pipe).startswith("the writer of camera cam is closed, or another process's")
        assert put(writer, 2)
        assert newest(camera) == (2, 2)
    assert put(writer, 3)


@pytest.mark.leaves_segment
def test_lock_of_a_killed_writer_goes_though_its_child_lives(prefix: str) -> None:
    def write_and_fork(pipe: Connection) -> None:
        writer = FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix)
        child = os.fork()
        if child == 0:
            pipe.send(os.getpid())
            signal.pause()
        os.waitid(os.P_PID, child, os.WEXITED)
        writer.close()

    with started("fork", write_and_fork) as (parent, pipe):
        child = heard(pipe)
        try:
            parent.kill()
            wait_until(lambda: camera_status(prefix, "cam").state == "down")
            os.kill(child, 0)
            with FrameWriter("cam", WIDTH, HEIGHT, "yuv420p", prefix=prefix) as other:
                assert put(other, 1)
        finally:
            os.kill(child, signal.SIGKILL)


def read_once(pipe: Connection, camera: FrameReader) -> None:
    with camera.latest(max_age=None, timeout=20) as frame:
        pipe.send(numbers(frame))


def test_fork_while_threads_hold_the_readers_mutexes_leaves_the_child_free(
    writer: FrameWriter, camera: FrameReader
) -> None:
    put(writer, 1)
    frame = camera.latest(max_age=None)
    attachment = camera._attacher._attachment
    assert attachment is not None
    with ExitStack() as stack:
        taken, end = threading.Event(), threading.Event()

        def hold() -> None:
            with camera._attacher._mutex, attachment._mutex:
                taken.set()
                end.wait(60)

        thread = threading.Thread(target=hold)
        thread.start()
        stack.callback(thread.join, 20)
        stack.callback(end.set)
        assert taken.wait(20)
        _, pipe = stack.enter_context(started("fork", read_once, camera))
        assert heard(pipe) == (1, 1)
    frame.release()


def test_pickled_reader_is_one_of_the_same_camera_of_the_same_owner(prefix: str) -> None:
    with FrameReader("cam", prefix=prefix, owner=os.geteuid()) as camera:
        other = pickle.loads(pickle.dumps(camera))  # noqa: S301
        assert (other.code, other._attacher.path, other._attacher.owner) == (
            "cam",
            camera._attacher.path,
            os.geteuid(),
        )


class Pictures:
    """A data set of a camera's pictures; its reader was attached before the workers began."""

    def __init__(self, camera: FrameReader) -> None:
        self.camera = camera
        with camera.latest(max_age=None) as frame:
            self.first = frame.seq

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Any:
        with self.camera.latest(max_age=None, timeout=20) as frame:
            return frame.tensor(layout="CHW"), numbers(frame)[0], os.getpid()


@pytest.mark.parametrize("method", METHODS)
def test_workers_of_a_data_loader_read_frames(
    method: str, writer: FrameWriter, camera: FrameReader, prefix: str
) -> None:
    data = pytest.importorskip("torch.utils.data", reason="needs torch")
    put(writer, 5)
    loader = data.DataLoader(
        Pictures(camera), batch_size=2, num_workers=2, multiprocessing_context=method, timeout=60
    )
    workers = set()
    for batch, seqs, pids in loader:
        assert tuple(batch.shape) == (2, 3, HEIGHT, WIDTH)
        assert seqs.tolist() == [1, 1]
        workers |= set(pids.tolist())
    assert len(workers) == 2
    assert os.getpid() not in workers
    assert pinned(prefix, "cam") == []
