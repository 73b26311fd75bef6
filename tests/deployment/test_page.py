"""The page in a browser: on a desk and on a phone, in both languages, light and dark, with pictures and with what is none."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import SHARED, encoded

CHROMIUM = Path("/usr/bin/chromium")
pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no browser at {CHROMIUM}")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install 'tapetum[dev]'")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed")
expect = sync_api.expect

CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
DROP = """([files, kind]) => {
  const data = new DataTransfer();
  for (const [name, type, text] of files) {
    const decoded = () => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const bytes = typeof text === "number" ? new Uint8Array(text) : decoded();
    data.items.add(new File([bytes], name, { type }));
  }
  const event = kind === "paste" ? new ClipboardEvent("paste", { clipboardData: data, bubbles: true })
    : new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true });
  document.body.dispatchEvent(event);
}"""


def photo(kind, name):
    path = SHARED / "cats-dogs" / kind / name
    if path.exists():
        return path.read_bytes()
    small = np.random.default_rng(len(name)).integers(0, 256, (6, 8, 3), np.uint8)
    return encoded(Image.fromarray(small).resize((320, 240), Image.Resampling.BICUBIC), "JPEG")


CAT, DOG = photo("Cat", "cat.700.jpg"), photo("Dog", "dog.700.jpg")
FILES = [
    ("cat.jpg", "image/jpeg", CAT),
    ("dog.jpg", "image/jpeg", DOG),
    ("broken.jpg", "image/jpeg", CAT[: len(CAT) // 2]),
    ("<b>note</b>.txt", "text/plain", b"hello"),
    ("empty.png", "image/png", b""),
]


def plain(files):
    return [[name, kind, data if isinstance(data, int) else base64.b64encode(data).decode()] for name, kind, data in files]


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", *CAMERA])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, plain_server):
    """Opens the page; at the end nothing was said in the console and nobody else was asked."""
    said, asked, contexts = [], [], []

    def open_page(width=1280, language="en-US", scheme="light", **more):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, locale=language, color_scheme=scheme, has_touch=width < 500, **more
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(f"http://127.0.0.1:{plain_server.port}/")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    own = (f"http://127.0.0.1:{plain_server.port}/", f"blob:http://127.0.0.1:{plain_server.port}/")
    assert [url for url in asked if not url.startswith(own)] == []


def drop(page, files, kind="drop", answers=None):
    page.evaluate(DROP, [plain(files), kind])
    expect(page.locator(".answer:not(.waiting)")).to_have_count(len(files) if answers is None else answers, timeout=20_000)


def serious(page):
    found = axe.Axe().run(page).response["violations"]
    return [(each["id"], each["nodes"][0]["html"]) for each in found if each["impact"] in ("serious", "critical")]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_pictures_get_answers_and_what_is_none_gets_a_reason(visit, width, scheme):
    page = visit(width, scheme=scheme)
    drop(page, FILES)
    words = page.locator(".answer").all_inner_texts()[::-1]  # the last comes first
    for name, text in zip(("cat.jpg", "dog.jpg"), words[:2], strict=True):
        assert name in text
        assert "lying" in text
        assert "upright" in text
        assert text.count("%") == 2
    assert "This picture is damaged" in words[2]
    assert "<b>note</b>.txt" in words[3]
    assert "This is not a picture that can be read" in words[3]
    assert "This is not a picture" in words[4]
    assert page.locator("b").count() == 0
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert serious(page) == []


@pytest.mark.parametrize("width", [1280, 390])
def test_language_and_theme_switch_and_are_remembered(visit, width):
    page = visit(width, language="ko-KR", scheme="dark")
    expect(page.locator("h1")).to_have_text("사진 속에 무엇이 있나요?")
    assert page.evaluate("() => document.documentElement.lang") == "ko"
    drop(page, FILES[3:4])
    expect(page.locator(".answer .label")).to_have_text("읽을 수 있는 사진이 아닙니다.")
    assert serious(page) == []
    dark = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    page.click("#language")
    page.click("#theme")
    expect(page.locator(".answer .label")).to_have_text("This is not a picture that can be read.")
    assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") != dark
    assert serious(page) == []
    page.reload()
    expect(page.locator("h1")).to_have_text("What is in the picture?")
    assert page.evaluate("() => document.documentElement.dataset.theme") == "light"


@pytest.mark.parametrize(
    ("language", "shape"),
    [
        ("en-US", r"^\d+ of \d+ \w+ pictures were named right: \d+ % \(\d+ to \d+ %\)\.$"),
        ("ko-KR", r"^\S+ 사진 \d+장 가운데 \d+장을 맞혔습니다: \d+ % \(95 % 신뢰구간 \d+~\d+ %\)\.$"),
    ],
)
def test_it_says_how_many_were_named_right(visit, language, shape):
    expect(visit(language=language).locator("#worth")).to_have_text(re.compile(shape))


def test_the_heat_map_comes_when_asked_for_and_goes_again(visit):
    page = visit()
    drop(page, FILES[:1])
    page.click(".warm")
    expect(page.locator(".heat")).to_be_visible()
    assert page.locator(".heat").evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 224
    assert "Coloured: where the model saw" in page.locator(".heat").get_attribute("alt")
    page.click(".warm")
    expect(page.locator(".picture")).to_be_visible()


def test_pasting_choosing_and_the_camera_work(visit):
    page = visit(390, permissions=["camera"])
    drop(page, FILES[:1], "paste")
    page.set_input_files("#file", [{"name": "dog.jpg", "mimeType": "image/jpeg", "buffer": DOG}])
    expect(page.locator(".answer:not(.waiting)")).to_have_count(2)
    page.click("#camera")
    expect(page.locator("#video")).to_be_visible()
    page.locator("#video").evaluate("(video) => new Promise((done) => video.videoWidth ? done() : video.onloadeddata = done)")
    page.click("#shoot")
    expect(page.locator(".answer:not(.waiting)")).to_have_count(3)
    page.click("#stop")
    expect(page.locator("#video")).to_be_hidden()
    page.click("#clear")
    expect(page.locator(".answer")).to_have_count(0)


def test_a_file_that_is_too_large_is_not_even_sent(visit):
    page = visit()
    drop(page, [("large.png", "image/png", 10_000_001)])
    expect(page.locator(".answer .label")).to_have_text("This file is too large: 10 MB at most.")


def test_only_the_last_answers_are_kept(visit):
    page = visit()
    drop(page, [(f"{n}.txt", "text/plain", b"hello") for n in range(23)], answers=20)
    assert "22.txt" in page.locator(".answer").first.inner_text()


def test_the_page_can_be_used_by_keyboard(visit):
    page = visit()
    names = []
    for _ in range(5):
        page.keyboard.press("Tab")
        names.append(page.evaluate("() => document.activeElement.id"))
    assert {"language", "theme", "file", "camera"} <= set(names)


def test_a_class_of_any_name_is_text(browser, served_run, tmp_path):
    import dataclasses

    from server_thread import Running
    from tapetum.inference.classifier import load

    odd = ("<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>")
    dataclasses.replace(load(served_run), classes_=odd).save(tmp_path / "model.safetensors")
    server = Running(tmp_path)
    try:
        page = browser.new_page()
        said = []
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("console", lambda message: said.append(message.text))
        page.goto(f"http://127.0.0.1:{server.port}/")
        drop(page, FILES[:1])
        assert all(name in page.locator(".answer").inner_text() for name in odd)
        assert page.locator("img[src=x]").count() == 0
        assert said == []
        page.close()
    finally:
        server.stop()
