"""A hundred hostile texts in a real browser: nothing runs, is fetched, or covers the page."""

import pytest
from playwright.sync_api import expect

from rlhf.records import Comparison, Prompt, Response, to_json
from tests.hostile import LONG, MARKUP
from tests.labeling import PASSWORD, client, running

TRAP = "window.sprung = []; window.trap = (what) => { window.sprung.push(what); return ''; };"

# Elements that text may become; and whether anything lies over the button that answers.
LOOK = """() => {
  const texts = [...document.querySelectorAll(".rl-text")];
  const parts = texts.flatMap((text) => [...text.querySelectorAll("*")]);
  const box = document.querySelector("[data-do=left]").getBoundingClientRect();
  const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return {
    sprung: window.sprung,
    covered: !top.closest("[data-do=left]"),
    elements: [...new Set(parts.map((part) => part.localName))],
    attributes: [...new Set(parts.flatMap((part) => part.getAttributeNames()))],
    links: parts.filter((part) => part.localName === "a").map((link) => link.protocol),
    outside: texts.some((t) => t.getBoundingClientRect().right > innerWidth + 1),
    pages: document.querySelectorAll(".rl-rate").length,
    direction: getComputedStyle(document.querySelector(".rl-keys")).direction,
  };
}"""
FORBIDDEN = {
    *("script", "style", "link", "meta", "base", "iframe", "object", "embed", "form", "input"),
    *("button", "img", "video", "svg", "dialog", "details", "template", "div", "span", "plaintext"),
}


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with running(tmp_path_factory.mktemp("label") / "label.db") as address:
        with client(address, "admin") as admin:
            asked = [
                Comparison(Prompt.from_text(t), Response("a " + t, t), Response("b " + t, t + "2"))
                for t in [*MARKUP, LONG[:-2]]
            ]
            body = {"name": "hostile", "guidelines": "\n\n".join(MARKUP)}
            body |= {"comparisons": [to_json(c) for c in asked]}
            assert admin.post("/api/campaigns", json=body).status_code == 200
        yield address


def test_nothing_runs_is_fetched_or_covers_the_page_and_the_exact_text_is_exact(url, enter):
    tab = enter(url, "ann")  # which fails if another address is asked, or a dialog opens
    tab.add_init_script(TRAP)
    tab.reload()
    tab.wait_for_selector("[data-state=ready]")
    tab.keyboard.press("g")
    tab.keyboard.press("g")
    for number, text in enumerate([*MARKUP, LONG[:-2]], start=1):
        seen = tab.evaluate(LOOK)
        assert seen["sprung"] == [], text
        assert not seen["covered"], text
        assert not FORBIDDEN & set(seen["elements"]), text
        assert not {n for n in seen["attributes"] if n.startswith("on")}, text
        assert not {"style", "class", "id", "src", "srcset"} & set(seen["attributes"]), text
        assert set(seen["links"]) <= {"https:", "http:", "mailto:"}, text
        assert (seen["outside"], seen["pages"], seen["direction"]) == (False, 1, "ltr"), text
        tab.keyboard.press("x")
        exact = tab.evaluate("document.querySelector('[data-text=left]').textContent")
        assert exact[0] in "ab"
        assert exact[2:] == text
        tab.keyboard.press("x")
        tab.fill(".rl-reason", text[:200])
        tab.keyboard.press("Escape")
        tab.keyboard.press("1")
        expect(tab.locator("[data-count]")).to_contain_text(f"{number} of")
        tab.wait_for_selector("[data-state=ready], [data-state=done]")
    expect(tab.locator(".rl-done h2")).to_be_visible()
    assert tab.evaluate("window.sprung") == []
    with client(url, "admin") as admin:
        votes = admin.get("/api/campaigns/hostile/export").json()["votes"]
    assert len(votes) == len(MARKUP) + 1


KEYS = {
    "ranking": ("1", "2", "3", "Enter"),
    "rating": ("3", "Enter"),
    "thumbs": ("2",),
    "rewrite": ("e", "Control+Enter"),
}
SHOWN = """() => [...document.querySelectorAll(".rl-text *, .rl-rate :is(img, script, iframe)")]
  .map((part) => part.localName)"""


@pytest.mark.parametrize("kind", KEYS)
def test_no_kind_of_task_runs_what_it_shows(url, enter, kind):
    texts = MARKUP[::6]
    tasks = [
        {
            "prompt": to_json(Prompt.from_text(text)),
            "responses": [
                {"text": f"{k} {text}", "policy": text}
                for k in range(3 if kind == "ranking" else 1)
            ],
        }
        for text in texts
    ]
    aspects = ["<img src=x onerror=trap(1)>"] if kind == "rating" else []
    settings = {"kind": kind, "aspects": aspects}
    with client(url, "admin") as admin:
        body = {"name": kind, "settings": settings, "comparisons": tasks, "guidelines": texts[0]}
        assert admin.post("/api/campaigns", json=body).status_code == 200
    tab = enter(url, "bob")
    tab.add_init_script(TRAP)
    tab.reload()
    tab.wait_for_selector("[data-state=ready]")
    tab.select_option(".rl-pick", kind)
    tab.wait_for_selector("[data-state=ready]")
    for number, text in enumerate(texts, start=1):
        assert tab.evaluate("window.sprung") == [], text
        assert not FORBIDDEN & set(tab.evaluate(SHOWN)), text
        for key in KEYS[kind]:
            tab.keyboard.press(key)
        expect(tab.locator("[data-count]")).to_contain_text(f"{number} of")
        tab.wait_for_selector("[data-state=ready], [data-state=done]")
    tab.keyboard.press("u")
    tab.wait_for_selector("[data-state=ready]")
    tab.keyboard.press("h")
    expect(tab.locator(".rl-history li").first).to_be_visible()
    assert tab.evaluate("window.sprung") == []
    if kind == "rewrite":
        with client(url, "admin") as admin:
            rows = admin.get(f"/api/campaigns/{kind}/export").json()["demonstrations"]
        assert {row["messages"][-1]["content"] for row in rows} == {f"0 {t}" for t in texts[:-1]}


def test_an_admin_who_looks_at_them_is_safe_too(url, enter):
    with client(url, "admin") as admin:  # the one of our hostile names that is a name
        admin.post("/api/users", json={"name": "__proto__", "password": PASSWORD})
    tab = enter(url, "admin", "admin")
    tab.add_init_script(TRAP)
    tab.reload()
    expect(tab.locator(".rl-cards article").first).to_be_visible()
    tab.wait_for_timeout(500)
    assert tab.evaluate("window.sprung") == []
    assert tab.locator("main iframe, main form[action], main img").count() == 0


@pytest.mark.parametrize("place", ["next", "name"])
def test_the_sign_in_page_takes_hostile_input_as_text(url, chromium, place):
    context = chromium.new_context()
    context.add_init_script(TRAP)
    tab = context.new_page()
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    for text in MARKUP[::8]:
        if place == "next":
            tab.goto(f"{url}/login")
            tab.evaluate(
                "t => history.replaceState(null, '', '?next=' + encodeURIComponent(t))", text
            )
        else:
            tab.goto(f"{url}/login")
            tab.fill("#name", text)
            tab.fill("#password", "wrong wrong")
            tab.keyboard.press("Enter")
            expect(tab.get_by_role("alert")).not_to_be_empty()
        assert tab.evaluate("window.sprung") == []
    if place == "next":
        tab.evaluate("history.replaceState(null, '', '?next=//elsewhere.example/rate/')")
        tab.fill("#name", "ann")
        tab.fill("#password", PASSWORD)
        tab.keyboard.press("Enter")
        tab.wait_for_url(f"{url}/rate/")
    assert [one for one in asked if not one.startswith((url, "data:"))] == []
    context.close()
