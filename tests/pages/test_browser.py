"""The page in a real browser: Chromium, headless. Without one on the host these tests are skipped.

``apt-get install chromium``, or ``playwright install chromium``, brings one.
"""

import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count, cycle, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from framesrv import FrameWriter
from tests.support.pages import Shown
from tests.support.processes import Program, run, wait_for, write_config
from tests.support.redis_server import RedisServer

EIGHT = [f"gate-{number}" for number in range(1, 9)]
HUNDRED = [f"yard-{number:03}" for number in range(100)]
RED, GREEN = "rgb(192, 38, 45)", "rgb(26, 127, 55)"


NAMES = ("chromium", "chromium-browser", "google-chrome", "chromium-headless-shell")


def chromium() -> str | None:
    """The path of a browser: the host's, or one that Playwright has installed; None if there is none."""
    own = Path.home() / ".cache/ms-playwright"
    found = [path for name in NAMES if (path := shutil.which(name))]
    return next(iter([*found, *map(str, own.glob("chromium-*/chrome-linux*/chrome"))]), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("no Chromium on this host: apt-get install chromium, or playwright install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab that fails the test if the page's script does."""
    errors: list[str] = []
    page = browser.new_page(viewport={"width": 1280, "height": 720}, color_scheme="light")
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if "Content Security Policy" in line.text else None)
    yield page
    page.close()
    assert errors == []


class Host:
    """Redis, snapd with its page, and a decoder process for each of eight cameras."""

    def __init__(self, place: Path, prefix: str) -> None:
        self._place = place
        self._stack = ExitStack()
        redis = self._stack.enter_context(RedisServer(place / "redis"))
        cameras = [{"code": code, "source": "test:320x180@10"} for code in EIGHT]
        sections: dict[str, Any] = {
            "redis": {"url": redis.url},
            "store": {"kind": "dir", "path": str(place / "store")},
            "shm": {"prefix": prefix},
            "http": {"listen": "127.0.0.1:0"},
        }
        self.config = write_config(place / "framesrv.toml", sections, cameras)
        self.decoders = {code: self._stack.enter_context(self.decoder(code)) for code in EIGHT}
        log = place / "snapd.log"
        snapd = self._stack.enter_context(Program("snapd", "run", "--config", self.config, log=log))
        self.shown = Shown(snapd, self.config, None)  # type: ignore[arg-type]
        wait_for(lambda: all(one["state"] == "live" for one in self.shown.json("/cameras")), "eight live cameras", 60)

    def decoder(self, code: str) -> Program:
        return Program("framesrv", "decode", code, "--config", self.config, log=self._place / f"{code}.log")

    def revive(self, code: str) -> None:
        self.decoders[code] = self._stack.enter_context(self.decoder(code))

    def close(self) -> None:
        for decoder in self.decoders.values():
            if decoder.process.poll() is None:
                decoder.process.send_signal(signal.SIGTERM)
        for decoder in self.decoders.values():
            decoder.process.wait(20)
        self._stack.close()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    host = Host(tmp_path_factory.mktemp("host"), f"t{os.getpid()}b")
    yield host
    host.close()


def card(page: Page, code: str) -> Locator:
    return page.locator(f'.card[data-code="{code}"]')


def shown_cards(page: Page) -> Locator:
    return page.locator(".card:visible")


def picture(page: Page, code: str) -> Locator:
    return card(page, code).locator("img")


def pixels(image: Locator) -> str:
    """What it shows, as text."""
    drawn: str = image.evaluate(
        """image => {
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            canvas.getContext("2d").drawImage(image, 0, 0);
            return canvas.toDataURL();
        }"""
    )
    return drawn


def changes(image: Locator) -> None:
    """Waits until it has shown two pictures."""
    wait_for(lambda: image.evaluate("image => image.naturalWidth") > 0, "a picture")
    before = pixels(image)
    wait_for(lambda: pixels(image) != before, "another picture")


def test_grid_shows_every_camera_with_a_picture_that_changes(host: Host, page: Page) -> None:
    page.goto(host.shown.url)
    expect(shown_cards(page)).to_have_count(8)
    for code in EIGHT:
        expect(card(page, code).locator(".state")).to_have_text("live")
        expect(card(page, code).locator(".size")).to_have_text("320×180")
        changes(picture(page, code))
    expect(card(page, EIGHT[0])).to_have_css("border-top-color", GREEN)
    expect(page.locator("#status")).to_contain_text("snapd: serving; 0 waiting")


def test_killed_camera_turns_red_with_its_reason_and_green_when_it_is_back(host: Host, page: Page) -> None:
    code = EIGHT[2]
    page.goto(host.shown.url)
    changes(picture(page, code))
    looks: list[str] = []
    page.on("response", lambda answer: looks.append(answer.url) if answer.url.endswith("/overview") else None)
    host.decoders[code].process.kill()
    dead = card(page, code)
    expect(dead).to_have_css("border-top-color", RED, timeout=20_000)
    assert len(looks) <= 3  # one a second
    expect(dead.locator(".state")).to_have_text("down")
    expect(dead.locator(".reason")).to_have_text("its decoder died")
    expect(card(page, EIGHT[3]).locator(".state")).to_have_text("live")
    host.revive(code)
    expect(dead).to_have_css("border-top-color", GREEN, timeout=30_000)
    expect(dead.locator(".restarts")).to_have_text("1")
    expect(dead.locator(".reason")).to_have_text("")
    changes(picture(page, code))


def test_large_view_streams_until_it_is_closed_by_key_or_by_click(host: Host, page: Page) -> None:
    page.goto(host.shown.url)
    for way in ("key", "click"):
        card(page, EIGHT[1]).locator("button").click()
        expect(page.locator("#large")).to_be_visible()
        expect(page.locator("#large-code")).to_have_text(EIGHT[1])
        changes(page.locator("#large img"))
        wait_for(lambda: host.shown.metric("snapd_page_viewers") == 1, "a viewer")
        assert page.evaluate("location.hash") == f"#camera={EIGHT[1]}"
        if way == "key":
            page.keyboard.press("Escape")
        else:
            page.locator("#close").click()
        expect(page.locator("#large")).to_be_hidden()
        wait_for(lambda: host.shown.metric("snapd_page_viewers") == 0, "no viewer")
        assert page.evaluate("location.hash") == ""
    page.goto(f"{host.shown.url}/#camera={EIGHT[5]}")
    page.reload()
    expect(page.locator("#large-code")).to_have_text(EIGHT[5])


def test_filter_stands_in_the_address(host: Host, page: Page) -> None:
    page.goto(host.shown.url)
    expect(shown_cards(page)).to_have_count(8)
    page.locator("#words").fill("GATE 7")
    expect(shown_cards(page)).to_have_count(1)
    assert page.url.endswith("#name=GATE+7")
    page.locator("#words").fill("")
    page.locator(".chip", has_text="down").click()
    expect(shown_cards(page)).to_have_count(0)
    expect(page.locator("#nothing")).to_be_visible()
    page.goto(f"{host.shown.url}/#name=gate&state=live,stalled")
    page.reload()
    expect(shown_cards(page)).to_have_count(8)
    expect(page.locator(".chip[aria-pressed=true]")).to_have_count(2)
    expect(page.locator("#words")).to_have_value("gate")


def test_requests_appear_with_their_stages(host: Host, page: Page) -> None:
    page.goto(host.shown.url)
    assert run("snapd", "request", EIGHT[0], "--config", host.config).returncode == 0
    row = page.locator("#requests tr").first
    expect(row).to_contain_text(EIGHT[0], timeout=20_000)
    expect(row.locator(".stages")).to_have_attribute(
        "title", re.compile(r"queued [\d.]+ ms, waiting .*, encoding .*, uploading .*, callback ")
    )


def test_hidden_tab_asks_for_nothing(host: Host, page: Page) -> None:
    page.goto(host.shown.url)
    changes(picture(page, EIGHT[0]))
    asked: list[str] = []
    page.evaluate(
        """() => {
            window.hide = (hidden) => {
                Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
                document.dispatchEvent(new Event("visibilitychange"));
            };
            hide(true);
        }"""
    )
    page.wait_for_load_state("networkidle")
    page.on("request", lambda request: asked.append(request.url) if request.url.startswith("http") else None)
    page.wait_for_timeout(3000)  # three looks' time, in which nothing must happen
    assert asked == []
    page.evaluate("hide(false)")
    changes(picture(page, EIGHT[0]))


def test_hundred_cameras_cost_what_is_on_screen_and_the_page_goes_on(
    page: Page, prefix: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    sections: dict[str, Any] = {
        "redis": {"url": redis_server.url},
        "store": {"kind": "dir", "path": str(tmp_path / "store")},
        "shm": {"prefix": prefix},
        "http": {"listen": "127.0.0.1:0"},
    }
    config = write_config(
        tmp_path / "c.toml", sections, [{"code": code, "source": "test:64x48@5"} for code in HUNDRED]
    )
    ended = threading.Event()

    def paint() -> None:
        shade = 0
        while not ended.wait(0.2):
            shade = (shade + 7) % 200
            for writer in writers:
                writer.write([np.full(shape, shade, np.uint8) for shape in ((48, 64), (24, 32), (24, 32))])

    with ExitStack() as stack:
        writers = [stack.enter_context(FrameWriter(code, 64, 48, "yuv420p", prefix=prefix)) for code in HUNDRED]
        painter = threading.Thread(target=paint)
        painter.start()
        stack.callback(painter.join)
        stack.callback(ended.set)
        shown = Shown(
            stack.enter_context(Program("snapd", "run", "--config", config, log=tmp_path / "log")),
            config,
            None,  # type: ignore[arg-type]
        )
        asked: set[str] = set()
        page.on("request", lambda request: asked.add(request.url) if ".jpg" in request.url else None)
        page.goto(shown.url)
        expect(shown_cards(page)).to_have_count(100)
        changes(picture(page, HUNDRED[0]))
        assert 0 < len(asked) < 60
        assert not any(HUNDRED[-1] in url for url in asked)
        card(page, HUNDRED[-1]).scroll_into_view_if_needed()
        changes(picture(page, HUNDRED[-1]))
        page.locator("#words").fill("yard-05")
        expect(shown_cards(page)).to_have_count(10)
        changes(picture(page, HUNDRED[55]))


def test_large_view_keeps_its_stream_when_the_rate_jitters_around_two_a_second(
    page: Page, prefix: str, redis_server: RedisServer, tmp_path: Path
) -> None:
    """Its address had the camera's rate in it, and each look at another rate began another stream."""
    sections: dict[str, Any] = {
        "redis": {"url": redis_server.url},
        "store": {"kind": "dir", "path": str(tmp_path / "store")},
        "shm": {"prefix": prefix},
        "http": {"listen": "127.0.0.1:0"},
    }
    config = write_config(tmp_path / "c.toml", sections, [{"code": "slow", "source": "test:64x48@2"}])
    ended = threading.Event()

    def paint() -> None:
        # seconds between frames: above two a second for a while, after a pause below for a while, and back
        pauses = cycle([*[0.4] * 4, 2.5, *[0.55] * 4, *[0.1] * 5])
        for number in count():
            writer.write([np.full(shape, number % 200, np.uint8) for shape in ((48, 64), (24, 32), (24, 32))])
            if ended.wait(next(pauses)):
                return

    with ExitStack() as stack:
        writer = stack.enter_context(FrameWriter("slow", 64, 48, "yuv420p", prefix=prefix))
        painter = threading.Thread(target=paint)
        painter.start()
        stack.callback(painter.join)
        stack.callback(ended.set)
        log = tmp_path / "log"
        snapd = stack.enter_context(Program("snapd", "run", "--config", config, log=log))
        shown = Shown(snapd, config, None)  # type: ignore[arg-type]
        wait_for(lambda: 1.5 < shown.json("/cameras")[0]["fps"] < 2.5, "a rate of about two")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url) if ".mjpeg" in request.url else None)
        page.goto(f"{shown.url}/#camera=slow")
        changes(page.locator("#large img"))
        source = page.locator("#large img").get_attribute("src")
        rates: list[float] = []

        def crossings() -> int:
            facts = page.locator("#large .facts").inner_text()
            rates.append(float(re.findall(r"([\d.]+) fps", facts)[0]))
            assert page.locator("#large img").get_attribute("src") == source
            return sum((one < 2) != (other < 2) for one, other in pairwise(rates))

        wait_for(lambda: crossings() >= 4, "a rate that goes below two and above, again and again", 60)
        assert len(asked) == 1
        changes(page.locator("#large img"))
