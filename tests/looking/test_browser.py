"""The pages in a real browser (Debian's Chromium through Playwright): wide and narrow, light and dark, without a mouse."""

import shutil

import pytest

from tapetum.data.sources import find_pictures
from tapetum.inference.classifier import load
from tapetum.looking.explain import explain
from tapetum.looking.report import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="pages are not opened: pip install playwright axe-playwright-python"
    )
    pytest.importorskip("axe_playwright_python", reason="pages are not opened: pip install playwright axe-playwright-python")
    if CHROMIUM is None:
        pytest.skip("pages are not opened: there is no chromium here (Debian: apt-get install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def pages(plain_run, crossed_run, tmp_path_factory):
    """Every page that this package writes about a run."""
    folder = tmp_path_factory.mktemp("pages")
    stripes = plain_run.parent / "stripes"
    some = [stripes / "upright" / f"upright.{i}.png" for i in range(3)]
    return {
        "en": write_report(plain_run, folder / "en.html"),
        "ko": write_report(crossed_run, folder / "ko.html", lang="ko"),
        "explain": explain(load(plain_run, "cpu"), find_pictures(some), folder / "explained", most=2)[0],
    }


def opened(browser, page, width, scheme):
    """A tab with the page in it, and what went wrong on the way."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    tab, wrong = context.new_page(), []
    tab.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("request", lambda asked: wrong.append(asked.url) if not asked.url.startswith(("file://", "data:")) else None)
    tab.goto(page.as_uri())
    return tab, wrong


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["en", "ko", "explain"])
def test_a_page_is_whole_for_everybody(browser, pages, name, width, scheme):
    from axe_playwright_python.sync_playwright import Axe

    tab, wrong = opened(browser, pages[name], width, scheme)
    for each in tab.locator("details").all():
        each.evaluate("element => element.open = true")
    found = Axe().run(tab)
    serious = [each for each in found.response["violations"] if each["impact"] in ("serious", "critical")]
    assert not serious, [(each["id"], each["nodes"][0]["html"]) for each in serious]
    assert found.response["passes"]
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert tab.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert not wrong
    tab.context.close()


def test_the_keyboard_reaches_what_can_be_opened_and_scrolled(browser, pages):
    tab, _ = opened(browser, pages["en"], 390, "light")
    reached = set()
    for _ in range(60):
        tab.keyboard.press("Tab")
        reached.add(tab.evaluate("document.activeElement.tagName + '.' + document.activeElement.className"))
    assert {"A.", "SUMMARY.", "DIV.wide", "DIV.drawing", "PRE."} <= reached
    tab.context.close()


@pytest.mark.parametrize(("width", "whole"), [(1280, True), (390, False)])
def test_the_drawing_of_the_network_is_whole_where_it_can_be(browser, pages, width, whole):
    tab, _ = opened(browser, pages["en"], width, "light")
    wide = tab.locator(".drawing").evaluate("each => each.scrollWidth <= each.clientWidth")
    assert wide == whole
    assert tab.locator("figure:has(.drawing) figcaption").evaluate("each => each.scrollWidth <= each.clientWidth")
    tab.context.close()


def test_charts_change_with_the_light(browser, pages):
    colours = []
    for scheme in ("light", "dark"):
        tab, _ = opened(browser, pages["en"], 1280, scheme)
        ink = "getComputedStyle(document.querySelector('svg.chart text')).fill"
        paper = "getComputedStyle(document.documentElement).backgroundColor"
        colours.append((tab.evaluate(ink), tab.evaluate(paper)))
        tab.context.close()
    assert colours[0][0] == "rgb(0, 0, 0)"
    assert colours[1][0] == "rgb(255, 255, 255)"
    assert colours[0][1] != colours[1][1]


def test_the_watch_sees_what_a_page_must_not_do(browser, tmp_path):
    bad = tmp_path / "bad.html"
    bad.write_text(
        '<html><body><img src="http://127.0.0.1:9/x.png"><p style="color:#eee;background:#fff">pale</p></body></html>'
    )
    from axe_playwright_python.sync_playwright import Axe

    tab, wrong = opened(browser, bad, 390, "light")
    assert any("127.0.0.1:9" in each for each in wrong)
    assert {"image-alt", "color-contrast", "html-has-lang"} <= {each["id"] for each in Axe().run(tab).response["violations"]}
    tab.context.close()
