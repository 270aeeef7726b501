import math
import random
import re
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import expect

from labeling_ui.campaigns.answers import Answer
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import Settings, Task
from labeling_ui.db.store import Store
from labeling_ui.locales import languages
from labeling_ui.results.export import export
from rlhf.evaluate.agreement import agreement
from rlhf.evaluate.leaderboard import leaderboard
from rlhf.records import Comparison, Prompt, Response, to_json
from tests.labeling import PASSWORD, cheap_accounts, client, running

POLICIES = {"runs/secretive-base": 0.0, "runs/secretive-sft": 0.8, "runs/secretive-ppo": 1.4}
WIDTHS = (1440, 390, 320)


def fill(store):
    """A campaign that twelve simulated raters judged, three to a comparison, over two days."""
    draw = random.Random(3)
    now = [datetime(2026, 5, 4, 8, 0, tzinfo=UTC)]
    campaigns = Campaigns(store, clock=lambda: now[0], draw=lambda _: draw.choice(["01", "10"]))
    names = list(POLICIES)
    asked = {}
    for number in range(48):
        a, b = draw.sample(names, 2)
        item = Comparison(
            Prompt.from_text(f"Where is parcel {number}?"),
            Response(f"Parcel {number} is on its way." + " Really." * draw.randrange(9), a),
            Response(f"**No idea** about {number}." + " Sorry!" * draw.randrange(4), b),
        )
        asked[item.response_a.text] = asked[item.response_b.text] = item
    work = [Task.of(item) for item in {c.id: c for c in asked.values()}.values()]
    campaigns.add("parcels", work, settings=Settings(overlap=3))
    accounts = cheap_accounts(store)
    for number in range(12):
        rater = accounts.add(f"rater-{number:02}", PASSWORD, "rater").id
        for turn in range(14):
            now[0] += timedelta(minutes=draw.randrange(1, 30))
            item = campaigns.next("parcels", rater).item
            if item is None:
                break
            left, right = (_policy(asked[text], text) for text in item.responses)
            share = 1 / (1 + math.exp(POLICIES[right] - POLICIES[left]))
            choice = "left" if draw.random() < share else "right"
            luck = draw.random()
            choice = "tie" if luck < 0.1 else "both_bad" if luck < 0.15 else choice
            choice = "skip" if luck > 0.95 else choice
            reason = "The <b>first</b> one answers." if turn == 1 else ""
            now[0] += timedelta(seconds=draw.randrange(1, 40))
            answer = Answer(item.assignment, choice, f"key-{number}-{turn}", reason=reason)
            campaigns.submit("parcels", rater, answer)


def _policy(item, text):
    return next(r.policy for r in (item.response_a, item.response_b) if r.text == text)


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    path = tmp_path_factory.mktemp("label") / "label.db"
    with closing(Store(path)) as store:
        fill(store)
    return path


@pytest.fixture(scope="module")
def url(database):
    with running(database) as address:
        yield address


@pytest.fixture(scope="module")
def result(database):
    with closing(Store(database)) as store:
        yield export(store, "parcels")


def minus(text):
    return text.replace("-", "\N{MINUS SIGN}")


def row(tab, region, name):
    """The cells of a row, without the small print."""
    line = tab.get_by_role("region", name=region).locator("tbody tr", has_text=name).first
    expect(line).to_be_visible(timeout=90_000)
    return [
        cell.evaluate("c => { c = c.cloneNode(true); c.querySelectorAll('small').forEach(s => "
        "s.remove()); return c.textContent.trim() }")
        for cell in line.locator("td").all()
    ]  # fmt: skip


def test_the_admin_reads_the_figures_that_the_votes_give(url, enter, result):
    tab = enter(url, "admin", "admin")
    found, board = agreement(result.votes), leaderboard(result.comparisons, result.votes)
    assert found.percent is not None
    assert found.fleiss is not None
    assert found.alpha_ordinal is not None
    assert row(tab, "Agreement", "Equal pairs")[0] == f"{100 * found.percent.value:.1f} %"
    assert row(tab, "Agreement", "Fleiss")[0] == minus(f"{found.fleiss.value:.2f}")
    assert row(tab, "Agreement", "ordinal")[0] == minus(f"{found.alpha_ordinal.value:.2f}")
    assert board.standings[0].at_equal_length is not None
    for standing in board.standings:
        cells = row(tab, "Leaderboard", standing.policy)
        assert cells[0] == minus(f"{standing.strength.value:.2f}")
        assert cells[2] == f"{100 * standing.win_share:.1f} %"
        assert cells[4] == f"{standing.votes}"
    expect(tab.get_by_role("img", name="Strength in logits")).to_be_visible()
    expect(tab.locator(".rl-heat td").nth(1)).to_have_text("")
    assert board.shares[0][1] is not None
    expect(tab.locator(".rl-heat tbody td").nth(1)).to_contain_text(
        f"{100 * board.shares[0][1]:.0f} %"
    )
    hours = tab.locator(".rl-figures .bar title")
    counts = [int(title.split(": ")[1].replace(",", "")) for title in hours.all_text_contents()]
    assert sum(counts) == result.status.votes
    expect(tab.locator(".rl-badge")).to_have_count(0)  # twelve raters are enough
    tab.get_by_text("Cohen's kappa of pairs").click()
    assert tab.get_by_role("region", name="Pairs of raters").locator("tbody tr").count() == len(
        found.pairs[:20]
    )


def test_the_admin_looks_through_the_tasks(url, enter, result):
    tab = enter(url, "admin", "admin")
    cases = tab.locator(".rl-case")
    expect(cases).to_have_count(10)
    expect(tab.get_by_text(f"1 to 10 of {len(result.comparisons)}")).to_be_visible()
    first = result.comparisons[0]
    expect(cases.first).to_contain_text(first.prompt.text)
    expect(cases.first.locator("h3").first).to_contain_text(first.response_a.policy)
    tab.get_by_role("link", name="Next").click()
    expect(tab.get_by_text(f"11 to 20 of {len(result.comparisons)}")).to_be_visible()
    tab.get_by_role("link", name="No winner").click()
    expect(tab.get_by_text(f"of {len(result.ties)}", exact=False).last).to_be_visible()
    expect(tab.get_by_role("link", name="No winner")).to_have_attribute("aria-current", "true")
    tab.get_by_role("link", name="All", exact=True).click()
    tab.get_by_label("Judged by").fill("rater-03")
    tab.keyboard.press("Enter")
    judgements = sum(vote.rater == "rater-03" for vote in result.votes)
    expect(tab.get_by_text(f"of {judgements}", exact=False).last).to_be_visible()
    expect(tab.locator(".rl-said").first).to_contain_text("rater-03")
    said = tab.locator(".rl-said q").first
    expect(said).to_have_text("The <b>first</b> one answers.")
    tab.get_by_role("link", name="Least accurate").click()
    expect(tab.get_by_role("link", name="Least accurate")).to_have_attribute("aria-current", "true")
    assert tab.get_by_label("Judged by").input_value() == "rater-03"


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(("theme", "language"), [("light", "en"), ("dark", "ar")])
def test_nothing_is_wider_than_the_screen(url, enter, width, theme, language):
    size = {"width": width, "height": 900}
    tab = enter(url, "admin", "admin", viewport=size, locale=language)
    tab.goto(f"{url}/admin/?__theme={theme}")
    expect(tab.locator(".rl-heat")).to_be_visible(timeout=90_000)
    expect(tab.locator(".rl-case")).to_have_count(10)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("document.body.classList.contains('dark')") == (theme == "dark")


def english_only(language):
    """What only English says so, as patterns of whole lines."""
    texts = languages()["en"].texts
    others = languages()[language].texts.values()
    return [
        re.compile(re.sub(r"\\{\w+\\}", ".+", re.escape(text)))
        for text in texts.values()
        if text not in others
    ]


@pytest.mark.parametrize(("language", "hint"), [("de", "Vollständig"), ("ar", "المكتملة")])
def test_the_page_speaks_the_language_of_its_reader(url, enter, language, hint):
    tab = enter(url, "admin", "admin", locale=language)
    expect(tab.locator(".rl-heat")).to_be_visible(timeout=90_000)
    expect(tab.locator(".rl-case")).to_have_count(10)
    tab.locator(".rl-admin summary").click()
    expect(tab.locator("dt", has_text=hint).first).to_be_visible()
    lines = "\n".join(tab.locator(".rl-admin").all_inner_texts()).splitlines()
    lines += tab.locator(".rl-admin [aria-label]").evaluate_all(
        "all => all.map((one) => one.ariaLabel)"
    )
    assert len(lines) > 200
    left = {line for line in lines for one in english_only(language) if one.fullmatch(line.strip())}
    assert left == set()
    strength = tab.locator(".rl-admin tbody td:has(small)").first
    assert strength.evaluate("cell => getComputedStyle(cell).direction") == "ltr"
    direction = tab.locator(".rl-admin").first.evaluate("page => getComputedStyle(page).direction")
    assert direction == languages()[language].direction


def call(session, number):
    """What comes back from calling a handler of the admin page directly."""
    body = {"fn_index": number, "data": [], "session_hash": "hash"}
    joined = session.post("/admin/gradio_api/queue/join", json=body)
    ran = session.post("/admin/gradio_api/run/predict", json=body)
    text = joined.text + ran.text
    if joined.status_code != 200:
        return {joined.status_code, ran.status_code}, text
    with session.stream(
        "GET", "/admin/gradio_api/queue/data", params={"session_hash": "hash"}
    ) as stream:
        for line in stream.iter_lines():
            text += line
            if '"process_completed"' in line:
                break
    return {joined.status_code, ran.status_code}, text


def test_nobody_but_an_admin_gets_a_name_or_a_figure(url):
    for name in (None, "ann"):
        with client(url, name) as session:
            for number in range(3):
                codes, text = call(session, number)
                assert codes <= {401, 403, 404}
                assert "secretive" not in text
            pages = [
                session.get(f"/admin/{path}").text for path in ("", "config", "?campaign=parcels")
            ]
            assert "secretive" not in "".join(pages)
    with client(url, "admin") as session:
        texts = [call(session, number)[1] for number in range(3)]
        assert any("secretive" in text for text in texts)
        assert "secretive" not in session.get("/admin/config").text


def test_a_campaign_made_later_shows_by_itself_and_opens_by_its_name(url, enter):
    tab = enter(url, "admin", "admin")
    expect(tab.locator(".rl-heat")).to_be_visible(timeout=90_000)
    with client(url, "admin") as admin:
        item = Comparison(Prompt.from_text("new?"), Response("x", "p"), Response("y", "q"))
        body = {"name": "later - more", "comparisons": [to_json(item)]}
        assert admin.post("/api/campaigns", json=body).status_code == 200
    link = tab.get_by_role("link", name="later - more")
    expect(link).to_be_visible(timeout=30_000)
    link.click()
    expect(tab.get_by_text("No votes yet.")).to_be_visible(timeout=30_000)
    expect(tab.get_by_text("No task has been judged yet.")).to_be_visible()
    tab.get_by_role("link", name="Flagged").click()
    expect(tab.get_by_text("No task is like that.")).to_be_visible()
    with tab.expect_download() as download:
        tab.locator(".rl-campaigns article", has_text="later").get_by_text("Export").click()
    assert download.value.suggested_filename == "later - more.json"
