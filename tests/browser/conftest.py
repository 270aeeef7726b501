from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.labeling import PASSWORD

CHROMIUM = Path("/usr/bin/chromium")
expect.set_options(timeout=20_000)  # two processes share two cores in `make test`


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if not CHROMIUM.exists():
                item.add_marker(pytest.mark.skip(reason=f"{CHROMIUM} is missing"))


@pytest.fixture(scope="session")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def enter(chromium):
    """Open a page in a browser of its own, signing in on the way; errors fail the test."""
    yield from _entering(chromium)


@pytest.fixture(scope="module")
def enter_once(chromium):
    """The same, for a fixture that several tests share."""
    yield from _entering(chromium)


def _entering(chromium):
    contexts, problems = [], []

    def enter_as(url: str, name: str, page: str = "rate", **options):
        context = chromium.new_context(**options)
        context.set_default_timeout(20_000)
        contexts.append(context)
        tab = context.new_page()
        tab.on("pageerror", lambda error: problems.append(str(error)))
        tab.on("dialog", lambda dialog: problems.append(dialog.message))
        tab.on("request", lambda request: _stays_here(request.url, url, problems))
        tab.goto(f"{url}/{page}/")
        tab.fill("#name", name)
        tab.fill("#password", PASSWORD)
        tab.keyboard.press("Enter")
        tab.wait_for_url(f"{url}/{page}/")
        return tab

    yield enter_as
    for context in contexts:
        context.close()
    assert problems == []


def _stays_here(requested: str, url: str, problems: list[str]) -> None:
    if not requested.startswith((url, "data:", "blob:")):
        problems.append(requested)
