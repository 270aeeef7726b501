"""The arena in a browser: by keyboard alone, blind until the vote, and never stuck."""

import json
import re
import threading
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.hostile import MARKUP
from tests.labeling import client, running
from tests.trained import random_run

RUNS = (Path("runs/secretive-sft"), Path("runs/secretive-ppo"))


class Scripted:
    """Answers with a number of its own; what it answers after ``wait`` waits for ``go_on``."""

    names = tuple(run.name for run in RUNS)

    def __init__(self) -> None:
        self.go_on = threading.Event()

    def stream(self, name, messages):
        prompt = messages[-1].content
        yield "So"
        if prompt.startswith("wait"):
            assert self.go_on.wait(20)
        yield f"So {self.names.index(name)}: {prompt}" if prompt != "same" else "So so"


@pytest.fixture(scope="module")
def policies():
    return Scripted()


@pytest.fixture(scope="module")
def url(tmp_path_factory, policies):
    database = tmp_path_factory.mktemp("label") / "label.db"
    with running(database, policies=RUNS, loader=lambda _: policies) as address:
        yield address


def state(tab, name: str) -> None:
    tab.wait_for_selector(f".rl-battle[data-state={name}]")


def ask(tab, prompt: str) -> None:
    state(tab, "ask")
    expect(tab.locator("#rl-ask")).to_be_focused()
    tab.keyboard.insert_text(prompt)
    tab.keyboard.press("Enter")


def test_a_guest_battles_by_keyboard_alone(url, enter, policies):
    tab = enter(url, "gus", "compare")
    live, names = tab.locator(".rl-battle [data-live]"), tab.locator(".rl-name")
    policies.go_on.clear()
    ask(tab, "wait for it")
    state(tab, "answering")
    expect(live).to_have_text("Both are answering…")
    expect(tab.locator("[data-text=left]")).to_have_text("So")
    expect(tab.locator("[data-do=left]")).to_be_disabled()
    tab.keyboard.press("1")  # too early
    policies.go_on.set()
    state(tab, "judge")
    expect(live).to_have_text("Both have answered. Which is better?")
    left, right = (tab.locator(f"[data-text={s}]").inner_text() for s in ("left", "right"))
    expect(names.first).to_be_hidden()
    assert "secretive" not in tab.content()
    with tab.expect_request("**/api/arena/votes") as voted:
        tab.keyboard.press("1")
    assert 0 < voted.value.post_data_json["elapsed_ms"] < 60_000
    state(tab, "told")
    told = names.all_inner_texts()
    assert told == [Scripted.names[int(text[3])] for text in (left, right)]
    expect(live).to_have_text(f"Saved ✓ Response 1 was {told[0]}, response 2 was {told[1]}.")
    tab.keyboard.press("2")  # nothing more to judge
    tab.keyboard.press("Enter")
    ask(tab, "and then?")
    state(tab, "judge")
    expect(names.first).to_be_hidden()
    assert "secretive" not in tab.content()
    tab.keyboard.press("s")
    state(tab, "ask")  # a skip names nobody
    with client(url, "admin") as admin:
        exported = admin.get("/api/campaigns/arena/export").json()
    by_gus = [vote["outcome"] for vote in exported["votes"] if vote["rater"] == "gus"]
    assert len(by_gus) == 2
    assert by_gus[1] == "skip"
    [first] = [c for c in exported["comparisons"] if "wait for it" in json.dumps(c["prompt"])]
    assert first["response_" + by_gus[0]]["policy"] == told[0]


def test_a_conversation_goes_on_by_keyboard_from_the_better_answer(url, enter, policies):
    policies.go_on.set()
    tab = enter(url, "judy", "compare")
    turns = tab.locator(".rl-battle .rl-talk .rl-text")
    ask(tab, "first?")
    state(tab, "judge")
    better = tab.locator("[data-text=right]").inner_text()
    tab.keyboard.press("2")
    state(tab, "told")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    state(tab, "ask")
    expect(turns).to_have_text(["first?", better])
    ask(tab, "second?")
    state(tab, "judge")
    expect(turns).to_have_text(["first?", better, "second?"])
    assert "secretive" not in tab.content()
    tab.keyboard.press("b")  # both bad: what is left is what was there before
    state(tab, "told")
    tab.get_by_role("button", name="Continue this conversation").click()
    state(tab, "ask")
    expect(turns).to_have_text(["first?", better])
    tab.get_by_role("button", name="New conversation").click()
    expect(tab.locator(".rl-battle .rl-talk")).to_be_hidden()
    expect(tab.locator("#rl-ask")).to_be_focused()


def test_a_battle_outlives_the_tab_and_the_same_answers_are_none(url, enter):
    tab = enter(url, "ann", "compare")
    ask(tab, "same")
    expect(tab.get_by_role("alert")).to_have_text(re.compile("^Both gave the same answer"))
    expect(tab.locator("#rl-ask")).to_have_value("same")
    tab.locator("#rl-ask").fill("")
    ask(tab, "and now?")
    state(tab, "judge")
    texts = tab.locator(".rl-battle .rl-pair").inner_text()
    other = enter(url, "ann", "compare")
    state(other, "judge")
    assert other.locator(".rl-battle .rl-pair").inner_text() == texts
    expect(other.locator(".rl-battle .rl-talk .rl-user .rl-text")).to_have_text("and now?")
    other.keyboard.press("b")
    state(other, "told")
    tab.keyboard.press("0")  # judged already, elsewhere
    state(tab, "ask")
    expect(tab.get_by_role("alert")).to_contain_text("answered already")


def test_a_connection_that_breaks_leaves_the_prompt_and_a_reply_that_is_lost_is_asked_again(
    url, enter
):
    tab = enter(url, "bob", "compare")
    state(tab, "ask")
    cut = {"/api/arena": 1, "/api/arena/votes": 2}

    def meddle(route) -> None:
        path = route.request.url.removeprefix(url)
        if route.request.method == "POST" and cut[path]:
            cut[path] -= 1
            if path.endswith("votes") and not cut[path]:
                route.fetch()  # it is stored, and nobody hears of it
            return route.abort()
        return route.continue_()

    tab.route("**/api/arena**", meddle)
    ask(tab, "Are you there?")
    expect(tab.get_by_role("alert")).to_have_text(
        "The server does not answer. Try again in a moment."
    )
    expect(tab.locator("#rl-ask")).to_have_value("Are you there?")
    tab.keyboard.press("Enter")
    state(tab, "judge")
    tab.keyboard.press("2")
    state(tab, "told")
    assert cut == {"/api/arena": 0, "/api/arena/votes": 0}
    with client(url, "admin") as admin:
        votes = admin.get("/api/campaigns/arena/export").json()["votes"]
    assert [vote["rater"] for vote in votes].count("bob") == 1


def test_a_vote_that_a_proxy_refuses_can_be_cast_again(url, enter):
    tab = enter(url, "ann", "compare")
    ask(tab, "through a proxy?")
    state(tab, "judge")
    page = {"status": 403, "content_type": "text/html", "body": "<h1>No</h1>"}
    tab.route("**/api/arena/votes", lambda route: route.fulfill(**page), times=1)
    tab.keyboard.press("1")
    expect(tab.get_by_role("alert")).to_contain_text("403")
    state(tab, "judge")
    tab.keyboard.press("2")
    state(tab, "told")


def test_keys_of_a_battle_do_nothing_beside_chosen_policies(url, enter):
    tab = enter(url, "judy", "compare")
    ask(tab, "judy asks")
    state(tab, "judge")
    tab.get_by_role("link", name="Chosen policies").click()
    expect(tab.get_by_label("Left policy").locator("option:checked")).to_have_text("Policy 1")
    tab.keyboard.press("1")
    tab.get_by_role("link", name="Blind battle").click()
    expect(tab.locator("[data-do=left]")).to_be_enabled()
    state(tab, "judge")


def test_hostile_texts_do_nothing_in_the_arena(url, enter):
    tab = enter(url, "admin", "compare")  # any dialog, error or request elsewhere fails the test
    tab.evaluate("() => { window.trap = (what) => { throw new Error(what); }; }")
    ask(tab, "\n\n".join(MARKUP)[:7900])
    state(tab, "judge")
    tab.wait_for_timeout(300)
    inside = tab.locator(".rl-battle .rl-text").evaluate_all(
        "places => places.flatMap((p) => [...p.querySelectorAll('script,img,form,iframe,svg,style,"
        "input,button,object,video,[style],[onerror],[onclick]')]).length"
    )
    assert inside == 0
    tab.keyboard.press("0")
    state(tab, "told")


def test_two_real_policies_battle_on_one_base(base, tmp_path, enter):
    runs = [random_run(tmp_path / f"real-{i}", base, seed=i) for i in range(2)]
    with running(tmp_path / "label.db", policies=runs) as url:
        tab = enter(url, "gus", "compare")
        ask(tab, "Where is my parcel?")
        tab.wait_for_selector("[data-state=judge]", timeout=60_000)
        left, right = (tab.locator(f"[data-text={s}]").inner_text() for s in ("left", "right"))
        assert left != right
        tab.keyboard.press("1")
        state(tab, "told")
        assert set(tab.locator(".rl-name").all_inner_texts()) == {"real-0", "real-1"}
