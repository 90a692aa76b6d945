"""Take the screenshots of the page for the README, into docs/images, with a real server and headless Chromium.

python -m scripts.screenshots
"""

import sys
import tempfile
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from PIL import Image
from playwright.sync_api import Browser, Page

from tests.conftest import MODELS
from tests.e2e.browser import chromium
from tests.e2e.server import running_server

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs/images"
SAMPLE: Final = "bird"
PATIENCE_S: Final = 120
DESKTOP: Final = {"width": 1360, "height": 880}
PHONE: Final = {"width": 390, "height": 844}


def main() -> int:
    """Write the files."""
    IMAGES.mkdir(exist_ok=True)
    patient = {"CIFAR10_REQUEST_TIMEOUT_S": str(PATIENCE_S)}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_server(Path(folder) / "log", CIFAR10_MODELS=str(MODELS), **patient) as server,
        chromium() as browser,
    ):
        one = opened(browser, server.url, DESKTOP, "light")
        one.check("#explain-on")
        one.wait_for_selector("#seen canvas")
        save(one, "page.png")
        compare(one)
        save(one, "page_compare.png")
        save(opened(browser, server.url, DESKTOP, "dark"), "page_dark.png")
        save(opened(browser, server.url, PHONE, "light"), "page_phone.png")
    return 0


def opened(browser: Browser, url: str, viewport: Any, scheme: Any) -> Page:
    """Open the page with an answer on it."""
    page = browser.new_page(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
    page.set_default_timeout(PATIENCE_S * 1000)
    page.goto(url)
    page.click(f"#samples button:has-text('{SAMPLE}')")
    page.wait_for_selector(".timings")
    page.wait_for_selector(".classes")
    page.mouse.move(0, 0)
    return page


def compare(page: Page) -> None:
    """Switch to the comparison of all models."""
    page.check("#mode [value=all]")
    page.wait_for_selector(".cards > li")


def save(page: Page, name: str) -> None:
    """Save a screenshot with 256 colours, which halves its size; flat colours are kept, photos are dithered."""
    with Image.open(BytesIO(page.screenshot())) as image:
        seen = image.convert("RGB")
        palette = seen.quantize(256, Image.Quantize.MEDIANCUT)
        seen.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG).save(IMAGES / name, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
