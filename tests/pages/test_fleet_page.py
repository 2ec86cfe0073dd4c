"""The page of a fleet, in a real browser."""

from pathlib import Path

from playwright.sync_api import Page, expect

from tests.pages.test_browser import browser, page  # noqa: F401  fixtures
from tests.support.edge import GROUP, STREAM, Edge
from tests.support.hosts import beat, died, stream_of
from tests.support.pages import shown


def test_hosts_routers_and_cameras_on_several_are_seen(edge: Edge, tmp_path: Path, page: Page) -> None:  # noqa: F811
    edge.redis.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    died(edge, "edge0", ["cam77"], ago=200.0)
    beat(edge, stream_of(edge, "edge2"), ["cam01"], ago=-60.0)
    with shown(edge, tmp_path, stream={"routed": True, "host": "edge1"}) as host:
        page.goto(f"{host.url}/")
        page.get_by_role("link", name="hosts").click()
        rows = page.locator("#hosts tr")
        expect(rows).to_have_count(3)
        expect(rows.nth(0)).to_contain_text("edge0dead1")
        expect(rows.nth(1)).to_contain_text("edge1live4")
        expect(page.locator("#doubled-list li")).to_have_text("cam01: edge1, edge2; edge1 answers")
        expect(page.get_by_role("status")).to_contain_text("no router is alive")
        page.get_by_role("link", name="framesrv").click()
        expect(page.get_by_role("heading", name="Last requests")).to_be_visible()
