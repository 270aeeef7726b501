from datetime import datetime, timedelta

import pytest
from playwright.sync_api import expect

from labeling_ui.pages.keymap import load_keymap
from rlhf.records import Comparison, Prompt, Response, Vote, from_json, to_json
from tests.labeling import client, comparisons, running

MEANING = {"1": "left", "2": "right", "0": "tie", "t": "tie", "b": "both_bad", "s": "skip"}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with running(tmp_path_factory.mktemp("label") / "label.db") as address:
        yield address


@pytest.fixture
def campaign(url, request):
    """Its name, for a fresh one; every browser opens the newest, unfinished one by hand."""
    name = request.node.name[5:60].translate(str.maketrans("[]", "--"))

    def make(records, overlap=1, **extra):
        with client(url, "admin") as admin:
            body = {"name": name, "settings": {"overlap": overlap}, **extra}
            body["comparisons"] = [to_json(record) for record in records]
            assert admin.post("/api/campaigns", json=body).status_code == 200
        return name

    return make


def exported(url, name):
    with client(url, "admin") as admin:
        data = admin.get(f"/api/campaigns/{name}/export").json()
    asked = {c.id: c for c in (from_json(Comparison, row) for row in data["comparisons"])}
    held = {}
    for vote in (from_json(Vote, row) for row in data["votes"]):
        record = asked[vote.comparison]
        texts = {"a": record.response_a.text, "b": record.response_b.text}
        question = record.prompt.messages[0].content
        assert (vote.rater, question) not in held
        held[vote.rater, question] = texts.get(vote.outcome, vote.outcome).replace("*", "")
    return held, data


def choose_campaign(tab, name):
    tab.wait_for_selector(".rl-rate:is([data-state=ready], [data-state=done])")
    if tab.locator(".rl-pick").is_visible() and tab.locator(".rl-pick").input_value() != name:
        tab.select_option(".rl-pick", name)
    expect(tab.locator("[data-campaign]")).to_have_text(name)
    tab.wait_for_selector("[data-state=ready]")


def screen(tab):
    """The question and both texts as the rater sees them."""
    question = tab.locator(".rl-turn .rl-text").first.inner_text()
    sides = {side: tab.locator(f"[data-text={side}]").inner_text() for side in ("left", "right")}
    return question, sides


def press(tab, key, count):
    """One answer by keyboard; what was chosen, as text."""
    question, sides = screen(tab)
    before = tab.locator(".rl-rate").get_attribute("data-assignment")
    tab.keyboard.press(key)
    tab.wait_for_function(
        """before => { const page = document.querySelector(".rl-rate");
        return page.dataset.state === "done"
          || (page.dataset.state === "ready" && page.dataset.assignment !== before); }""",
        arg=before,
    )
    expect(tab.locator("[data-count]")).to_contain_text(f"{count} of")
    choice = MEANING[key]
    return question, sides.get(choice, choice)


def test_two_raters_label_ten_comparisons_each_by_keyboard(url, enter, campaign):
    name = campaign(comparisons(10), overlap=2)
    chosen = {}
    keys = {"ann": "1202b1s21t", "bob": "2211b01212"}
    tabs = {rater: enter(url, rater) for rater in keys}
    for tab in tabs.values():
        choose_campaign(tab, name)
    for number in range(10):
        for rater, tab in tabs.items():
            question, text = press(tab, keys[rater][number], number + 1)
            chosen[rater, question] = text
            if (rater, number) == ("ann", 4):
                shown = screen(tab)
                tab.reload()
                tab.wait_for_selector("[data-state=ready]")
                assert screen(tab) == shown
                expect(tab.locator("[data-count]")).to_have_text("5 of 10")
            if (rater, number) == ("bob", 6):
                tab.keyboard.press("u")
                expect(tab.locator("[data-count]")).to_have_text("6 of 10")
                assert screen(tab)[0] == question
                again, text = press(tab, "0", 7)
                assert (again, text) == (question, "tie")
                chosen[rater, question] = text
    for tab in tabs.values():
        expect(tab.locator(".rl-done h2")).to_have_text("All done")
    held, data = exported(url, name)
    assert len(held) == 20
    assert held == chosen
    sides = {vote["a_side"] for vote in data["votes"]}
    assert sides == {"left", "right"}
    assert data["preferences"]


def test_strength_and_reason_go_with_the_vote_and_are_cleared(url, enter, campaign):
    name = campaign(comparisons(2))
    tab = enter(url, "ann")
    choose_campaign(tab, name)
    tab.keyboard.press("9")
    tab.keyboard.press("8")
    tab.keyboard.press("r")
    tab.keyboard.type("21 reasons, b")  # keys in the box are text
    tab.keyboard.press("Escape")
    press(tab, "1", 1)
    expect(tab.locator(".rl-reason")).to_have_value("")
    press(tab, "2", 2)
    _, data = exported(url, name)
    told = [(vote.get("strength"), vote.get("reason")) for vote in data["votes"]]
    assert told == [(2, "21 reasons, b"), (None, None)]


def test_two_keys_at_once_are_one_vote(url, enter, campaign):
    name = campaign(comparisons(5))
    tab = enter(url, "ann")
    choose_campaign(tab, name)
    sent = []
    tab.on("request", lambda request: sent.append(request.method))
    tab.evaluate(
        """() => { for (const key of ["1", "2", "1", "0", "u"])
        document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true })); }"""
    )
    expect(tab.locator("[data-count]")).to_have_text("1 of 5")
    tab.wait_for_selector("[data-state=ready]")
    held, _ = exported(url, name)
    assert len(held) == 1
    assert sent == ["POST"]  # the server was not even asked twice


def test_keys_with_a_modifier_or_held_down_do_not_vote(url, enter, campaign):
    name = campaign(comparisons(2))
    tab = enter(url, "ann")
    choose_campaign(tab, name)
    for key in ("Control+b", "Alt+1", "?", "1", "Escape"):  # 1 while the help is open
        tab.keyboard.press(key)
    tab.evaluate(
        """() => document.body.dispatchEvent(
        new KeyboardEvent("keydown", { key: "1", repeat: true, bubbles: true }))"""
    )
    expect(tab.locator("[data-count]")).to_have_text("0 of 2")
    press(tab, "1", 1)
    assert len(exported(url, name)[0]) == 1


def test_an_answer_that_could_not_be_sent_survives_a_reload_and_counts_once(url, enter, campaign):
    name = campaign(comparisons(3))
    tab = enter(url, "ann")
    choose_campaign(tab, name)
    sent = []

    def lose_the_reply(route):
        sent.append(route.request.post_data_json)
        if len(sent) == 2:  # stored, but the browser never hears of it
            route.fetch()
        route.abort()

    tab.route("**/votes?*", lose_the_reply)
    question, sides = screen(tab)
    tab.keyboard.press("1")
    expect(tab.locator(".rl-notice")).to_contain_text("your answer is kept here")
    tab.wait_for_timeout(1500)
    tab.keyboard.press("2")  # still busy with the first
    assert len(sent) >= 2
    tab.unroute("**/votes?*")
    tab.reload()
    choose_campaign(tab, name)
    expect(tab.locator("[data-count]")).to_have_text("1 of 3")
    assert all(body == sent[0] for body in sent)  # the time that it took as well
    held, _ = exported(url, name)
    assert held == {("ann", question): sides["left"]}
    assert tab.evaluate("Object.keys(localStorage).filter(k => k.startsWith('rlhf-unsent'))") == []


def test_the_time_on_a_task_does_not_go_by_the_browsers_clock(url, enter, campaign):
    name = campaign(comparisons(1))
    tab = enter(url, "ann")
    choose_campaign(tab, name)
    tab.add_init_script(
        """Date = class extends Date {
        constructor(...a) { super(...(a.length ? a : [Date.now()])); }
        static now() { return super.now() + 3600_000; } };"""
    )
    tab.reload()
    choose_campaign(tab, name)
    tab.wait_for_timeout(1200)
    with tab.expect_request("**/votes?*") as request:
        press(tab, "1", 1)
    elapsed = request.value.post_data_json["elapsed_ms"]
    assert 1000 < elapsed < 60_000
    _, data = exported(url, name)
    shown, answered = (
        datetime.fromisoformat(data["votes"][0][key]) for key in ("shown_at", "answered_at")
    )
    assert (answered - shown) / timedelta(milliseconds=1) == elapsed


def test_an_item_answered_in_another_window_is_passed_over(url, enter, campaign):
    name = campaign(comparisons(3))
    tab = enter(url, "ann")
    choose_campaign(tab, name)
    other = tab.context.new_page()
    other.goto(f"{url}/rate/")
    choose_campaign(other, name)
    press(other, "1", 1)
    tab.keyboard.press("2")
    expect(tab.locator(".rl-notice")).to_contain_text("answered already")
    expect(tab.locator("[data-count]")).to_have_text("1 of 3")
    assert len(exported(url, name)[0]) == 1


def test_hostile_text_is_shown_and_does_nothing(url, enter, campaign):
    hostile = (
        "${alert(1)} {{alert(2)}} <script>alert(3)</script> <img src=x onerror=alert(4)>\n\n"
        "![pixel](https://elsewhere.example/pixel.png)\n\n"
        '<div style="position:fixed;inset:0;background:red">over all</div>'
    )
    name = campaign(
        [Comparison(Prompt.from_text(hostile), Response(hostile + "a"), Response(hostile + "b"))],
        guidelines=hostile,
    )
    tab = enter(url, "ann")
    choose_campaign(tab, name)
    tab.click("summary")
    for text in (tab.locator("[data-text=left]"), tab.locator(".rl-turn .rl-text")):
        expect(text).to_contain_text("${alert(1)} {{alert(2)}} <script>alert(3)</script>")
        expect(text).to_contain_text('<div style="position:fixed;')
        assert text.locator("script, img, div, style, form").count() == 0
    tab.keyboard.press("x")
    exact = tab.locator("[data-text=left]").inner_text()
    assert exact[:-1] == hostile
    press(tab, "1", 1)


@pytest.mark.parametrize("width", [1440, 390, 320])
def test_a_rater_can_answer_by_touch_on_any_width(url, enter, campaign, width):
    name = campaign(comparisons(2))
    tab = enter(url, "ann", viewport={"width": width, "height": 800})
    choose_campaign(tab, name)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for action in ("left", "tie", "right", "both_bad", "skip", "undo"):
        box = tab.locator(f".rl-keys [data-do={action}]").bounding_box()
        assert box["height"] >= 36
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["y"] + box["height"] <= 800  # in reach without scrolling
    tab.click("[data-do=both_bad]")
    expect(tab.locator("[data-count]")).to_have_text("1 of 2")
    tab.wait_for_selector("[data-state=ready]")
    tab.click(".rl-keys [data-do=undo]")
    expect(tab.locator("[data-count]")).to_have_text("0 of 2")


def test_signing_in_says_what_is_wrong_and_signing_out_shuts_the_door(url, chromium):
    context = chromium.new_context()
    tab = context.new_page()
    tab.goto(url)
    tab.fill("#name", "ann")
    tab.fill("#password", "not the password")
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("alert")).to_have_text("Name or password is wrong.")
    tab.fill("#password", "correct horse")
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"{url}/rate/")
    expect(tab.locator("[data-me]")).to_have_text("ann")
    expect(tab.get_by_role("link", name="Admin")).to_be_hidden()
    tab.get_by_role("button", name="Sign out").click()
    tab.wait_for_url(f"{url}/login")
    tab.goto(f"{url}/rate/")
    assert tab.url == f"{url}/login?next=/rate/"
    context.close()


def test_keys_of_ones_own_answer_and_the_usual_ones_do_not(tmp_path, enter):
    keymap = {**load_keymap(), "left": ("h", "j"), "right": ("l",)}
    with running(tmp_path / "label.db", keymap=keymap) as own:
        with client(own, "admin") as admin:
            body = {"name": "own", "comparisons": [to_json(c) for c in comparisons(3)]}
            admin.post("/api/campaigns", json=body)
        tab = enter(own, "ann")
        choose_campaign(tab, "own")
        expect(tab.locator(".rl-keys .rl-left kbd")).to_have_text("h")
        tab.keyboard.press("1")
        for count, key in enumerate("jl", start=1):
            tab.keyboard.press(key)
            expect(tab.locator("[data-count]")).to_have_text(f"{count} of 3")
            tab.wait_for_selector("[data-state=ready]")
        with client(own, "ann") as ann:
            past = ann.get("/api/campaigns/own/history").json()
    assert sorted(one["choice"] for one in past) == ["left", "right"]
