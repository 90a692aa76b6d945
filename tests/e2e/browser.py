"""A headless Chromium: Debian's, or Playwright's."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Yield the browser; skip the test if there is none."""
    with sync_playwright() as playwright:
        found = next((path for name in NAMES if (path := shutil.which(name))), None)
        if found is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("NO CHROMIUM: install Debian's package chromium, or run python -m playwright install chromium")
        arguments = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
        if os.geteuid() == 0:
            arguments.append("--no-sandbox")
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()
