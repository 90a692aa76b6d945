"""The page in a real browser against a real server: user actions and their visible results."""

import base64
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Browser, Page, Route, expect

from cifar10_serving.artifacts.layout import version_folder
from cifar10_serving.artifacts.tutorial import TUTORIAL_FILE
from tests.conftest import MODELS, SAMPLES, golden_class
from tests.e2e.browser import chromium
from tests.e2e.server import Server, running_server
from training.cifar10 import CLASS_NAMES

pytestmark = pytest.mark.browser

CAT, SHIP = SAMPLES[3], SAMPLES[8]
VERSIONS = (("sequential", 1), ("sequential", 2), ("functional", 2))
DESKTOP = {"width": 1360, "height": 900}
PHONE = {"width": 360, "height": 740}
PROBLEM: dict[str, Any] = {
    "type": "urn:x",
    "title": "Busy",
    "status": 503,
    "detail": "512 images are queued for sequential",
}
PROBLEM_JSON = "application/problem+json"
PASTE = """data => {
  const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "pasted.png", {type: "image/png"}));
  document.dispatchEvent(new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true}));
}"""
DROP = """data => {
  const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "dropped.png", {type: "image/png"}));
  for (const kind of ["dragenter", "dragover", "drop"])
    document.body.dispatchEvent(new DragEvent(kind, {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""
FIRST_PAGE_MS = 60_000
"""A browser's first page takes its time where the machine has other work, such as an image that is built."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("page")
    for name, version in VERSIONS:
        shutil.copytree(version_folder(MODELS, name, version), version_folder(folder / "models", name, version))
        shutil.copy(MODELS / name / TUTORIAL_FILE, folder / "models" / name)
    settings = {"CIFAR10_MODELS": str(folder / "models"), "CIFAR10_VERSION_POLICY": "all", "CIFAR10_INSTANCE": "node-7"}
    with running_server(folder / "log", **settings) as running:
        yield running


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JPEG of 12 megapixels, and of more bytes than the page calls large."""
    file = tmp_path_factory.mktemp("photo") / "photo.jpg"
    noise = Image.effect_noise((1000, 750), 60).convert("RGB").resize((4000, 3000))
    noise.save(file, quality=92)
    return file


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    yield from opened(browser, server)


def opened(browser: Browser, server: Server, viewport: Any = DESKTOP, **options: Any) -> Iterator[Page]:
    """The page; whatever it writes to its console, such as a breach of the security policy, fails the test."""
    context = browser.new_context(viewport=viewport, **options)
    page = context.new_page()
    page.set_default_timeout(10_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console", lambda message: complaints.append(message.text) if "Failed to load" not in message.text else None
    )
    page.goto(server.url)
    expect(page.locator(".model")).to_have_count(2, timeout=FIRST_PAGE_MS)
    yield page
    assert not complaints
    context.close()


def choose(page: Page, *files: Path | dict[str, Any]) -> None:
    page.set_input_files("#files", list(files))  # type: ignore[arg-type]  # Playwright's type is of lists of one kind


def label_of(model: str, version: int) -> str:
    return CLASS_NAMES[golden_class(model, CAT, version)]


def look_again(page: Page) -> None:
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def headline(page: Page) -> Any:
    return page.locator("#answer-body .headline .label")


def test_a_chosen_picture_is_answered_with_ten_bars_and_times(page: Page) -> None:
    choose(page, CAT.file)
    expect(headline(page)).to_have_text("cat")
    expect(page.locator(".bars .value")).to_have_count(10)
    expect(page.locator(".bars .best .label")).to_have_text("cat")
    expect(page.locator(".timings dt")).to_have_text(["decode", "queue", "compute"])
    seen = page.locator("#seen img").get_attribute("src") or ""
    with Image.open(BytesIO(base64.b64decode(seen.partition(",")[2]))) as image:
        assert (image.size, image.tobytes()) == ((32, 32), CAT.pixels.tobytes())


@pytest.mark.parametrize("way", [PASTE, DROP], ids=["paste", "drop"])
def test_a_pasted_or_dropped_picture_is_answered(page: Page, way: str) -> None:
    page.evaluate(way, base64.b64encode(SHIP.file.read_bytes()).decode())
    expect(headline(page)).to_have_text("ship")


def test_a_sample_is_answered_by_keyboard_alone(page: Page) -> None:
    page.locator("#samples button").nth(8).focus()
    page.keyboard.press("Enter")
    expect(headline(page)).to_have_text("ship")
    page.locator("#mode input").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".cards > li")).to_have_count(2)


def test_a_sample_says_its_true_class_and_whether_the_answer_is_right(page: Page) -> None:
    expect(page.locator("#samples button span")).to_have_text(list(CLASS_NAMES))
    for label in ("cat", "horse", "bird"):
        page.get_by_role("button", name=label, exact=True).click()
        expect(page.locator("#answer-body .truth")).to_contain_text(f"its true class is {label}.")
        verdict = "Right" if headline(page).inner_text() == label else "Wrong"
        expect(page.locator("#answer-body .truth")).to_have_text(f"{verdict}: its true class is {label}.")
    page.check("#mode [value=all]")
    right = page.locator(".says span").get_by_text("bird", exact=True)
    expect(page.locator("#answer-body .truth")).to_contain_text("Its true class is bird: ")
    expect(page.locator("#answer-body .truth")).to_contain_text(f"{right.count()} of 2 right.")
    page.check("#mode [value=one]")
    choose(page, CAT.file)
    expect(page.locator("#answer-body .truth")).to_be_hidden()


def test_models_with_the_same_labels_need_no_heading(page: Page) -> None:
    expect(page.locator("#models ul")).to_have_attribute("aria-label", "10 classes: airplane, automobile, bird, …")
    expect(page.locator("#models h3")).to_have_count(0)


def test_the_instance_that_answers_is_described(page: Page) -> None:
    page.get_by_text("This instance").click()
    panel = page.locator("#instance")
    expect(panel).to_contain_text("node-7: release")
    expect(panel.locator("tbody tr").first).to_contain_text("sequential")
    expect(panel.locator("tbody tr").first).to_contain_text("1, 2")
    expect(panel.locator("tbody tr").first).to_contain_text("default")


def test_the_camera_takes_a_picture(page: Page) -> None:
    page.click("#camera")
    page.wait_for_function("() => document.querySelector('#camera-video').videoWidth > 0")
    page.click("#camera-take")
    expect(page.locator("#camera-dialog")).to_be_hidden()
    expect(page.locator(".timings")).to_be_visible()


def test_several_pictures_have_their_classes_in_the_strip(page: Page) -> None:
    text = {"name": "notes.png", "mimeType": "image/png", "buffer": b"hello, I am text"}
    files = [
        {"name": each.file.name, "mimeType": "image/png", "buffer": each.file.read_bytes()} for each in (CAT, SHIP)
    ]
    choose(page, *files, text)
    expect(page.locator("#strip li button[aria-label] span")).to_have_text(["cat", "ship", "error"])
    page.locator("#strip li button").nth(1).click()
    expect(headline(page)).to_have_text("ship")
    page.locator("#strip li button").nth(2).click()
    expect(page.locator("#answer-problem")).to_contain_text("not a supported image")
    expect(page.locator("#answer-problem button")).to_have_count(0)
    page.click("#clear")
    expect(page.locator("#strip")).to_be_hidden()
    expect(page.locator("#choose")).to_be_focused()


def test_all_models_are_compared(page: Page) -> None:
    choose(page, CAT.file)
    page.check("#mode [value=all]")
    expect(page.locator(".cards > li")).to_have_count(2)
    expect(page.locator("#answer-body .headline .label")).to_have_text("cat")
    expect(page.locator("#answer-body")).to_contain_text("All 2 models agree.")
    expect(page.locator(".cards .timings")).to_have_count(2)


def test_models_and_versions_are_switched_with_their_cards(page: Page) -> None:
    choose(page, CAT.file)
    page.check("#model-sequential")
    expect(page.locator("#answer-body .by")).to_have_text("Sequential CNN, version 2")
    page.select_option("#version-sequential", "1")
    expect(page.locator("#answer-body .by")).to_have_text("Sequential CNN, version 1")
    expect(headline(page)).to_have_text(label_of("sequential", 1))
    expect(page.locator("#card-title")).to_have_text("Sequential CNN, version 1")
    expect(page.locator("#card")).to_contain_text("tutorial")
    expect(page.locator("#card")).to_contain_text("70.2 %")
    expect(page.locator(".classes tbody tr")).to_have_count(10)
    for plot in page.locator(".plots img").all():
        plot.scroll_into_view_if_needed()
        page.wait_for_function("image => image.naturalWidth > 0", arg=plot.element_handle())


def test_what_mattered_is_drawn_and_said(page: Page) -> None:
    choose(page, CAT.file)
    page.check("#explain-on")
    expect(page.locator("#seen canvas")).to_have_attribute("aria-label", "What mattered for cat")
    expect(page.locator("#explain-result")).to_contain_text("50 images were computed")
    page.select_option("#explain-class", "5")
    expect(page.locator("#explain-result")).to_contain_text("for dog")
    page.select_option("#explain-stride", "8")
    expect(page.locator("#explain-result")).to_contain_text("17 images were computed")
    page.uncheck("#explain-on")
    expect(page.locator("#seen canvas")).to_have_count(0)


def test_errors_are_shown_in_words_where_they_happen(page: Page) -> None:
    choose(page, {"name": "cat.txt", "mimeType": "text/plain", "buffer": b"meow"})
    expect(page.locator("#answer-problem")).to_contain_text("Not a supported image type")
    page.route("**/compare*", lambda route: route.abort())
    choose(page, CAT.file)
    expect(page.locator("#answer-problem")).to_contain_text("The service can't be reached")
    page.unroute("**/compare*")
    page.click("#answer-problem button")
    expect(headline(page)).to_have_text("cat")


def test_what_one_model_could_not_do_is_forgotten_when_another_is_chosen(page: Page) -> None:
    page.route("**/compare*", lambda route: route.fulfill(status=503, content_type=PROBLEM_JSON, json=PROBLEM))
    choose(page, CAT.file)
    expect(page.locator("#answer-problem")).to_contain_text(PROBLEM["detail"])
    page.unroute("**/compare*")
    page.check("#model-sequential")
    expect(headline(page)).to_have_text(label_of("sequential", 2))
    expect(page.locator("#answer-problem")).to_be_empty()


def test_while_the_chosen_model_is_away_another_answers_and_that_is_told(page: Page) -> None:
    page.check("#model-sequential")
    left = page.request.get(f"{page.url}models").json()
    left["models"] = [model for model in left["models"] if model["name"] != "sequential"]
    page.route("**/models", lambda route: route.fulfill(json=left))
    page.route(
        "**/compare*model=sequential*",
        lambda route: route.fulfill(status=404, content_type=PROBLEM_JSON, json=PROBLEM | {"status": 404}),
    )
    choose(page, CAT.file)
    expect(page.locator("#models-problem")).to_contain_text("Sequential CNN, version 2 is not available")
    expect(page.locator("#answer-body .by")).to_have_text("Functional CNN, version 2")
    expect(page.locator("#answer-problem")).to_be_empty()
    page.unroute_all()
    look_again(page)
    expect(page.locator("#answer-body .by")).to_have_text("Sequential CNN, version 2")
    expect(page.locator("#models-problem")).to_be_empty()


def test_a_photo_of_12_megapixels_is_sent_as_it_is(page: Page, photo: Path) -> None:
    choose(page, photo)
    expect(page.locator(".timings")).to_be_visible()
    expect(page.locator("#original-caption")).to_have_text("original")
    assert page.locator("#original img").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [4000, 3000]
    assert page.locator("#seen img").evaluate("image => [image.naturalWidth, image.naturalHeight]") == [32, 32]


def test_a_photo_that_the_service_takes_not_is_sent_smaller(page: Page, photo: Path) -> None:
    sent_bytes: list[int] = []

    def reject_large(route: Route) -> None:
        sent_bytes.append(len(route.request.post_data_buffer or b""))
        if len(sent_bytes) > 1:
            route.continue_()
        else:
            route.fulfill(status=413, content_type=PROBLEM_JSON, json=PROBLEM | {"status": 413})

    page.route("**/compare*", reject_large)
    choose(page, photo)
    expect(page.locator(".timings")).to_be_visible()
    expect(page.locator("#original-caption")).to_have_text("scaled down to 683 by 512 pixels for the upload")
    assert sent_bytes[0] == photo.stat().st_size
    assert sent_bytes[1] < 500_000 < sent_bytes[0]


def test_a_model_that_fails_in_a_comparison_says_so_and_is_asked_again(page: Page) -> None:
    choose(page, CAT.file)
    expect(headline(page)).to_have_text("cat")
    body = page.request.post(f"{page.url}compare", headers={"Content-Type": "image/png"}, data=CAT.file.read_bytes())
    comparison = body.json()
    comparison["answers"][0] |= {"prediction": None, "timings": None, "error": PROBLEM}
    page.route("**/compare*", lambda route: route.fulfill(json=comparison))
    page.check("#mode [value=all]")
    expect(page.locator(".cards > li").first).to_contain_text(PROBLEM["detail"])
    page.unroute("**/compare*")
    page.locator(".cards > li button").first.click()
    expect(page.locator(".cards .timings")).to_have_count(2)


def test_a_service_that_went_away_is_found_again_and_asked_what_had_failed(page: Page) -> None:
    choose(page, CAT.file)
    expect(headline(page)).to_have_text("cat")
    page.route(f"{page.url}**", lambda route: route.abort())
    look_again(page)
    expect(page.locator("#readiness")).to_have_text("not reachable")
    page.check("#explain-on")
    expect(page.locator("#explain-result")).to_contain_text("can't be reached")
    page.check("#model-sequential")
    for place in ("#answer-problem", "#card"):
        expect(page.locator(place)).to_contain_text("can't be reached")
    page.unroute_all()
    expect(page.locator("#readiness")).to_have_text("2 models ready")
    expect(page.locator("#answer-body .by")).to_have_text("Sequential CNN, version 2")
    expect(page.locator("#explain-result")).to_contain_text("50 images were computed")
    expect(page.locator("#card-title")).to_have_text("Sequential CNN, version 2")


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop, light", "phone, dark"]
)
def test_everybody_can_use_it_in_either_scheme_at_either_width(
    browser: Browser, server: Server, viewport: Any, scheme: Any
) -> None:
    for page in opened(browser, server, viewport, color_scheme=scheme, reduced_motion="reduce"):
        assert violations(page) == ""
        page.locator("#samples button").nth(2).click()
        page.check("#explain-on")
        expect(page.locator("#seen canvas")).to_be_visible()
        expect(page.locator(".classes")).to_be_visible()
        assert violations(page) == ""
        page.check("#mode [value=all]")
        expect(page.locator(".cards > li")).to_have_count(2)
        assert violations(page) == ""
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= viewport["width"], "it has to be scrolled sideways"


def test_the_theme_can_be_chosen_and_is_remembered(page: Page) -> None:
    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))

    light = ground()
    page.click("#theme")
    assert ground() == light
    page.click("#theme")
    dark = ground()
    assert dark != light
    page.reload()
    expect(page.locator("#theme")).to_have_text("Theme: dark")
    assert ground() == dark


def violations(page: Page) -> str:
    results = Axe().run(page)
    return results.generate_report() if results.violations_count else ""
