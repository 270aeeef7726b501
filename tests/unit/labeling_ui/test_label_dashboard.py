import multiprocessing
import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl

import gradio as gr
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labeling_ui.accounts.sessions import COOKIE
from labeling_ui.campaigns.answers import Answer, Flag
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import Settings, Task
from labeling_ui.db.store import NotFound, Store
from labeling_ui.locales import languages
from labeling_ui.pages.admin import Admin, Asked, overview_html
from labeling_ui.pages.browse import cases_html
from labeling_ui.pages.figures import SORTS, figures_html
from labeling_ui.results import dashboard
from labeling_ui.results.cases import (
    SHOWS,
    CampaignVotes,
    CaseFilter,
    campaign_summaries,
    campaign_votes,
    cases,
)
from labeling_ui.results.dashboard import Dashboard, figures_of, timeline_of, work
from labeling_ui.results.export import export
from rlhf.evaluate.agreement import OUTCOMES, agreement
from rlhf.evaluate.leaderboard import leaderboard
from rlhf.evaluate.raters import rater_qualities
from rlhf.records import Comparison, Prompt, Response, Vote
from tests.labeling import PASSWORD, cheap_accounts, tasks

ENGLISH = languages()["en"]
MORNING = datetime(2026, 5, 4, 9, 30, tzinfo=UTC)

CHOICES = {
    "ann": ["left", "left", "tie", "left"],
    "bob": ["left", "right", "skip", "tie"],
    "cy": ["left", "both_bad", "skip", "right"],
}


def _in_order(count):
    return "0123"[:count]


@dataclass
class Room:
    """A campaign in which a always stands left and a minute passes with every answer."""

    store: Store
    now: datetime = MORNING
    raters: dict[str, int] = field(default_factory=dict)

    def __post_init__(self):
        self.accounts = cheap_accounts(self.store)
        self.campaigns = Campaigns(self.store, clock=lambda: self.now, draw=_in_order)
        self.campaigns.add("one", tasks(4), settings=Settings(overlap=3))

    def answer(self, name, choice, campaign="one", **more):
        if name not in self.raters:
            self.raters[name] = self.accounts.add(name, PASSWORD, "rater").id
        item = self.campaigns.next(campaign, self.raters[name]).item
        assert item is not None
        self.now += timedelta(minutes=1)
        key = f"{name}-{item.assignment}-{self.now:%H%M%S}"
        self.campaigns.submit(
            campaign, self.raters[name], Answer(item.assignment, choice, key, **more)
        )

    def fill(self):
        for name, choices in CHOICES.items():
            for choice in choices:
                self.answer(name, choice)


@pytest.fixture
def room(store):
    return Room(store)


@pytest.fixture
def full(room):
    room.fill()
    return room


def in_a_thread(store, **options):
    """A dashboard that works where the test can reach it."""
    return Dashboard(store, worker=ThreadPoolExecutor(1), **options)


def figures_at_once(board, name="one"):
    found = board.figures(name, patience=30)
    assert found is not None
    return found


def test_every_figure_is_that_of_the_pure_functions_on_the_exported_votes(full):
    result = export(full.store, "one")
    found = figures_at_once(in_a_thread(full.store))
    assert found.agreement == agreement(result.votes)
    assert found.raters == rater_qualities(result.votes)
    assert found.board == leaderboard(result.comparisons, result.votes)
    assert found.answers == result.status.votes == 10
    assert found.agreement.percent is not None
    assert found.agreement.percent.value == result.status.agreement


def test_what_was_undone_is_not_counted(full):
    full.campaigns.undo("one", full.raters["cy"])
    found = campaign_votes(full.store, "one")
    assert len(found.comparisons) == 4
    assert [vote.outcome for vote in found.votes if vote.rater == "cy"] == ["a", "both_bad", "skip"]
    assert figures_at_once(in_a_thread(full.store)).answers == 9


def newer(board, than):
    """Figures that are not ``than``, which somebody who looks again and again gets."""
    deadline = time.monotonic() + 30
    while (found := board.figures("one")) is than and time.monotonic() < deadline:
        time.sleep(0.02)
    assert found is not None
    assert found is not than
    return found


def test_figures_are_worked_out_once_until_something_is_voted(room):
    room.answer("ann", "left")
    board = in_a_thread(room.store)
    first = figures_at_once(board)
    assert board.figures("one") is first
    room.answer("bob", "left")
    assert newer(board, first).answers == 2


def test_figures_take_a_tenth_of_the_time_at_most(room, monkeypatch):
    now = [0.0]

    def slow(database, name):
        return replace(work(database, name), seconds=10.0)

    monkeypatch.setattr(dashboard, "work", slow)
    board = in_a_thread(room.store, clock=lambda: now[0])
    room.answer("ann", "left")
    first = figures_at_once(board)
    room.answer("bob", "left")
    now[0] = 89.0
    for _ in range(3):
        assert board.figures("one") is first, "ten seconds of work are followed by 90 of rest"
    now[0] = 91.0
    assert newer(board, first).answers == 2


def test_a_reader_does_not_wait_for_long_figures(room, monkeypatch):
    go_on = threading.Event()

    def slow(database, name):
        assert go_on.wait(30)
        return work(database, name)

    monkeypatch.setattr(dashboard, "work", slow)
    board = in_a_thread(room.store)
    room.answer("ann", "left")
    assert board.figures("one", patience=0.01) is None
    go_on.set()
    assert figures_at_once(board).answers == 1


def test_what_goes_wrong_is_told_to_who_looks_and_tried_again(room, monkeypatch):
    room.answer("ann", "left")
    board = in_a_thread(room.store)
    with monkeypatch.context() as patch:
        patch.setattr(dashboard, "work", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            board.figures("one", patience=30)
    assert figures_at_once(board).answers == 1
    with pytest.raises(NotFound, match="no campaign 'two'"):
        board.figures("two")


def test_figures_come_from_a_process_of_their_own_and_again_after_it_died(full):
    clock = count(step=10**6)
    board = Dashboard(full.store, clock=lambda: next(clock))
    first = board.figures("one", patience=60)
    assert first is not None
    assert replace(first, at=MORNING) == replace(
        figures_of(campaign_votes(full.store, "one")), at=MORNING
    )
    [child] = [p for p in multiprocessing.active_children() if p.pid != os.getpid()][-1:]
    child.kill()
    child.join()
    full.campaigns.undo("one", full.raters["cy"])
    assert newer(board, first).answers == 9


def at(*minutes):
    return [(MORNING + timedelta(minutes=m)).isoformat() for m in minutes]


def test_votes_are_counted_hour_by_hour_with_the_empty_hours():
    found = timeline_of(at(200, 0, 29, 30))
    assert found.counts == (2, 1, 0, 1)  # 9:30 and 9:59, 10:00, none, 12:50
    assert [start.hour for start in found.starts] == [9, 10, 11, 12]
    assert timeline_of([]).counts == ()


def test_long_campaigns_are_counted_day_by_day():
    found = timeline_of(at(0, 60, 24 * 60 * 10))
    assert found.step == timedelta(days=1)
    assert (found.counts[0], found.counts[-1], len(found.counts)) == (2, 1, 11)


@given(st.lists(st.integers(0, 60 * 24 * 40), min_size=1, max_size=30))
def test_no_vote_is_lost_over_time(minutes):
    found = timeline_of(at(*minutes))
    assert sum(found.counts) == len(minutes)
    assert found.counts[0] > 0 < found.counts[-1]
    assert len(found.starts) == len(found.counts) <= 24 * 4 + 40


def test_a_campaign_at_a_glance(full):
    Campaigns(full.store).add("two", tasks(2))
    two, one = campaign_summaries(full.store)
    assert (two.name, two.tasks, two.votes, two.raters) == ("two", 2, 0, 0)
    assert (one.tasks, one.complete, one.overlap) == (4, 3, 3)
    assert (one.votes, one.skips, one.raters) == (10, 2, 3)
    shown = overview_html([two, one], Asked(campaign="one"), ENGLISH)
    assert shown.count("aria-current") == 1
    assert '<article aria-current="true"><div class="rl-head"><h2><a href="?campaign=one">' in shown


def prompts(found):
    return [case.task.prompt.messages[0].content[-2] for case in found.cases]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (CaseFilter(), "0123"),
        (CaseFilter("disagreement"), "13"),
        (CaseFilter("ties"), "123"),  # a, b and bad; a lone tie; one each way
        (CaseFilter("skipped"), "2"),
        (CaseFilter("skipped", rater="ann"), "2"),
        (CaseFilter(rater="nobody"), ""),
        (CaseFilter(page=2), ""),
    ],
)
def test_tasks_are_found_by_what_was_said_of_them(full, wanted, numbers):
    found = cases(full.store, "one", wanted)
    assert "".join(prompts(found)) == numbers
    assert found.total == (4 if wanted.page == 2 else len(numbers))


def test_a_case_holds_every_vote_that_counts(full):
    [case] = cases(full.store, "one", CaseFilter("skipped")).cases
    assert [(one.rater, one.outcome) for one in case.given] == [
        ("ann", "tie"),
        ("bob", "skip"),
        ("cy", "skip"),
    ]
    assert {one.order for one in case.given} == {"01"}


def test_what_was_flagged_is_found_whether_it_was_answered_or_not(full):
    full.campaigns.add("one", [Task.of(_numbered(77))])
    ann = full.raters["ann"]
    item = full.campaigns.next("one", ann).item
    assert item is not None
    full.campaigns.flag("one", ann, Flag(item.assignment, "unsafe", "<b>look</b>"))
    found = cases(full.store, "one", CaseFilter("flagged"))
    [case] = found.cases
    assert (found.total, case.given) == (1, ())
    assert [(f.rater, f.kind, f.note) for f in case.flags] == [("ann", "unsafe", "<b>look</b>")]
    shown = cases_html(found, 1, "", ENGLISH)
    assert "Flag: It is unsafe" in shown
    assert "<b>look" not in shown
    assert cases(full.store, "one", CaseFilter("flagged", rater="bob")).total == 0


def test_more_tasks_than_fit_are_paged(store):
    room = Room(store)
    room.campaigns.add("one", [Task.of(_numbered(n)) for n in range(10, 25)])
    for _ in range(19):
        room.answer("ann", "left")
    first, second = (cases(store, "one", CaseFilter(page=page)) for page in (1, 2))
    assert (first.total, len(first.cases), len(second.cases)) == (19, 10, 9)
    assert not {c.task.key for c in first.cases} & {c.task.key for c in second.cases}


def _numbered(number):
    return Comparison(Prompt.from_text(f"{number}?"), Response("x", "p"), Response("y", "q"))


def figures(votes, given=()):
    """The figures of votes that are not in a store."""
    return figures_of(
        CampaignVotes(
            "pairwise", tuple(given), tuple(votes), tuple(votes), times=(MORNING.isoformat(),)
        )
    )


HOSTILE = "<img src=x onerror=alert(1)>${alert(2)}{{7*7}}"


def test_what_people_and_models_wrote_stays_text(store):
    room = Room(store)
    item = Comparison(
        Prompt.from_text(HOSTILE), Response(HOSTILE, HOSTILE), Response("y", HOSTILE + "2")
    )
    room.campaigns.add("two", [Task.of(item)])
    room.answer("eve", "left", "two", reason=HOSTILE)
    shown = cases_html(cases(store, "two", CaseFilter()), 1, "", ENGLISH)
    votes = [Vote(item.id, name, "a", "left") for name in (HOSTILE, "ann", "bob")]
    shown += figures_html(figures(votes, [item]), "votes", "", ENGLISH)
    assert "<img" not in shown
    assert shown.count("&lt;img") >= 7


def test_the_page_shows_the_figures_as_they_are(full):
    found = figures_at_once(in_a_thread(full.store))
    shown = figures_html(found, "votes", "", ENGLISH)
    assert found.agreement.percent is not None
    assert found.agreement.alpha_nominal is not None
    assert f"{100 * found.agreement.percent.value:.1f} %" in shown
    alpha = f"{found.agreement.alpha_nominal.value:.2f}".replace("-", "\N{MINUS SIGN}")
    assert f"<td>{alpha} <small>" in shown
    for standing in found.board.standings:
        strength = f"{standing.strength.value:.2f}".replace("-", "\N{MINUS SIGN}")
        assert f"{standing.policy}</th><td>{strength} <small>" in shown
        assert f"<td>{100 * standing.win_share:.1f} %</td>" in shown
    assert found.board.shares[0][1] is not None
    assert f"{100 * found.board.shares[0][1]:.0f} %<small>{found.board.counts[0][1]}<" in shown
    assert "Preliminary: 3 raters, 10 are wanted." in shown
    for quality in found.raters:
        assert f'<th scope="row">{quality.rater}</th><td>{quality.votes}</td>' in shown


def test_a_rater_who_always_votes_left_or_too_fast_is_marked():
    votes = [
        Vote(_numbered(n).id, "ann", ("a", "b")[n % 2], ("left", "right")[n % 2]) for n in range(20)
    ]
    votes += [Vote(_numbered(n).id, "bob", "a", ("left", "right")[n % 2]) for n in range(20)]
    shown = figures_html(figures(votes, map(_numbered, range(20))), "left", "", ENGLISH)
    assert shown.count('aria-label="votes mostly for one side"') == 1
    assert shown.index('<th scope="row">ann') < shown.index('<th scope="row">bob')


def test_the_unluckiest_of_many_raters_is_not_marked():
    # 15 of 20 to the left: alone that is a habit, the most extreme of a hundred is not
    def leaning(rater, left):
        sides = ["left"] * left + ["right"] * (20 - left)
        return [
            Vote(_numbered(n).id, rater, "a", "left" if side == "left" else "right")
            for n, side in enumerate(sides)
        ]

    one = leaning("ann", 15)
    even = [vote for n in range(99) for vote in leaning(f"r{n}", 10)]
    alone = figures_html(figures(one, map(_numbered, range(20))), "left", "", ENGLISH)
    among = figures_html(figures(one + even, map(_numbered, range(20))), "left", "", ENGLISH)
    assert ("votes mostly for" in alone, "votes mostly for" in among) == (True, False)


@pytest.mark.parametrize("sort", SORTS)
def test_raters_can_be_put_in_every_order(full, sort):
    found = figures_at_once(in_a_thread(full.store))
    shown = figures_html(found, sort, "", ENGLISH)
    ordered = sorted(found.raters, key=SORTS[sort])
    places = [shown.index(f'<th scope="row">{quality.rater}<') for quality in ordered]
    assert places == sorted(places)


def test_an_address_that_makes_no_sense_asks_for_the_first_page_of_all():
    wrong = {"show": "x", "part": "-1", "sort": "'", "campaign": "one"}
    assert Asked.of(wrong) == Asked(campaign="one")
    assert Asked.of({"part": "²"}).part == 1
    assert Asked.of({"part": "9" * 30}).part == 10**9


@given(
    campaign=st.text(min_size=1),
    rater=st.text().map(str.strip),
    show=st.sampled_from(SHOWS),
    part=st.integers(1, 10**6),
    sort=st.sampled_from(list(SORTS)),
)
def test_a_link_leads_to_what_it_says(campaign, rater, show, part, sort):
    asked = Asked(campaign, show, rater, part, sort)
    link = Asked().link("#there", campaign=campaign, show=show, rater=rater, part=part, sort=sort)
    assert link.startswith("?")
    assert not set(link) & set("<>\"'")
    query = link[1:].removesuffix("#there").replace("&amp;", "&")
    assert Asked.of(dict(parse_qsl(query, keep_blank_values=True))) == asked


def test_every_handler_refuses_whoever_is_no_admin(full):
    admin = Admin(full.store, full.accounts, in_a_thread(full.store))
    full.accounts.add("boss", PASSWORD, "admin")

    def request(name) -> Any:
        account = name and full.accounts.sign_in(name, PASSWORD, "here")
        cookies = {COOKIE: full.accounts.cookie(account)} if account else {}
        return SimpleNamespace(cookies=cookies, headers={}, query_params={"campaign": "one"})

    for handler in (admin.look, admin.browse):
        for name in (None, "ann"):
            with pytest.raises(gr.Error, match="for admins"):
                handler(request(name))
        assert "secretive" in "".join(handler(request("boss")))


def test_an_unknown_campaign_is_told_and_shows_no_comparison(full):
    admin = Admin(full.store, full.accounts, in_a_thread(full.store))
    boss = full.accounts.add("boss", PASSWORD, "admin")
    cookies = {COOKIE: full.accounts.cookie(boss)}
    request: Any = SimpleNamespace(cookies=cookies, headers={}, query_params={"campaign": "none"})
    assert "There is no campaign called none." in admin.look(request)[1]
    assert admin.browse(request) == ""


def test_the_figures_of_61000_votes_take_seconds():
    draw = random.Random(0)
    policies = ["base", "sft", "dpo", "ppo"]
    given = [
        Comparison(
            Prompt.from_text(f"{n}?"),
            Response("x" * draw.randrange(1, 9), policies[n % 4]),
            Response("y" * draw.randrange(1, 9), policies[(n + 1 + n % 3) % 4]),
        )
        for n in range(12_200)
    ]
    votes = [
        Vote(
            item.id,
            f"r{draw.randrange(3000)}",
            draw.choice(OUTCOMES[:2]),
            draw.choice(["left", "right"]),
        )
        for item in given
        for _ in range(5)
    ]
    begin = time.process_time()
    found = figures(votes, given)
    assert time.process_time() - begin < 30
    begin = time.process_time()
    shown = figures_html(found, "left", "", ENGLISH)
    assert time.process_time() - begin < 1
    assert len(shown) < 100_000, "3,000 raters are not all sent to the browser"


def test_a_store_without_campaigns_says_how_to_make_one(tmp_path):
    with closing(Store(tmp_path / "label.db")) as empty:
        assert "rlhf label import" in overview_html(campaign_summaries(empty), Asked(), ENGLISH)


def test_a_ranking_is_a_vote_on_every_two_and_thumbs_are_votes_without_sides(store):
    room = Room(store)
    three = Task(
        Prompt.from_text("?"), tuple(Response(text, f"policy-{text}") for text in ("x", "y", "z"))
    )
    room.campaigns.add("ranks", [three], settings=Settings(kind="ranking", overlap=2))
    one = Task(Prompt.from_text("?"), (Response("x", "p"),))
    room.campaigns.add("thumbs", [one], settings=Settings(kind="thumbs", overlap=2))
    for name, ranking, thumb in (
        ("ann", ((2,), (0, 1)), "good"),
        ("bob", ((2,), (0,), (1,)), "bad"),
    ):
        room.answer(name, "ranked", "ranks", ranking=ranking)
        room.answer(name, thumb, "thumbs")
    ranks = campaign_votes(store, "ranks")
    assert [vote.outcome for vote in ranks.votes] == ["tie", "b", "b", "a", "b", "b"]
    assert (len(ranks.comparisons), len(ranks.times)) == (3, 2)
    found = figures_at_once(in_a_thread(store), "ranks")
    assert found.agreement.percent is not None
    assert found.agreement.percent.value == pytest.approx(2 / 3)
    assert found.board.standings[0].policy == "policy-z"
    shown = cases_html(cases(store, "ranks", CaseFilter("disagreement")), 1, "", ENGLISH)
    assert "C &gt; A = B" in shown
    thumbs = figures_at_once(in_a_thread(store), "thumbs")
    assert thumbs.agreement.percent is not None
    assert thumbs.agreement.percent.value == 0.0
    shown = figures_html(thumbs, "votes", "", ENGLISH)
    assert "Leaderboard" not in shown
    assert cases(store, "thumbs", CaseFilter("ties")).total == 1


def test_answers_that_are_no_choice_are_counted_and_shown(store):
    room = Room(store)
    one = Task(Prompt.from_text("?"), (Response("x", "p"),))
    room.campaigns.add("rewrites", [one], settings=Settings(kind="rewrite"))
    room.answer("ann", "rewritten", "rewrites", text="**much** better")
    found = figures_at_once(in_a_thread(store), "rewrites")
    assert (found.answers, found.raters, found.timeline.counts) == (1, (), (1,))
    assert "where an answer is a choice" in figures_html(found, "votes", "", ENGLISH)
    assert "<strong>much</strong> better" in cases_html(
        cases(store, "rewrites", CaseFilter()), 1, "", ENGLISH
    )


def rated_room(store: Store) -> Room:
    """Two policies on four prompts, rated by three, of whom cat is severe."""
    room = Room(store)
    work = [
        Task(Prompt.from_text(f"{n}?"), (Response(f"{policy} {n}", policy),))
        for n in range(4)
        for policy in ("good", "poor")
    ]
    rules: Any = {"kind": "rating", "aspects": ("helpful", "<b>honest</b>"), "overlap": 3}
    room.campaigns.add("rated", work, settings=Settings(**rules))
    for name, base in (("ann", 5), ("bob", 5), ("cat", 3)):
        for task in work:
            mark = base - 2 * (task.responses[0].policy == "poor")
            room.answer(name, "rated", "rated", aspects={"helpful": mark, "<b>honest</b>": 4})
    return room


def test_ratings_are_means_by_policy_and_raters_are_kind_or_severe(store):
    rated_room(store)
    found = figures_at_once(in_a_thread(store), "rated")
    helpful, honest = found.measures
    assert [(s.policy, s.mean.value, s.mean.n, s.raters) for s in helpful.standings] == [
        ("good", pytest.approx(13 / 3), 12, 3),
        ("poor", pytest.approx(7 / 3), 12, 3),
    ]
    assert helpful.alpha is not None
    assert 0 < helpful.alpha.value < 1
    assert honest.alpha is None  # everything got a four
    kinder = {one.rater: one.kinder.value for one in found.marks if one.kinder}
    assert kinder == pytest.approx({"ann": 0.5, "bob": 0.5, "cat": -1.0})
    shown = figures_html(found, "votes", "", ENGLISH)
    assert "Scores by policy" in shown
    assert "&lt;b&gt;honest" in shown
    assert "<b>honest" not in shown
    assert "Leaderboard" not in shown
    assert found.board.standings == ()


def test_thumbs_and_the_aspects_of_pairs_are_shares_by_policy(store):
    room = Room(store)
    texts = [Task(Prompt.from_text(f"{n}?"), (Response("x", "p"),)) for n in range(2)]
    room.campaigns.add("thumbs", texts, settings=Settings(kind="thumbs", overlap=2))
    for name, choices in (("ann", ("good", "bad")), ("bob", ("good", "good"))):
        for choice in choices:
            room.answer(name, choice, "thumbs")
    [thumbs] = figures_at_once(in_a_thread(store), "thumbs").measures
    assert thumbs.standings[0].mean.value == 0.75
    pair = Task(Prompt.from_text("?"), (Response("x", "p"), Response("y", "q")))
    rules: Any = {"aspects": ("helpful", "honest"), "overlap": 2}
    room.campaigns.add("pairs", [pair], settings=Settings(**rules))
    room.answer("ann", "tie", "pairs", aspects={"helpful": "tie"})
    room.answer("bob", "skip", "pairs")
    [helpful] = figures_at_once(in_a_thread(store), "pairs").measures
    assert [(s.policy, s.mean.value) for s in helpful.standings] == [("p", 0.5), ("q", 0.5)]
    figures = figures_at_once(in_a_thread(store), "pairs")
    assert "Scores by policy" in figures_html(figures, "votes", "", ENGLISH)


def test_checks_are_the_gold_score_and_nothing_else(store):
    room = Room(store)
    gold = Task.of(_numbered(99))
    gold = Task(gold.prompt, gold.responses, use="gold", expected="a")
    work = [Task.of(_numbered(n)) for n in range(4)]
    room.campaigns.add("checked", [gold, *work], settings=Settings(check_every=2))
    for _ in range(5):
        room.answer("ann", "right", "checked")
    found = campaign_votes(store, "checked")
    assert (len(found.votes), len(found.times), len(found.checks)) == (4, 4, 1)
    assert len(found.comparisons) == 4
    [ann] = figures_at_once(in_a_thread(store), "checked").raters
    assert ann.gold is not None
    assert (ann.gold.value, ann.gold.n, ann.votes) == (0.0, 1, 4)
    assert cases(store, "checked", CaseFilter()).total == 4


def test_what_active_selection_chose_is_left_out_of_agreement_and_board(store):
    room = Room(store)
    work = [Task.of(_numbered(n)) for n in range(40)]
    room.campaigns.add("active", work, settings=Settings(random_share=0.5))
    for _ in range(40):
        room.answer("ann", "left", "active")
    found = campaign_votes(store, "active")
    assert 0 < len(found.fair) < len(found.votes) == 40
    shown = figures_at_once(in_a_thread(store), "active")
    assert shown.active == 40 - len(found.fair)
    assert shown.board.votes == len(found.fair)
    assert shown.raters[0].votes == 40
    assert f"not like the rest: {shown.active}." in figures_html(shown, "votes", "", ENGLISH)
