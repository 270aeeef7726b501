"""An admin makes a campaign in the browser; what cannot be made is said in a sentence."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import expect

from rlhf.records import to_json
from tests.labeling import PASSWORD, client, comparisons, running


class Policies:
    """Policies that answer at once."""

    names = ("one", "two")

    def stream(self, name, messages):
        yield f"{name}: {messages[-1].content}"

    def respond(self, name, prompts, sampling):
        assert sampling.max_new_tokens
        return [f"{name}: {prompt.messages[-1].content}" for prompt in prompts]


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    database, runs = tmp_path_factory.mktemp("label") / "label.db", [Path("one"), Path("two")]
    with running(database, policies=runs, loader=lambda _: Policies()) as address:
        yield address


@pytest.fixture
def form(url, enter):
    """The page, with a name filled in."""

    def opened(name, **options):
        tab = enter(url, "admin", "admin", **options)
        tab.get_by_role("link", name="New campaign").click()
        tab.fill("#campaign_name", name)
        return tab

    return opened


def file(tmp_path, text):
    path = tmp_path / "asked.jsonl"
    path.write_text(text, encoding="utf-8")
    return path


def status(url, name):
    with client(url, "admin") as admin:
        return admin.get(f"/api/campaigns/{name}/status")


def lines(count):
    return "".join(json.dumps(to_json(one)) + "\n" for one in comparisons(count))


def test_a_campaign_is_made_from_a_file_by_keyboard(url, form, tmp_path):
    tab = form("from file")
    tab.fill("#guidelines", "Be *fair*.")
    tab.fill("#overlap", "3")
    tab.uncheck("#ties")
    tab.set_input_files("#file", file(tmp_path, lines(4)))
    tab.locator("#campaign_name").press("Enter")
    expect(tab.locator(".rl-problem")).to_have_text("Done: 4 are in from file")
    found = status(url, "from file").json()
    assert (found["comparisons"], found["overlap"]) == (4, 3)
    with client(url, "ann") as ann:
        [one] = [c for c in ann.get("/api/campaigns").json() if c["name"] == "from file"]
    assert (one["guidelines"], one["ties"], one["kind"]) == ("Be *fair*.", False, "pairwise")
    tab.get_by_role("link", name="from file").click()
    expect(tab.locator(".rl-campaigns article[aria-current]")).to_contain_text("from file")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (lines(1) + "{oh\n", "Line 2 of the file is no JSON"),
        ('{"prompt": 3}\n', "Comparisons[0]"),
        ("[1]", "comparisons.0: "),
    ],
)
def test_a_file_that_cannot_be_read_makes_nothing(url, form, tmp_path, text, sentence):
    tab = form("broken")
    tab.get_by_role("button", name="Make the campaign").click()
    expect(tab.locator(".rl-problem")).to_have_text("Choose a file first.")
    tab.set_input_files("#file", file(tmp_path, text))
    tab.get_by_role("button", name="Make the campaign").click()
    expect(tab.locator(".rl-problem")).to_contain_text(sentence, ignore_case=True)
    assert status(url, "broken").status_code == 404


def test_a_campaign_is_made_from_prompts_that_policies_answer(url, form):
    tab = form("from prompts", viewport={"width": 320, "height": 900}, color_scheme="dark")
    tab.check("[value=prompts]")
    tab.fill("#prompts", "Where is my parcel?\n\n  And my letter?  \n")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 320
    tab.get_by_role("button", name="Make the campaign").click()
    expect(tab.locator(".rl-problem")).to_have_text("Done: 2 are in from prompts")
    assert status(url, "from prompts").json()["comparisons"] == 2
    tab.fill("#campaign_name", "one two")  # a policy's name
    tab.get_by_role("button", name="Make the campaign").click()
    expect(tab.locator(".rl-problem")).to_contain_text("would show policy 'one'")
    assert status(url, "one two").status_code == 404


def test_who_must_sign_in_first_comes_back_to_it(url, chromium):
    context = chromium.new_context()
    tab = context.new_page()
    tab.goto(f"{url}/new")
    tab.fill("#name", "admin")
    tab.fill("#password", PASSWORD)
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("heading", name="New campaign")).to_be_visible()
    context.close()


def test_with_one_policy_there_is_nothing_to_compare(form):
    tab = form("alone")
    tab.check("[value=prompts]")
    tab.fill("#prompts", "Where?")
    tab.locator("[name=policy]").first.uncheck()
    tab.get_by_role("button", name="Make the campaign").click()
    expect(tab.locator(".rl-problem")).to_contain_text("kind pairwise takes 2 at least")
