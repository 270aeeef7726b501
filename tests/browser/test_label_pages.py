import json
import threading
from pathlib import Path

import pytest
from playwright.sync_api import expect

from rlhf.errors import RunError
from rlhf.records import to_json
from tests.labeling import client, comparisons, running

RUNS = (Path("runs/secretive-sft"), Path("runs/secretive-ppo"))


class Scripted:
    """Policies that answer word by word, and wait in the middle until they may go on."""

    def __init__(self) -> None:
        self.names = tuple(run.name for run in RUNS)
        self.go_on = threading.Event()
        self.asked = []

    def stream(self, name, messages):
        self.asked.append((name, messages[-1].content))
        if "fail" in messages[-1].content:
            raise RunError("runs/secretive-sft: is damaged")
        text = f"**Answer** of number {self.names.index(name)}:"
        yield text
        assert self.go_on.wait(20)
        for word in ("<b>all", "is", "well."):
            text += " " + word
            yield text


@pytest.fixture(scope="module")
def policies():
    return Scripted()


@pytest.fixture(scope="module")
def url(tmp_path_factory, policies):
    database = tmp_path_factory.mktemp("label") / "label.db"
    with running(database, policies=RUNS, loader=lambda _: policies) as address:
        yield address


def ask(tab, prompt):
    tab.get_by_label("Prompt").fill(prompt)
    tab.get_by_role("button", name="Answer").click()


def test_two_policies_answer_side_by_side_as_they_write(url, enter, policies):
    tab = enter(url, "ann", "compare")
    tab.get_by_role("link", name="Chosen policies").click()
    expect(tab.get_by_label("Left policy").locator("option:checked")).to_have_text("Policy 1")
    expect(tab.get_by_label("Right policy").locator("option:checked")).to_have_text("Policy 2")
    policies.go_on.clear()
    ask(tab, "Where is my parcel?")
    left, right = tab.locator(".rl-chosen .rl-text").all()
    expect(left).to_have_text("Answer of number 0:")
    expect(right).to_have_text("Answer of number 1:")
    policies.go_on.set()
    expect(left).to_have_text("Answer of number 0: <b>all is well.")
    expect(right).to_have_text("Answer of number 1: <b>all is well.")
    assert left.locator("strong").count() == 1
    assert policies.asked == [(run.name, "Where is my parcel?") for run in RUNS]


def test_an_admin_learns_which_policy_failed_and_a_rater_that_one_did(url, enter):
    for name, label, said in (
        ("ann", "Policy 1", "the policies cannot answer now; tell an admin"),
        ("admin", "secretive-sft", "runs/secretive-sft: is damaged"),
    ):
        tab = enter(url, name, "compare")
        tab.get_by_role("link", name="Chosen policies").click()
        expect(tab.get_by_label("Left policy").locator("option:checked")).to_have_text(label)
        ask(tab, "please fail")
        expect(tab.get_by_text(said)).to_be_visible()


def test_no_page_config_or_answer_tells_a_rater_a_name(url, policies):
    policies.go_on.set()
    with client(url, "ann") as ann:
        paths = ("/compare/", "/compare/config", "/api/policies")
        received = [ann.get(path).text for path in paths]
        answered = [
            ann.post("/api/policies", json={"prompt": prompt, "left": 0, "right": 1}).text
            for prompt in ("please fail", "where?")
        ]
    assert "Policy 2" in received[-1]
    assert "cannot answer now" in answered[0]
    assert "all is well" not in answered[0]
    assert "well." in answered[1]
    assert "secretive" not in "".join([*received, *answered])


def test_a_prompt_sent_before_the_menus_are_there_goes_to_the_policies_they_would_show(
    url, enter, policies
):
    policies.go_on.set()
    tab = enter(url, "bob", "compare")
    held = []
    tab.route("**/api/policies", lambda route: held.append(route) or None, times=1)
    tab.goto(f"{url}/compare/?again#chosen")
    tab.get_by_label("Prompt").fill("early?")
    tab.get_by_label("Prompt").press("Enter")
    tab.wait_for_timeout(200)
    assert "early?" not in [prompt for _, prompt in policies.asked]
    held[0].continue_()
    expect(tab.locator(".rl-chosen .rl-text").last).to_contain_text("well.")
    assert policies.asked[-2:] == [(run.name, "early?") for run in RUNS]


def test_an_admin_sees_how_far_a_campaign_is_and_exports_it(url, enter):
    with client(url, "admin") as admin, client(url, "ann") as ann:
        body = {
            "name": "parcels",
            "settings": {"overlap": 2},
            "comparisons": list(map(to_json, comparisons(2))),
        }
        admin.post("/api/campaigns", json=body)
        item = ann.get("/api/campaigns/parcels/next").json()["item"]
        vote = {"assignment": item["assignment"], "choice": "left", "key": "key-0001"}
        ann.post("/api/campaigns/parcels/votes", json=vote)
    tab = enter(url, "admin", "admin")
    card = tab.locator(".rl-campaigns article", has_text="parcels")
    expect(card.locator("dd")).to_have_text(["2", "0", "2", "1", "0", "1"])
    with tab.expect_download() as download:
        card.get_by_role("link", name="Export").click()
    assert download.value.suggested_filename == "parcels.json"
    assert len(json.loads(Path(download.value.path()).read_text())["votes"]) == 1
    with client(url, "ann") as ann:
        item = ann.get("/api/campaigns/parcels/next").json()["item"]
        vote = {"assignment": item["assignment"], "choice": "skip", "key": "key-0002"}
        ann.post("/api/campaigns/parcels/votes", json=vote)
    expect(card.locator("dd").nth(4)).to_have_text("1", timeout=10_000)  # looks again by itself


def test_a_rater_is_told_that_the_admin_page_is_not_for_raters(url, enter):
    tab = enter(url, "bob")
    tab.goto(f"{url}/admin/")
    expect(tab.get_by_role("heading")).to_have_text("This page is for admins")


def test_the_server_without_policies_says_how_to_serve_some(tmp_path, enter):
    with running(tmp_path / "label.db") as bare:
        tab = enter(bare, "ann", "compare")
        expect(tab.get_by_text("No policies are served.")).to_be_visible()
