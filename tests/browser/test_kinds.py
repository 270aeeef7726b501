"""Every kind of task, answered by keyboard alone; what is stored is what stood on the screen."""

import re
from functools import partial

import pytest
from playwright.sync_api import expect

from labeling_ui.pages.keymap import load_keymap
from rlhf.records import Prompt, to_json
from tests.axe import violations
from tests.labeling import client, running


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with running(tmp_path_factory.mktemp("label") / "label.db") as address:
        yield address


def start(url, enter, name, num_responses, count=2, width=1440, **settings):
    """A tab on a new campaign of these settings, with tasks of so many responses."""
    tasks = [
        {
            "prompt": to_json(Prompt.from_text(f"Question {i}?")),
            "responses": [
                {"text": f"answer {k} to {i}", "policy": f"p{k}"} for k in range(num_responses)
            ],
        }
        for i in range(count)
    ]
    body = {"name": name, "settings": settings, "comparisons": tasks}
    with client(url, "admin") as admin:
        assert admin.post("/api/campaigns", json=body).status_code == 200, body
    tab = enter(url, "ann", viewport={"width": width, "height": 800})
    tab.wait_for_selector(".rl-rate:is([data-state=ready], [data-state=done])")
    if tab.locator(".rl-pick").is_visible():
        tab.select_option(".rl-pick", name)
    expect(tab.locator("[data-campaign]")).to_have_text(name)
    tab.wait_for_selector("[data-state=ready]")
    return tab


@pytest.fixture
def begin(url, enter):
    return partial(start, url, enter)


def shown(tab):
    return tab.locator(".rl-pair .rl-text").all_inner_texts()


def export(url, name):
    with client(url, "admin") as admin:
        return admin.get(f"/api/campaigns/{name}/export").json()


def done(tab, number):
    expect(tab.locator("[data-count]")).to_contain_text(re.compile(rf"^{number} "))
    tab.wait_for_selector(".rl-rate:is([data-state=ready], [data-state=done])")


def test_a_ranking_is_made_with_number_keys(url, begin):
    tab = begin("ranks", 4, kind="ranking")
    texts = shown(tab)
    tab.keyboard.press("Enter")
    expect(tab.locator(".rl-notice")).to_have_text("Rank every response first.")
    for key in ("1", "2", "Backspace", "3", "=", "1", "1", "2", "4"):
        tab.keyboard.press(key)  # the 1 is taken out of its place, and comes after the 3
    expect(tab.locator(".rl-own [role=status]")).to_have_text("3  >  1  >  2  >  4")
    for key in ("4", "=", "4", "Enter"):
        tab.keyboard.press(key)
    done(tab, 1)
    won = {(p["chosen"], p["rejected"]) for p in export(url, "ranks")["preferences"]}
    one, two, three, four = texts
    assert won == {(three, one), (three, two), (three, four), (one, two), (one, four)}


def test_ratings_are_given_row_by_row(url, begin):
    tab = begin("rates", 1, kind="rating", aspects=["helpful", "honest"])
    tab.keyboard.press("4")
    tab.keyboard.press("Enter")
    expect(tab.locator(".rl-notice")).to_have_text("Rate every aspect first.")
    for key in ("5", "ArrowUp", "3", "Enter"):
        tab.keyboard.press(key)
    done(tab, 1)
    [answer] = export(url, "rates")["answers"]
    assert answer["aspects"] == {"helpful": 3, "honest": 5}


def test_thumbs_take_one_key_and_two_at_once_are_one_vote(url, begin):
    tab = begin("thumbs", 1, kind="thumbs")
    tab.keyboard.press("2")
    done(tab, 1)
    for key in "12":
        tab.keyboard.press(key)
    done(tab, 2)
    data = export(url, "thumbs")
    assert [row["good"] for row in data["feedback"]] == [False, True]


def test_a_rewrite_is_what_was_typed(url, begin):
    tab = begin("rewrites", 1, kind="rewrite")
    expect(tab.locator(".rl-rewrite")).to_have_value("answer 0 to 0")
    tab.keyboard.press("e")
    tab.keyboard.press("Control+a")
    tab.keyboard.type("1 better: <b>$&</b>")
    tab.keyboard.press("Control+Enter")
    done(tab, 1)
    [row] = export(url, "rewrites")["demonstrations"]
    assert row["messages"][-1]["content"] == "1 better: <b>$&</b>"


def test_a_pair_is_judged_by_aspects_too_and_ties_can_be_left_out(url, begin):
    rules = {"aspects": ["helpful", "honest"], "ties": False, "strength": "no"}
    tab = begin("aspects", 2, **rules)
    texts = shown(tab)
    expect(tab.locator("[data-do=tie]")).to_be_hidden()
    expect(tab.locator(".rl-strengths")).to_be_hidden()
    tab.get_by_role("group", name="honest").get_by_role("button", name="2").click()
    tab.keyboard.press("0")
    expect(tab.locator("[data-count]")).to_contain_text("0 of")
    tab.keyboard.press("1")
    done(tab, 1)
    [vote] = export(url, "aspects")["votes"]
    first = "a" if texts[0].startswith("answer 0") else "b"
    assert vote["outcome"] == first
    assert vote["aspects"] == {"honest": "b" if first == "a" else "a"}


def test_an_earlier_answer_is_found_and_changed(url, begin):
    tab = begin("past", 2, count=3)
    for number in (1, 2):
        tab.keyboard.press("1")
        done(tab, number)
    tab.keyboard.press("h")
    entries = tab.locator(".rl-past li")
    expect(entries).to_have_count(2)
    expect(entries.nth(1)).to_contain_text("Question 0?")
    entries.nth(1).get_by_role("button").click()
    expect(tab.locator(".rl-talk")).to_contain_text("Question 0?")
    tab.keyboard.press("0")
    done(tab, 2)
    outcomes = [vote["outcome"] for vote in export(url, "past")["votes"]]
    assert outcomes.count("tie") == 1


def test_a_flag_is_raised_by_keyboard(begin):
    tab = begin("marks", 2)
    tab.keyboard.press("f")
    tab.get_by_role("button", name="It holds personal data").press("Enter")
    expect(tab.locator("[data-saved]")).to_have_text("Flagged ✓")
    tab.keyboard.press("1")  # and it can be answered all the same
    done(tab, 1)


def test_what_raters_disagree_on_is_decided_by_keyboard(url, begin, enter):
    tab = begin("contest", 2, count=1, overlap=2)
    tab.keyboard.press("1")
    done(tab, 1)
    with client(url, "bob") as bob:
        place = "/api/campaigns/contest"
        item = bob.get(f"{place}/next").json()["item"]
        vote = {"assignment": item["assignment"], "choice": "tie", "key": "k" * 8}
        assert bob.post(f"{place}/votes", json=vote | {"reason": "the same\nto me"}).is_success
    desk = enter(url, "judy", viewport={"width": 1440, "height": 800})
    desk.wait_for_selector(".rl-rate:is([data-state=ready], [data-state=done])")
    desk.select_option(".rl-pick", "contest · to decide")
    expect(desk.locator("[data-campaign]")).to_have_text("contest · to decide")
    desk.wait_for_selector("[data-state=ready]")
    said = desk.locator(".rl-heard")
    expect(said.locator("li").nth(1)).to_be_hidden()
    said.locator("summary").press("Enter")
    expect(said.locator("li").nth(1)).to_have_text("Tiethe same\nto me")
    assert violations(desk) == []
    desk.keyboard.press("2")
    done(desk, 1)
    assert [one["margin"] for one in export(url, "contest")["preferences"]] == [1]
    desk.keyboard.press("h")
    desk.locator(".rl-history li").get_by_role("button").click()
    expect(desk.locator(".rl-heard")).to_be_visible()
    assert [one["margin"] for one in export(url, "contest")["preferences"]] == [0.5]


def test_ratings_that_lie_apart_are_decided_knowing_what_was_rated(url, begin, enter):
    rules = {"kind": "rating", "aspects": ["helpful", "honest"], "overlap": 2}
    tab = begin("far", 1, count=1, **rules)
    for key in ("5", "4", "Enter"):
        tab.keyboard.press(key)
    done(tab, 1)
    with client(url, "bob") as bob:
        place = "/api/campaigns/far"
        item = bob.get(f"{place}/next").json()["item"]
        vote = {"assignment": item["assignment"], "choice": "rated", "key": "far-apart"}
        vote["aspects"] = {"helpful": 2, "honest": 4}
        assert bob.post(f"{place}/votes", json=vote).is_success
    desk = enter(url, "judy", viewport={"width": 1440, "height": 800})
    desk.wait_for_selector(".rl-rate:is([data-state=ready], [data-state=done])")
    desk.select_option(".rl-pick", "far · to decide")
    desk.wait_for_selector("[data-state=ready]")
    said = desk.locator(".rl-heard")
    said.locator("summary").press("Enter")
    expect(said.locator("li")).to_have_text(["helpful 5, honest 4", "helpful 2, honest 4"])
    for key in ("3", "4"):
        desk.keyboard.press(key)
    desk.locator("[data-own=Enter]").press("Enter")  # the focus is where it was: on the summary
    done(desk, 1)
    [rating] = export(url, "far")["ratings"]
    assert (rating["aspects"], rating["num_votes"]) == ({"helpful": 3, "honest": 4}, 1)


@pytest.mark.parametrize("kind", ["ranking", "rating", "thumbs", "rewrite"])
@pytest.mark.parametrize("width", [1440, 320])
def test_no_kind_is_wider_than_the_screen_or_has_what_axe_finds_serious(begin, kind, width):
    aspects = {"aspects": ["helpful", "honest", "harmless"]} if kind == "rating" else {}
    count = 4 if kind == "ranking" else 1
    tab = begin(f"{kind} {width}", count, width=width, kind=kind, **aspects)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert violations(tab) == []


def reasons(tab):
    return tab.locator(".rl-extra .rl-reason")


def test_a_strength_leaves_the_aspects_as_they_are(url, begin):
    tab = begin("both", 2, count=1, aspects=["helpful"])
    same = tab.get_by_role("group", name="helpful").get_by_role("button", name="Same")
    same.click()
    tab.keyboard.press("9")
    expect(same).to_have_attribute("aria-pressed", "true")
    expect(tab.locator("[data-do=strength_3]")).to_have_attribute("aria-pressed", "true")
    tab.keyboard.press("1")
    done(tab, 1)
    [vote] = export(url, "both")["votes"]
    assert (vote["strength"], vote["aspects"]) == (3, {"helpful": "tie"})


def test_the_keys_of_strengths_do_nothing_where_none_is_asked(url, begin):
    tab = begin("plain", 2, count=1, strength="no")
    tab.keyboard.press("9")
    tab.keyboard.press("1")
    done(tab, 1)
    [vote] = export(url, "plain")["votes"]
    assert "strength" not in vote


def test_a_strength_that_is_required_is_asked_for_and_nothing_typed_is_lost(url, begin):
    tab = begin("must", 2, strength="required", aspects=["helpful"])
    sent = []
    tab.on("request", lambda request: sent.append(request.url))
    aspect = tab.get_by_role("group", name="helpful").get_by_role("button", name="2")
    aspect.click()
    reasons(tab).fill("a long, careful reason")
    tab.locator("[data-do=left]").click()
    expect(tab.locator(".rl-notice")).to_have_text("Say first how much better it is.")
    assert sent == []
    expect(aspect).to_have_attribute("aria-pressed", "true")
    tab.get_by_role("group", name="How much better?").get_by_role("button", name="Much").click()
    tab.locator("[data-do=left]").click()
    done(tab, 1)
    tab.locator("[data-do=tie]").click()  # a tie has none
    done(tab, 2)
    votes = export(url, "must")["votes"]
    assert [(v.get("strength"), v.get("reason", "")) for v in votes] == [
        (3, "a long, careful reason"),
        (None, ""),
    ]


def test_a_rewrite_that_is_refused_stays_as_it_was_typed(url, begin):
    tab = begin("surrogates", 1, kind="rewrite")
    typed = "a long rewrite, and half a character: "
    tab.evaluate(
        "text => document.querySelector('.rl-rewrite').value = text + '\\ud800'", arg=typed
    )
    reasons(tab).fill("because")
    save = tab.get_by_role("button", name="Save the rewrite")
    save.click()
    expect(tab.locator(".rl-notice")).to_contain_text("text")
    tab.wait_for_selector("[data-state=ready]")
    assert tab.locator(".rl-rewrite").input_value().startswith(typed)
    expect(reasons(tab)).to_have_value("because")
    tab.locator(".rl-rewrite").fill(typed)
    save.click()
    done(tab, 1)
    [row] = export(url, "surrogates")["demonstrations"]
    assert row["messages"][-1]["content"] == typed
    assert tab.evaluate("Object.keys(localStorage).filter(k => k.startsWith('rlhf-unsent'))") == []


def test_a_campaign_that_refuses_leaves_the_one_before_to_work_on(begin):
    begin("shut", 2)
    tab = begin("open", 2)
    reasons(tab).fill("half a reason")
    refusal = {"status": 403, "json": {"detail": "not for you"}}
    tab.route("**/shut/next?*", lambda route: route.fulfill(**refusal))
    tab.select_option(".rl-pick", "shut")
    expect(tab.locator(".rl-notice")).to_have_text("Not for you.")
    tab.wait_for_selector("[data-state=ready]")
    expect(tab.locator(".rl-pick")).to_have_value("open")
    expect(tab.locator("[data-campaign]")).to_have_text("open")
    expect(reasons(tab)).to_have_value("half a reason")
    tab.locator("[data-do=left]").click()
    done(tab, 1)
    tab.unroute("**/shut/next?*")
    tab.select_option(".rl-pick", "shut")
    expect(tab.locator("[data-campaign]")).to_have_text("shut")
    tab.wait_for_selector("[data-state=ready]")


def test_a_browser_whose_storage_is_full_sends_the_answer_all_the_same(begin):
    tab = begin("full", 1, kind="thumbs")
    tab.evaluate(
        "() => { Storage.prototype.setItem = "
        "() => { throw new DOMException('full', 'QuotaExceededError'); }; }"
    )
    for number in (1, 2):
        tab.keyboard.press("2")
        done(tab, number)


def test_keys_of_ones_own_answer_every_kind_and_the_usual_ones_do_not(tmp_path, enter):
    own = {"good": ("q",), "bad": ("w", "v"), "rank_1": ("a",), "rank_2": ("d",), "rate_2": ("z",)}
    own |= {"rank_tie": ("+",), "rewrite": ("i",)}
    with running(tmp_path / "label.db", keymap={**load_keymap(), **own}) as url:
        tab = start(url, enter, "thumbs", 1, kind="thumbs")
        buttons = tab.locator(".rl-own button")
        assert buttons.locator("kbd").all_inner_texts() == ["q", "w"]
        shortcuts = [button.get_attribute("aria-keyshortcuts") for button in buttons.all()]
        assert shortcuts == ["q", "w v"]
        for number, key in enumerate("1v2q"):
            tab.keyboard.press(key)
            done(tab, (number + 1) // 2)
        assert [row["good"] for row in export(url, "thumbs")["feedback"]] == [False, True]
        tab = start(url, enter, "ranks", 2, count=1, kind="ranking")
        assert tab.locator(".rl-pair kbd").all_inner_texts() == ["a", "d"]
        for key in ("1", "d", "=", "+", "a"):
            tab.keyboard.press(key)
        expect(tab.locator(".rl-own [role=status]")).to_have_text("2 = 1")
        tab = start(url, enter, "rates", 1, count=1, kind="rating", aspects=["helpful"])
        row = tab.get_by_role("group", name="helpful")
        assert row.locator("kbd").all_inner_texts() == ["z"]
        for key, count in (("2", 0), ("z", 1)):
            tab.keyboard.press(key)
            expect(row.locator("[aria-pressed=true]")).to_have_count(count)
        tab = start(url, enter, "rewrites", 1, count=1, kind="rewrite")
        expect(tab.locator(".rl-own kbd").first).to_have_text("i")
        for key, focused in (("e", False), ("i", True)):
            tab.keyboard.press(key)
            assert tab.evaluate("document.activeElement.tagName === 'TEXTAREA'") is focused


def type_arabic(tab, number):
    """A digit on a keyboard that has no Latin ones."""
    tab.evaluate(
        "n => document.body.dispatchEvent(new KeyboardEvent('keydown', {"
        " key: String.fromCharCode(0x660 + n), code: 'Digit' + n, bubbles: true }))",
        arg=number,
    )


def test_a_keyboard_without_latin_digits_answers_every_kind(url, begin):
    tab = begin("arabic thumbs", 1, count=1, kind="thumbs")
    type_arabic(tab, 1)
    done(tab, 1)
    assert [row["good"] for row in export(url, "arabic thumbs")["feedback"]] == [True]
    tab = begin("arabic rates", 1, count=1, kind="rating", aspects=["helpful"])
    type_arabic(tab, 4)
    tab.keyboard.press("Enter")
    done(tab, 1)
    assert export(url, "arabic rates")["answers"][0]["aspects"] == {"helpful": 4}
    tab = begin("arabic ranks", 2, count=1, kind="ranking")
    for number in (2, 1):
        type_arabic(tab, number)
    expect(tab.locator(".rl-own [role=status]")).to_have_text("2  >  1")


@pytest.mark.parametrize(("kind", "name"), [("thumbs", "Bad"), ("rating", "Save the ratings")])
def test_the_button_that_was_pressed_keeps_the_focus_at_the_next_item(begin, kind, name):
    aspects = {"aspects": ["helpful"]} if kind == "rating" else {}
    tab = begin(f"focus {kind}", 1, count=3, kind=kind, **aspects)
    tab.locator(".rl-own button").last.focus()
    for number in (1, 2):
        tab.keyboard.press("3")  # a rating; nothing to thumbs
        tab.keyboard.press("Enter")
        done(tab, number)
        expect(tab.get_by_role("button", name=name)).to_be_focused()


@pytest.mark.parametrize(
    ("kind", "num_responses", "pressed"),
    [("thumbs", 1, ".rl-own .rl-main"), ("pairwise", 2, ".rl-left")],
)
def test_enter_held_down_on_a_button_is_one_answer(url, begin, kind, num_responses, pressed):
    tab = begin(f"held {kind}", num_responses, count=4, kind=kind)
    tab.locator(pressed).first.focus()
    tab.keyboard.down("Enter")
    done(tab, 1)
    expect(tab.locator(pressed).first).to_be_focused()
    for _ in range(3):
        tab.keyboard.down("Enter")  # as a key repeats itself
    tab.keyboard.up("Enter")
    tab.keyboard.press("s")
    done(tab, 2)
    with client(url, "ann") as ann:
        past = ann.get(f"/api/campaigns/held {kind}/history").json()
    assert [one["choice"] == "skip" for one in past] == [True, False]


def test_the_help_tells_the_keys_of_two_only_where_there_are_two(begin):
    for kind, num_responses, seen in (("thumbs", 1, False), ("pairwise", 2, True)):
        tab = begin(f"help {kind}", num_responses, kind=kind)
        tab.keyboard.press("?")
        expect(tab.locator(".rl-help dd", has_text="Skip")).to_be_visible()
        expect(tab.locator(".rl-help dd", has_text="Response 1 is better")).to_be_visible(
            visible=seen
        )
        expect(tab.locator(".rl-help dd", has_text="How much")).to_be_visible(visible=seen)
