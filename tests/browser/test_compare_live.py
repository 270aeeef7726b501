"""The compare page with real policies, which answer on one base."""

import pytest
from playwright.sync_api import expect

from tests.labeling import running
from tests.trained import random_run

WATCH = """() => {
  window.seen = [[], []];
  document.querySelectorAll(".rl-chosen").forEach((pair) => new MutationObserver(() => {
    pair.querySelectorAll(".rl-text").forEach((el, i) => {
      if (window.seen[i].at(-1) !== el.innerText) window.seen[i].push(el.innerText);
    });
  }).observe(pair, {subtree: true, childList: true, characterData: true}));
}"""


@pytest.fixture(scope="module")
def url(base, tmp_path_factory):
    root = tmp_path_factory.mktemp("live")
    runs = [random_run(root / f"secretive-{i}", base, seed=i) for i in range(2)]
    with running(root / "label.db", policies=runs) as address:
        yield address


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "dark")])
def test_two_runs_on_one_base_stream_side_by_side(url, enter, width, scheme):
    viewport = {"width": width, "height": 800}
    tab = enter(url, "ann", "compare", viewport=viewport, color_scheme=scheme)
    tab.get_by_role("link", name="Chosen policies").click()
    expect(tab.get_by_label("Left policy").locator("option:checked")).to_have_text("Policy 1")
    tab.evaluate(WATCH)
    tab.get_by_label("Prompt").fill("Where is my parcel?")
    tab.get_by_role("button", name="Answer").click()
    tab.wait_for_function("window.seen.every((texts) => texts.length > 2)")
    left, right = tab.evaluate("window.seen")
    assert len(left[-1]) > 0
    assert len(right[-1]) > 0
    assert left[-1] != right[-1]
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert "secretive" not in tab.content()
