"""Streams of pictures: what viewers get, what they cost, and when they end."""

import asyncio
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from framesrv import FrameUnavailableError, FrameWriter
from framesrv.settings import ShmSettings
from snapd.pages.app import STREAMS
from snapd.pages.follow import Followers
from tests.pages.painting import painting, repaint
from tests.support.edge import Edge, wait_until
from tests.support.pages import Shown, Viewer, shown


def test_twenty_viewers_of_a_stream_cost_one_picture_a_frame(pages: Shown) -> None:
    path = "/cameras/cam01.mjpeg?width=320"
    before = pages.metric("snapd_page_pictures_total")
    with painting(pages.edge.writers["cam01"], 8), ExitStack() as stack:
        viewers = [stack.enter_context(Viewer(pages, path)) for _ in range(20)]
        seen = [[viewer.next() for _ in range(10)] for viewer in viewers]
        assert pages.metric("snapd_page_viewers") == 20
        for frames in seen:
            assert frames == sorted(set(frames))
        last = [viewer.next() for viewer in viewers][-1]
        encoded = pages.metric("snapd_page_pictures_total") - before
        published = pages.edge.writers["cam01"].frames
    assert len(set().union(*seen)) <= encoded <= published
    assert last <= published


def test_stream_brings_ten_pictures_a_second_at_most_or_as_many_as_are_wanted(pages: Shown) -> None:
    with painting(pages.edge.writers["cam01"], 50):
        for query, fps in (("", 10), ("?fps=4", 4)):
            with Viewer(pages, f"/cameras/cam01.mjpeg{query}") as viewer:
                viewer.next()
                began = time.monotonic()
                for _ in range(2 * fps):
                    viewer.next()
                assert time.monotonic() - began > 1.5  # s, of 2
    assert pages.get("/cameras/cam01.mjpeg?fps=11").status_code == 400


def test_camera_on_demand_is_asked_only_while_somebody_watches(pages: Shown) -> None:
    writer = pages.edge.writers["cam01"]
    with painting(writer, 20):
        pages.json("/overview")
        assert not writer.demanded
        with Viewer(pages, "/cameras/cam01.mjpeg") as one, Viewer(pages, "/cameras/cam01.mjpeg") as other:
            one.next()
            other.next()
            wait_until(lambda: writer.demanded)
            assert pages.metric("snapd_page_viewers") == 2
        wait_until(lambda: pages.metric("snapd_page_viewers") == 0)
        deadline = time.monotonic() + 5
        quiet = 0
        while quiet < 20 and time.monotonic() < deadline:  # a frame that is looked at counts for a moment
            quiet = 0 if writer.demanded else quiet + 1
            time.sleep(0.01)
        assert quiet == 20


def test_camera_whose_frames_are_far_between_is_followed_as_long_as_it_is_live(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("snapd.pages.follow.SILENCE", 0.1)
    edge.camera("cam01")
    writer = edge.writers["cam01"]

    async def follow() -> list[int]:
        async with Followers(ShmSettings(prefix=edge.prefix)).watch("cam01") as follower:
            seen, newest = [], None
            for _ in range(3):
                threading.Timer(0.5, repaint, (writer,)).start()
                newest = await follower.next(newest)
                seen.append(newest.seq)
            writer.close()
            with pytest.raises(FrameUnavailableError):
                await follower.next(newest)
            return seen

    assert asyncio.run(follow()) == [2, 3, 4]


def test_stream_ends_with_its_camera_and_is_refused_until_that_is_back(pages: Shown) -> None:
    with painting(pages.edge.writers["cam01"], 20), Viewer(pages, "/cameras/cam01.mjpeg") as viewer:
        viewer.next()
        pages.edge.writers["cam01"].close()
        wait_until(lambda: pages.get("/cameras/cam01.mjpeg").status_code == 503)
    assert pages.get("/cameras/cam01.jpg").status_code == 503


def test_viewer_that_does_not_read_is_cut_off_and_holds_nobody_up(edge: Edge, tmp_path: Path) -> None:
    edge.writers["cam01"] = FrameWriter("cam01", 1280, 720, "yuv420p", prefix=edge.prefix)
    noise = np.random.default_rng(1)
    ended = threading.Event()

    def paint() -> None:
        while not ended.wait(0.05):
            shapes = [(720, 1280), (360, 640), (360, 640)]
            edge.writers["cam01"].write(tuple(noise.integers(0, 255, shape, np.uint8) for shape in shapes))

    thread = threading.Thread(target=paint)
    thread.start()
    path = "/cameras/cam01.mjpeg?quality=95"
    try:
        with shown(edge, tmp_path) as pages:
            wait_until(lambda: pages.get("/cameras/cam01.jpg").status_code == 200)
            with Viewer(pages, path, buffer=4096), Viewer(pages, path) as reads:
                reads.next()
                wait_until(lambda: pages.metric("snapd_page_viewers") == 2)
                seen = [reads.next()]
                deadline = time.monotonic() + 40
                while pages.metric("snapd_page_viewers") == 2 and time.monotonic() < deadline:
                    seen += [reads.next() for _ in range(5)]
                assert pages.metric("snapd_page_viewers") == 1
                assert len(seen) > 20
                assert reads.next() > seen[-1]
    finally:
        ended.set()
        thread.join()


def test_burst_of_viewers_never_exceeds_the_limit_of_streams(edge: Edge, tmp_path: Path) -> None:
    """All look at the camera before any of them watches it: each waits for a frame that is newer than any."""
    path = "/cameras/cam01.mjpeg?width=160&max_age=0.001"
    more = 50
    edge.camera("cam01")
    with shown(edge, tmp_path, snapshot={"wait": 20.0}) as pages, ExitStack() as stack:
        viewers = [stack.enter_context(Viewer(pages, path)) for _ in range(STREAMS + more)]
        with painting(edge.writers["cam01"], 2):
            answers = [(viewer.status(), viewer) for viewer in viewers]
            refused = [viewer for status, viewer in answers if status == 503]
            assert [status for status, _ in answers].count(200) == STREAMS
            assert {viewer.text() for viewer in refused} == {
                f"{STREAMS} streams are watched at once, and no more; try again when one has ended.\n"
            }
            watching = [viewer for status, viewer in answers if status == 200]
            assert all(viewer.next() for viewer in watching)
            assert pages.metric("snapd_page_viewers") == STREAMS


def test_places_of_viewers_come_back_however_they_leave(pages: Shown) -> None:
    writer = pages.edge.writers["cam01"]
    with painting(writer, 5):
        for query in ("?max_age=0.001", "?width=nonsense", ""):
            for _ in range(STREAMS):
                with Viewer(pages, f"/cameras/cam01.mjpeg{query}"):
                    """It leaves at once: while it waits, when it is refused, before anything was sent, or after."""
        head = partial(pages.session.head, f"{pages.url}/cameras/cam01.mjpeg", timeout=20)
        for _ in range(STREAMS):
            wait_until(lambda: head().status_code == 200)  # that the others have left is noticed by and by
        with ExitStack() as stack:

            def watching() -> bool:
                viewer = Viewer(pages, "/cameras/cam01.mjpeg")
                if viewer.status() == 200:
                    stack.enter_context(viewer)
                    return True
                viewer.__exit__(None, None, None)
                return False

            for _ in range(STREAMS):
                wait_until(watching)
            with Viewer(pages, "/cameras/cam01.mjpeg") as one_more:
                assert one_more.status() == 503
