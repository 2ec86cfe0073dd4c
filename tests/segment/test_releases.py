"""What becomes of a frame, of arrays of it and of tensors made of these when it is released."""

import gc
import multiprocessing
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from framesrv import Frame, FrameReader, FrameReleasedError, FrameWriter
from framesrv.segment.layout import Pixels
from tests.segment.observing import newest
from tests.support.segment_programs import HEIGHT, WIDTH, pinned, put, shows

USES: dict[str, Callable[[Frame], object]] = {
    "planes": lambda frame: frame.planes,
    "bgr": lambda frame: frame.bgr(),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_frame_tells_that_it_is_used_after_its_release(
    writer: FrameWriter, camera: FrameReader, use: Callable[[Frame], object]
) -> None:
    put(writer, 1)
    with camera.latest(max_age=None) as frame:
        use(frame)
    with pytest.raises(FrameReleasedError, match="frame 1 was released"):
        use(frame)
    assert (frame.seq, frame.width, frame.height, frame.stamp.pts) == (1, WIDTH, HEIGHT, 1)


def test_array_of_a_released_frame_stays_as_it_is_and_pins_its_slot_until_the_last_is_gone(
    writer: FrameWriter, camera: FrameReader, prefix: str
) -> None:
    put(writer, 1)
    with camera.latest(max_age=None) as frame:
        planes = frame.planes
        corner = planes[1][:8, :8]
    frame.release()
    for number in range(2, 102):
        assert put(writer, number)
        assert shows(planes, 1)
    assert newest(camera) == (101, 101)
    assert pinned(prefix, "cam") == [0]
    assert not corner.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        corner.flags.writeable = True
    del planes
    gc.collect()
    assert pinned(prefix, "cam") == [0]
    before = corner.copy()
    put(writer, 102)
    put(writer, 103)
    assert np.array_equal(corner, before)
    del corner
    gc.collect()
    assert pinned(prefix, "cam") == []


def as_numpy(plane: Pixels) -> Any:
    try:
        plane.__dlpack__(max_version=(1, 0))
    except TypeError:
        pytest.skip("needs NumPy 2.1, whose DLPack tells what is read-only")
    return np.from_dlpack(plane)


def as_torch(plane: Pixels) -> Any:
    torch = pytest.importorskip("torch", reason="needs torch 2.9 or newer")
    try:
        return torch.from_dlpack(plane)
    except BufferError:
        pytest.skip("needs torch 2.9, which takes what is read-only")


@pytest.mark.parametrize("imported", [as_numpy, as_torch])
@pytest.mark.filterwarnings("ignore:.*not writable:UserWarning")
def test_tensor_by_dlpack_is_the_frames_memory_and_holds_its_pin(
    writer: FrameWriter, camera: FrameReader, prefix: str, imported: Callable[[Pixels], Any]
) -> None:
    put(writer, 1)
    with camera.latest(max_age=None) as frame:
        tensor = imported(frame.planes[0])
        address = frame.planes[0].ctypes.data
    assert tuple(tensor.shape) == (HEIGHT, WIDTH)
    where = tensor.data_ptr() if hasattr(tensor, "data_ptr") else tensor.ctypes.data
    assert where == address
    for number in range(2, 12):
        assert put(writer, number)
    assert shows([np.asarray(tensor)], 1)
    assert pinned(prefix, "cam") == [0]
    del tensor
    gc.collect()
    assert pinned(prefix, "cam") == []


def test_dlpack_says_that_a_frame_is_read_only(writer: FrameWriter, camera: FrameReader) -> None:
    put(writer, 1)
    with camera.latest(max_age=None) as frame:
        assert not as_numpy(frame.planes[0]).flags.writeable
        with pytest.raises(BufferError):
            frame.planes[0].__dlpack__()  # an older consumer could not be told


def use_in_child(pipe: Any, frame: Frame) -> None:
    try:
        frame.bgr()
    except FrameReleasedError as error:
        pipe.send(str(error))


def test_frame_of_the_parent_tells_that_it_is_used_in_a_child(writer: FrameWriter, camera: FrameReader) -> None:
    put(writer, 1)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    with camera.latest(max_age=None) as frame:
        process = context.Process(target=use_in_child, args=(theirs, frame), daemon=True)
        process.start()
        assert ours.poll(20)
        assert ours.recv() == "frame 1 is pinned by the parent process: take one in the child"
        process.join(20)
        assert shows(frame.planes, 1)


def test_frame_is_not_sent_to_another_process(writer: FrameWriter, camera: FrameReader) -> None:
    put(writer, 1)
    with camera.latest(max_age=None) as frame, pytest.raises(TypeError, match="send a copy"):
        pickle.dumps(frame)
