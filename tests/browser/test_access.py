"""Everybody can use every page: by keyboard alone, with a screen reader, small, dark, in Arabic."""

import re
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from labeling_ui.locales import languages
from labeling_ui.pages.keymap import load_keymap
from rlhf.records import Comparison, Message, Prompt, Response, to_json
from tests.axe import violations
from tests.labeling import PASSWORD, client, comparisons, running

FORMULA = "$$x = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}$$"
CODE = "```python\nroots(1, -3, 2)  # " + "a long comment " * 8 + "\n```"
TABLE = "| n | value |\n|---|---|\n| 1 | " + "wide " * 30 + "|"
ASIDE = "1. *one* `two`\n\n> quoted [link](https://shop.example)"
RICH = Comparison(
    Prompt((Message("system", "Be *kind*."), Message("user", "How do I solve it?"))),
    Response("\n\n".join(["## So", FORMULA, CODE, TABLE, ASIDE]), "one"),
    Response("مرحبا بالعالم \\(" + "x + " * 60 + "y\\) " + "unbroken" * 40, "two"),
)


class Scripted:
    names = ("one", "two")

    def stream(self, name, messages):
        yield f"**{name}** on `{messages[-1].content}` $$\\frac12$$"


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    database, runs = tmp_path_factory.mktemp("label") / "label.db", [Path("one"), Path("two")]
    with running(database, policies=runs, loader=lambda _: Scripted()) as address:
        with client(address, "admin") as admin:
            asked = [to_json(c) for c in (RICH, *comparisons(3))]
            body = {"name": "access", "guidelines": "# Be fair\n\n- so", "comparisons": asked}
            body |= {"settings": {"overlap": 99}}
            assert admin.post("/api/campaigns", json=body).status_code == 200
            with client(address, "bob") as bob:
                item = bob.get("/api/campaigns/access/next").json()["item"]
                vote = {"assignment": item["assignment"], "choice": "left", "key": "key"}
                bob.post("/api/campaigns/access/votes", json=vote)
        yield address


def sign_in(tab, name):
    tab.fill("#name", name)
    tab.fill("#password", PASSWORD)
    tab.keyboard.press("Enter")


def visit(url, tab):
    """Every page, and what opens on it, one after another; says where it is."""
    tab.goto(f"{url}/login?next=/rate/")
    yield "sign in"
    sign_in(tab, "ann")
    tab.wait_for_selector("[data-state=ready]")
    yield "rate"
    for key in ("g", "8", "x"):
        tab.keyboard.press(key)
    yield "exact text with guidelines"
    tab.keyboard.press("?")
    yield "help"
    tab.keyboard.press("Escape")
    tab.goto(f"{url}/compare/")
    tab.wait_for_selector("[data-state=ask], [data-state=judge]")
    if tab.locator("[data-state=ask]").count():
        yield "arena"
        tab.locator("#rl-ask").fill(f"What {time.time_ns()}?")
        tab.keyboard.press("Enter")
    tab.wait_for_selector("[data-state=judge]")
    yield "battle"
    tab.locator("[data-do=left]").click()
    tab.wait_for_selector("[data-state=told]")
    yield "names"
    tab.locator("[data-do=continue]").click()
    yield "conversation"
    tab.goto(f"{url}/compare/#chosen")
    tab.locator(".rl-chosen textarea").fill("What?")
    tab.locator(".rl-chosen .rl-main").click()
    expect(tab.locator(".rl-chosen .rl-text").first).to_contain_text("one")
    yield "compare"
    tab.goto(f"{url}/account")
    tab.locator("[data-part=tokens] [type=submit]").click()
    expect(tab.locator("[data-part=tokens] .rl-once")).to_contain_text("rlhf_")
    yield "account"
    tab.goto(f"{url}/join#code")
    yield "join"
    tab.goto(f"{url}/admin/")
    yield "not for you"
    tab.context.clear_cookies()
    tab.goto(f"{url}/admin/")
    sign_in(tab, "admin")
    tab.wait_for_selector(".rl-cards article")
    yield "admin"
    tab.goto(f"{url}/account")
    tab.locator("[data-part=invitations] [type=submit]").click()
    expect(tab.locator("[data-part=invitations] .rl-once")).to_contain_text("/join#")
    expect(tab.locator(".rl-log li").first).to_be_visible()
    yield "account of an admin"
    tab.goto(f"{url}/new")
    tab.check("[value=prompts]")
    expect(tab.locator("#prompts")).to_be_visible()
    yield "new campaign"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "language"), [(1440, "en"), (390, "de"), (320, "ar")])
def test_axe_finds_nothing_serious_and_nothing_is_cut_off(url, chromium, width, language, scheme):
    viewport = {"width": width, "height": 800}
    context = chromium.new_context(viewport=viewport, color_scheme=scheme, locale=language)
    tab = context.new_page()
    for place in visit(url, tab):
        assert violations(tab) == [], place
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), place
        assert tab.evaluate("[document.documentElement.lang, document.documentElement.dir]") == [
            language,
            languages()[language].direction,
        ], place
    context.close()


@pytest.mark.parametrize("language", sorted(languages().keys() - {"ar"}))
def test_no_other_language_is_cut_off_on_the_smallest_screen(url, chromium, language):
    context = chromium.new_context(viewport={"width": 320, "height": 700}, locale=language)
    tab = context.new_page()
    for place in visit(url, tab):
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), place
        cut = tab.evaluate(
            """() => [...document.querySelectorAll("button, .rl-top a, h1, h2, dd")]
            .filter((e) => e.offsetParent && e.scrollWidth > e.clientWidth + 1
              && getComputedStyle(e).overflow !== "visible").map((e) => e.outerHTML)"""
        )
        assert cut == [], place
    context.close()


FOCUS = """() => {
  const e = document.activeElement, style = getComputedStyle(e);
  const seen = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  return [e.dataset.do || e.dataset.t || e.className || e.localName, seen, e === document.body];
}"""


def walk(tab) -> list[str]:
    """Everything that Tab reaches, each with a focus that can be seen."""
    reached = []
    for _ in range(60):
        tab.keyboard.press("Tab")
        name, seen, out = tab.evaluate(FOCUS)
        if out:
            return reached
        assert seen, f"the focus on {name} cannot be seen"
        reached.append(name)
    raise AssertionError(reached)


def by_keyboard(tab, name):
    """Sign in; who types before the page has put the focus on the name loses letters."""
    expect(tab.locator("#name")).to_be_focused()
    tab.keyboard.type(name)
    tab.keyboard.press("Tab")
    tab.keyboard.type(PASSWORD)
    tab.keyboard.press("Enter")


def test_every_page_is_used_by_keyboard_alone(url, chromium):
    context = chromium.new_context()
    tab = context.new_page()
    tab.goto(f"{url}/login?next=/rate/")
    by_keyboard(tab, "ann")
    tab.wait_for_selector("[data-state=ready]")
    reached = walk(tab)
    assert reached[0] == "rl-jump"
    buttons = {"left", "right", "tie", "both_bad", "skip", "exact", "help", "strength_1"}
    assert buttons <= set(reached)
    assert {"rl-reason", "rl-language"} <= set(reached)
    tab.keyboard.press("?")
    expect(tab.locator(".rl-help")).to_be_visible()
    tab.keyboard.press("Enter")  # on Close
    expect(tab.locator(".rl-help")).to_be_hidden()
    tab.locator("[data-do=tie]").focus()
    tab.keyboard.press("Enter")
    expect(tab.locator("[data-count]")).to_have_text("1 of 4")
    tab.wait_for_selector("[data-state=ready]")
    tab.keyboard.press("u")
    expect(tab.locator("[data-count]")).to_have_text("0 of 4")
    tab.goto(f"{url}/compare/")
    tab.wait_for_selector("[data-state=ask]")
    expect(tab.locator("#rl-ask")).to_be_focused()
    tab.keyboard.type(f"By keyboard {time.time_ns()}?")
    tab.keyboard.press("Enter")
    tab.wait_for_selector("[data-state=judge]")
    assert {"left", "tie", "right", "both_bad", "skip"} <= set(walk(tab))
    tab.keyboard.press("0")
    tab.wait_for_selector("[data-state=told]")
    tab.keyboard.press("Enter")  # the way on has the focus
    expect(tab.locator("#rl-ask")).to_be_focused()
    tab.get_by_role("link", name="Chosen policies").focus()
    tab.keyboard.press("Enter")
    expect(tab.get_by_label("Left policy")).not_to_have_value("")  # all of the page is there
    expect(tab.get_by_label("Prompt")).to_be_visible()  # what is hidden takes no focus
    tab.get_by_label("Prompt").focus()
    tab.keyboard.type("By keyboard?")
    tab.keyboard.press("Tab")
    tab.keyboard.press("Enter")
    expect(tab.locator(".rl-chosen .rl-text").first).to_contain_text("By keyboard?")
    tab.keyboard.press("Tab")
    expect(tab.get_by_label("Left policy")).to_be_focused()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    tab.reload()
    tab.wait_for_selector("[data-me]:not(:empty)")
    tab.locator("[data-out]").focus()
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"{url}/login")
    tab.goto(f"{url}/admin/")
    by_keyboard(tab, "admin")
    tab.wait_for_selector(".rl-cards article")
    assert "rl-side" in walk(tab)
    context.close()


def test_the_jump_leads_past_the_bar(url, enter):
    tab = enter(url, "ann")
    tab.wait_for_selector("[data-state=ready]")
    tab.keyboard.press("Tab")
    expect(tab.locator(".rl-jump")).to_be_in_viewport()
    tab.keyboard.press("Enter")
    tab.keyboard.press("Tab")
    assert tab.evaluate("!!document.activeElement.closest('.rl-rate')")


def test_what_happens_is_read_out(url, enter):
    tab = enter(url, "ann")
    tab.wait_for_selector("[data-state=ready]")
    live = tab.locator("[data-live]")
    expect(live).to_have_text("Comparison 1 of 4")
    tab.keyboard.press("1")
    expect(live).to_have_text(re.compile(r"Saved ✓ \d+\. Comparison 2 of 4"))
    tab.keyboard.press("u")
    expect(live).to_have_text("Undone. Comparison 1 of 4")
    names = [
        button.get_attribute("aria-keyshortcuts") for button in tab.locator(".rl-keys button").all()
    ]
    keymap = load_keymap()
    shown = ("left", "tie", "right", "both_bad", "skip", "undo", "flag", "history")
    assert names == [" ".join(keymap[action]) for action in shown]


def test_a_language_is_chosen_kept_and_runs_in_its_direction(url, chromium):
    context = chromium.new_context(locale="fr-FR")
    tab = context.new_page()
    tab.goto(f"{url}/login?next=/rate/")
    expect(tab.get_by_role("heading")).to_have_text("Sign in")  # there is no French
    tab.select_option(".rl-language", "ar")
    expect(tab.get_by_role("heading")).to_have_text("تسجيل الدخول")
    sign_in(tab, "ann")
    tab.wait_for_selector("[data-state=ready]")
    expect(tab.locator(".rl-left")).to_contain_text("الرد 1 أفضل")
    assert tab.evaluate("getComputedStyle(document.querySelector('.rl-status')).direction") == "rtl"
    # left stays left: it is the side that is stored
    left, right = (tab.locator(f".rl-keys .rl-{side}").bounding_box() for side in ("left", "right"))
    assert left["x"] < right["x"]
    text = [tab.locator(f"[data-text={side}]").bounding_box()["x"] for side in ("left", "right")]
    assert text[0] < text[1]
    tab.goto(f"{url}/compare/#chosen")
    expect(tab.get_by_label("النموذج الأول").locator("option:checked")).to_have_text("النموذج 1")
    tab.select_option(".rl-language", "de")
    expect(tab.get_by_label("Linkes Modell").locator("option:checked")).to_have_text("Modell 1")
    tab.goto(f"{url}/admin/")
    expect(tab.get_by_role("heading")).to_have_text("Diese Seite ist für die Verwaltung")
    context.close()


def test_keys_are_found_by_their_place_where_letters_are_others(url, enter):
    tab = enter(url, "ann", locale="ar")
    tab.wait_for_selector("[data-state=ready]")
    tab.evaluate(
        """() => document.body.dispatchEvent(new KeyboardEvent("keydown",
        { key: "ء", code: "KeyX", bubbles: true }))"""
    )
    expect(tab.locator("[data-do=exact]")).to_have_attribute("aria-pressed", "true")


def test_a_text_cannot_turn_the_page_around_it(url, enter):
    with client(url, "admin") as admin:
        turned = "\u202e\u2067 never closed"
        asked = Comparison(Prompt.from_text(turned), Response(turned + "a"), Response(turned + "b"))
        body = {"name": "turned", "comparisons": [to_json(asked)]}
        assert admin.post("/api/campaigns", json=body).status_code == 200
    tab = enter(url, "bob")
    tab.wait_for_selector("[data-state=ready]")
    heading = tab.locator("#rl-left-title")
    before = heading.bounding_box()
    tab.select_option(".rl-pick", "turned")
    tab.wait_for_selector("[data-state=ready]")
    expect(tab.locator("[data-campaign]")).to_have_text("turned")
    assert heading.bounding_box()["x"] == before["x"]
    assert tab.locator(".rl-text").evaluate_all(
        "texts => texts.every((t) => getComputedStyle(t).unicodeBidi.includes('isolate'))"
    )


def test_motion_stops_for_those_who_ask_and_paper_shows_only_the_texts(url, enter):
    tab = enter(url, "ann", reduced_motion="reduce")
    tab.wait_for_selector("[data-state=ready]")
    moving = "getComputedStyle(document.querySelector('.rl-progress i')).transitionDuration"
    assert tab.evaluate(moving) == "0s"
    tab.emulate_media(media="print")
    for selector in (".rl-top", ".rl-answers"):
        expect(tab.locator(selector)).to_be_hidden()
    for selector in ("[data-text=left]", "[data-text=right]", ".rl-turn >> nth=0"):
        expect(tab.locator(selector)).to_be_visible()


def test_who_is_invited_joins_changes_the_password_and_makes_a_token(url, chromium):
    with client(url, "admin") as admin:
        link = admin.post("/api/invitations", json={"role": "guest"}).json()["link"]
    context = chromium.new_context()
    tab = context.new_page()
    tab.goto(f"{url}/join")
    tab.fill("#name", "visitor")
    tab.fill("#password", PASSWORD)
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("alert")).to_have_text("This link is not whole. Ask for it again.")
    tab.goto("about:blank")
    tab.goto(url + link)
    tab.fill("#name", "ann")
    tab.fill("#password", PASSWORD)
    tab.keyboard.press("Enter")
    expect(tab.get_by_role("alert")).to_have_text("User 'ann' exists already.")
    tab.fill("#name", "visitor")
    tab.keyboard.press("Enter")
    tab.wait_for_url(f"{url}/compare/")  # a guest has nothing to rate
    expect(tab.get_by_role("link", name="Rate")).to_be_hidden()
    tab.get_by_role("link", name="visitor").click()
    tab.fill("#old_password", PASSWORD)
    tab.fill("#new_password", "another password")
    tab.keyboard.press("Enter")
    expect(tab.get_by_text("Other sessions have ended.")).to_be_visible()
    tab.get_by_role("button", name="Make a token").click()
    expect(tab.locator(".rl-once")).not_to_be_empty()
    token = tab.locator(".rl-once").inner_text()
    with client(url) as program:
        me = program.get("/api/me", headers={"Authorization": f"Bearer {token}"})
        assert me.json() == {"name": "visitor", "role": "guest"}
        tab.get_by_role("button", name="Revoke").click()
        expect(tab.get_by_text("None yet.")).to_be_visible()
        me = program.get("/api/me", headers={"Authorization": f"Bearer {token}"})
        assert me.status_code == 401
    context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (320, "dark")])
def test_the_description_of_the_api_is_for_everybody_too(url, chromium, width, scheme):
    context = chromium.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme, locale="ar"
    )
    tab = context.new_page()
    tab.goto(f"{url}/login?next=/rate/")
    sign_in(tab, "ann")
    tab.wait_for_selector("[data-state=ready]")
    tab.goto(f"{url}/api/docs")
    assert violations(tab) == []
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert tab.evaluate("[document.documentElement.lang, document.documentElement.dir]") == [
        "en",  # it is not translated, and says so
        "ltr",
    ]
    tab.locator("nav[aria-label=Paths] a", has_text="{name}/votes").click()
    expect(tab.locator("#vote")).to_be_in_viewport()
    context.close()
