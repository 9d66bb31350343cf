"""The page in a browser: it opens cells, works by keyboard, and runs only its own script."""

import re
import shutil

import pytest
from pages import HOSTILE_LABELS, hostile_model

import featx

pytestmark = [
    pytest.mark.slow,
    # Keras converts TensorFlow's variables in a way that NumPy 2 deprecates.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    sync = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install '.[dev]'")
    with sync.sync_playwright() as play:
        # As root, in a container, Chromium has no sandbox.
        started = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory, make_store, make_image_folder):
    """A page of each kind; that of the model has hostile names."""
    folder = tmp_path_factory.mktemp("pages")
    make_image_folder(folder / "data")
    tiny = {"weights": "random:0", "size": 32}
    featx.sweep(folder / "data", pool="avg", output=folder / "sweep", **tiny)
    featx.finetune(
        folder / "data", layer="block1_pool", init="random", size=32, epochs=1,
        output=folder / "tuned",
    )  # fmt: skip
    sources = {
        "model": hostile_model(folder, make_store),
        "sweep": folder / "sweep",
        "tuned": folder / "tuned",
    }
    return {
        name: featx.write_report(source, folder / f"{name}.html")
        for name, source in sources.items()
    }


@pytest.fixture
def open_page(browser, pages):
    """Return a function that opens a page; there must be no errors, dialogs or requests."""
    opened, wrong = [], []

    def call(name, width=1600, **settings):
        page = browser.new_page(viewport={"width": width, "height": 900}, **settings)
        opened.append(page)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        own = pages[name].as_uri()
        page.on(
            "request",
            lambda request: request.url.startswith(("data:", own)) or wrong.append(request.url),
        )
        page.goto(own)
        return page

    yield call
    for page in opened:
        page.close()
    assert not wrong


def cards(page):
    return page.locator("#cell .card")


@pytest.mark.parametrize("name", ["model", "sweep", "tuned"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_a_page_fits_and_can_be_read(open_page, name, scheme, width):
    """There is no horizontal scrolling, and text has enough contrast."""
    page = open_page(name, width, color_scheme=scheme)
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width
    ground, ink = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    )
    brightness = [sum(map(int, re.findall(r"\d+", colour)[:3])) / 765 for colour in (ground, ink)]
    assert abs(brightness[0] - brightness[1]) > 0.7
    assert (brightness[0] < 0.3) == (scheme == "dark")
    words = page.locator("#confusion text").first
    assert words.evaluate("e => getComputedStyle(e).fill") == ink
    assert page.locator("section h2").count() >= 7


def test_a_click_on_a_cell_shows_its_images(open_page):
    page = open_page("model")
    assert cards(page).count() == 0
    for cell in page.locator("#matrix [data-key]").all():
        cell.click()
        n = int(re.match(r"\d+", cell.get_attribute("aria-label"))[0])
        assert cards(page).count() == min(n, 24)
        assert page.locator("#cell h3").inner_text() == cell.get_attribute("aria-label")
        assert cell.get_attribute("aria-pressed") == "true"
    thumb = page.locator("#cell .thumb").first
    assert thumb.evaluate("e => getComputedStyle(e).backgroundImage").startswith('url("data:image/')
    assert thumb.bounding_box()["width"] > 40


def test_the_page_works_by_keyboard(open_page):
    """The tab key reaches a cell and a point, arrow keys move on, and Enter opens a cell."""
    page = open_page("model")
    first = page.locator('#matrix [tabindex="0"]')
    first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#cell h3").inner_text() == first.get_attribute("aria-label")
    page.keyboard.press("ArrowDown")
    second = page.evaluate("document.activeElement.getAttribute('aria-label')")
    page.keyboard.press("Space")
    assert page.locator("#cell h3").inner_text() == second
    assert page.locator('#matrix [tabindex="0"]').count() == 1
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("!!document.activeElement.closest('#plane [data-key]')"):
            break
    hover = page.locator("#hover")
    assert hover.is_visible()
    before = hover.inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert hover.is_visible()
    assert hover.inner_text() != before
    page.keyboard.press("Escape")
    assert hover.is_hidden()


def test_heat_maps_are_drawn_beside_their_images(open_page):
    page = open_page("tuned", 400)
    sizes = page.locator(".heat img").evaluate_all(
        "all => all.map(e => [e.naturalWidth, e.naturalHeight, e.getBoundingClientRect().width])"
    )
    assert len(sizes) >= 2
    assert all(wide == high > 0 and shown > 100 for wide, high, shown in sizes)


def test_a_point_shows_its_image(open_page):
    page = open_page("model", 400, reduced_motion="reduce")
    point = page.locator("#plane use[data-key]").nth(5)
    point.scroll_into_view_if_needed()
    # Scrolling hides the image, one frame later.
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    point.dispatch_event("pointerover")
    assert point.get_attribute("aria-label").startswith(page.locator("#hover .path").inner_text())
    box = page.locator("#hover").bounding_box()
    assert 0 <= box["x"] <= box["x"] + box["width"] <= 400


def test_tables_sort_by_click_and_by_key(open_page):
    page = open_page("sweep")
    head = page.locator("#sweep th button", has_text=re.compile("^accuracy$"))
    values = "rows => rows.map(row => Number(row.cells[1].dataset.value))"

    def column():
        return page.locator("#sweep tbody tr").evaluate_all(values)

    head.click()
    assert column() == sorted(column(), reverse=True)
    head.press("Enter")
    assert column() == sorted(column())
    assert page.locator("#sweep th[aria-sort]").get_attribute("aria-sort") == "ascending"
    page.locator("#sweep th button", has_text="layers").click()
    names = page.locator("#sweep tbody th").evaluate_all("cells => cells.map(c => c.dataset.value)")
    assert names == sorted(names)


def test_hostile_names_are_shown_and_do_nothing(open_page):
    """Every cell is opened and every point shown, without dialogs, requests or elements."""
    page = open_page("model")
    for cell in page.locator("#matrix [data-key]").all():
        cell.focus()
        page.keyboard.press("Enter")
    for point in page.locator("#plane [data-key]").all():
        point.focus()
    assert page.locator("img, main script, b[onclick]").count() == 0
    body = page.locator("main").inner_text()
    for label in HOSTILE_LABELS:
        assert label in body
    for path in ("<img src=x onerror=alert(1)>.png", "javascript:alert(1)", "{{7*191}}"):
        assert path in page.content().replace("&lt;", "<").replace("&gt;", ">")


def test_printed_pages_have_colours_and_no_menu(open_page):
    page = open_page("model")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator("nav").is_hidden()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#images .thumb").first.is_visible()
    assert len(page.pdf()) > 10_000
