"""What was shown a while ago: pictures, clips and the slider of the large view, and that a browser plays a clip."""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import requests
import simplejpeg
from playwright.sync_api import Browser, Page, expect

from framesrv import History
from snapd.pages.app import CLIPS
from tests.pages.test_browser import browser, page  # noqa: F401  fixtures
from tests.support.cos import CosServer
from tests.support.edge import Edge
from tests.support.pages import Shown, shown
from tests.support.processes import run, wait_for, write_config
from tests.support.recorded import EXACT, FORGETFUL, FPS, GROUP, H264, HEVC, Recorded, play, taken_at
from tests.support.redis_server import RedisServer
from tests.support.wvp import WvpServer


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    with Recorded(tmp_path_factory.mktemp("recorded"), f"t{time.time_ns() // 1000 % 10**9}p") as cameras:
        yield cameras


@pytest.fixture(scope="module")
def there(recorded: Recorded, redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    with CosServer() as cos, WvpServer() as wvp, Edge(redis_server, cos, wvp) as edge:
        edge.prefix = recorded.prefix
        with shown(edge, tmp_path_factory.mktemp("snapd"), snapshot={"max_age": 2.0, "wait": 2.0}) as program:
            yield program


def test_picture_of_a_moment_is_the_one_shown_then(there: Shown, recorded: Recorded) -> None:
    base = time.time() - 2
    for at, moment in ((f"{base:.6f}", base), (f"{(base + 0.4) * 1000:.3f}", base + 0.4)):
        response = there.get(f"/cameras/{H264}.jpg?at={at}&width=320")
        assert (response.status_code, response.headers["Content-Type"]) == (200, "image/jpeg"), response.text
        assert simplejpeg.decode_jpeg_header(response.content)[:2] == (180, 320)
        taken = taken_at(response.content)
        assert abs(taken - recorded.shown_at(H264, moment)) < EXACT
        assert abs(float(response.headers["X-Frame-Captured-At"]) - taken) < EXACT
    assert there.get(f"/cameras/{H264}.jpg?at=-1").status_code == 200


@pytest.mark.parametrize("code", [H264, HEVC])
def test_clip_is_as_the_camera_sent_it(there: Shown, recorded: Recorded, code: str) -> None:
    moment = time.time()
    response = there.get(f"/cameras/{code}.mp4?before=1&after=1&at={moment:.6f}")
    assert time.time() - moment > 1
    assert (response.status_code, response.headers["Content-Type"]) == (200, "video/mp4"), response.text
    found = play(response.content, code)
    assert found.indices[0] % GROUP == 0
    assert all((after - before) % 100 == 1 for before, after in pairwise(found.indices))
    begin = float(response.headers["X-Frame-Captured-At"])
    assert abs(begin - recorded.key_at(code, moment - 1)) < EXACT


def test_lists_of_cameras_say_how_much_each_keeps_and_from_when(
    there: Shown, recorded: Recorded, tmp_path: Path
) -> None:
    cameras = [{"code": code, "source": "test:64x48@1"} for code in (H264, FORGETFUL)]
    config = write_config(tmp_path / "framesrv.toml", {"shm": {"prefix": recorded.prefix}}, cameras)
    listed = json.loads(run("framesrv", "ls", "--json", "--config", config).stdout)
    for rows in (listed, there.get("/cameras").json()):
        found = {row["code"]: (row["history_from"], row["history_s"]) for row in rows}
        with History(H264, prefix=recorded.prefix) as history:
            oldest, newest = history.span()  # which have gone on since
        begin, seconds = found[H264]
        assert oldest - 60 < begin <= oldest
        assert 1.0 < seconds <= newest - begin + 0.001  # it is rounded
        assert found[FORGETFUL] == (None, None)
    assert [row.keys() for row in listed] == [rows[0].keys()] * len(listed)


def test_what_cannot_be_or_is_not_there_is_told(there: Shown) -> None:
    for path, status, words in (
        (f"{H264}.jpg?at=yesterday", 400, "at='yesterday': expected Unix seconds or milliseconds, or -2.5"),
        (f"{H264}.jpg?at=nan", 400, "expected Unix seconds"),
        (f"{H264}.jpg?at=-1&crop=600,0,100,100", 400, "does not lie within 640x360"),
        (f"{H264}.jpg?at=-3600", 404, H264),
        (f"{FORGETFUL}.jpg?at=-1", 404, FORGETFUL),
        ("nosuch.mp4", 404, "There is no camera 'nosuch'"),
        (f"{H264}.mp4?before=0&after=0", 400, "expected one of them above 0"),
        (f"{H264}.mp4?before=601", 400, "before='601': expected a number from 0 to 600"),
        (f"{H264}.mp4?after=1e3", 400, "after='1e3': expected a number from 0 to 30"),
        (f"{H264}.mp4?at=9999999999", 400, "to come"),
        (f"{H264}.mp4?before=500", 404, H264),
        (f"{FORGETFUL}.mp4", 404, FORGETFUL),
    ):
        response = there.get(f"/cameras/{path}")
        assert (response.status_code, words in response.text) == (status, True), (path, response.text)
    assert there.get(f"/cameras/{FORGETFUL}.jpg?at=-1").headers["X-Reason"] == "no_history"


def test_clip_is_for_those_alone_who_may_see_the_pages(edge: Edge, recorded: Recorded, tmp_path: Path) -> None:
    edge.prefix = recorded.prefix
    with shown(edge, tmp_path, http={"token": "0123456789abcdef"}) as pages:
        for path in (f"/cameras/{H264}.mp4?before=1", f"/cameras/{H264}.jpg?at=-1"):
            assert pages.get(path).status_code == 401
            assert pages.get(path, Authorization="Bearer 0123456789abcdef").status_code == 200


def test_so_many_clips_are_made_at_once_and_places_come_back(there: Shown) -> None:
    url = f"{there.url}/cameras/{H264}.mp4?before=0.1&after="
    with ThreadPoolExecutor(2 * CLIPS) as pool:

        def refusals() -> set[str]:
            """What those are told that are too many, of twice as many as there are places."""
            answers = list(pool.map(lambda _: requests.get(f"{url}1", timeout=30), range(2 * CLIPS)))
            assert {answer.status_code for answer in answers} <= {200, 503}
            return {answer.text for answer in answers if answer.status_code == 503}

        words = f"{CLIPS} clips are made at once, and no more; try again when one has ended.\n"
        assert wait_for(refusals, "some that are too many") == {words}
    assert requests.get(f"{url}0", timeout=30).status_code == 200


PLAY = """async video => {
    const seen = [];
    video.muted = true;
    video.ontimeupdate = () => seen.push(video.currentTime);
    const ended = new Promise((resolve, reject) => {
        video.onended = resolve;
        video.onerror = () => reject(new Error(video.error.message));
    });
    video.src = video.dataset.source;
    await video.play();
    await ended;
    return [video.videoWidth, video.videoHeight, video.duration, video.currentTime, seen];
}"""


def test_chromium_plays_a_clip_to_its_end(there: Shown, browser: Browser) -> None:  # noqa: F811
    tab = browser.new_page()
    tab.goto(f"{there.url}/healthz")  # of the same origin
    source = f"{there.url}/cameras/{H264}.mp4?before=1&after=0"
    tab.evaluate(f"document.body.innerHTML = `<video data-source='{source}'></video>`")
    width, height, duration, last, seen = tab.locator("video").evaluate(PLAY)
    tab.close()
    assert (width, height) == (640, 360)
    assert 1 <= duration <= 1 + GROUP / FPS + 0.5
    assert abs(last - duration) < 0.1
    assert seen == sorted(seen)


def test_slider_shows_what_was_a_while_ago(there: Shown, page: Page) -> None:  # noqa: F811
    page.goto(f"{there.url}/#camera={H264}")
    ago, then = page.locator("#ago"), page.locator("#then")
    expect(ago).to_be_visible()
    expect(then).to_have_text("live")
    assert -16 < float(ago.get_attribute("min") or 0) < -3
    image = page.locator("#large img")
    expect(image).to_have_attribute("src", re.compile(r"cam01\.mjpeg"))
    ago.fill("-2")
    expect(image).to_have_attribute("src", re.compile("^blob:"))
    expect(then).to_have_text(re.compile(r"\d:\d\d\.\d{3}"))
    with page.expect_download() as download:
        page.locator("#clip").click()
    assert download.value.path().read_bytes()[4:8] == b"ftyp"
    ago.fill("0")
    expect(then).to_have_text("live")
    expect(image).to_have_attribute("src", re.compile(r"cam01\.mjpeg"))
    page.goto(f"{there.url}/#camera={FORGETFUL}")
    expect(page.locator("#large-code")).to_have_text(FORGETFUL)
    expect(ago).to_be_hidden()
