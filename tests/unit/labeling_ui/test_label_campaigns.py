import tempfile
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import select, text
from sqlalchemy.dialects import sqlite

from labeling_ui.campaigns.answers import MAX_ELAPSED_MS, Answer, draw_order, meaning, seen_at
from labeling_ui.campaigns.assignment import stamp
from labeling_ui.campaigns.queries import EARLIER, LATEST, OPEN, PROGRESS, UNSEEN
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.setup import Added, check_blindness
from labeling_ui.campaigns.tasks import Settings, Task
from labeling_ui.db.store import Conflict, NotFound, Store
from labeling_ui.db.tables import UserRow, VoteRow
from labeling_ui.results.answers import status_of
from labeling_ui.results.export import export
from rlhf.errors import DataError
from rlhf.records import Comparison, Prompt, Response
from tests.labeling import comparison, comparisons, tasks

LEASE = timedelta(minutes=30)
CHOICES = ("left", "right", "tie", "both_bad", "skip")


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


class Session:
    """A rater at work on campaign ``one``."""

    keys = iter(range(10**9))

    def __init__(self, store: Store, campaigns: Campaigns, name: str = "ann") -> None:
        self.campaigns = campaigns
        with store.write() as session:
            row = UserRow(name=name, handle=name, role="rater", password_hash="", created_at="")
            session.add(row)
        self.id = row.id

    def next(self):
        return self.campaigns.next("one", self.id)

    def item(self):
        item = self.next().item
        assert item is not None
        return item

    def vote(self, choice, item=None, **extra):
        item = item or self.item()
        answer = Answer(item.assignment, choice, f"key-{next(self.keys):08}", **extra)
        return self.campaigns.submit("one", self.id, answer)

    def undo(self):
        return self.campaigns.undo("one", self.id)


def start(store, count=3, overlap=1, **options) -> tuple[Campaigns, Session]:
    campaigns = Campaigns(store, **options)
    campaigns.add("one", tasks(count), settings=Settings(overlap=overlap))
    return campaigns, Session(store, campaigns)


def live(store) -> list[tuple[str, str, str]]:
    return [(v.comparison, v.rater, v.outcome) for v in export(store, "one").votes]


def test_the_next_item_follows_the_vote_in_the_same_answer(store):
    _, ann = start(store)
    first = ann.item()
    number, turn = ann.vote("left", first)
    assert number == 1
    assert turn.item is not None
    assert turn.item.assignment != first.assignment
    assert (turn.progress.done, turn.progress.total) == (1, 3)


def test_asking_again_shows_the_same_item_with_the_same_sides(store):
    _, ann = start(store)
    assert len({ann.item() for _ in range(10)}) == 1


@pytest.mark.parametrize("side", ["left", "right"])
def test_sides_on_the_screen_follow_the_draw_and_votes_are_mapped_back(store, side):
    _, ann = start(store, draw=lambda _: "01" if side == "left" else "10")
    item = ann.item()
    a, b = comparison(0).response_a.text, comparison(0).response_b.text
    assert item.responses == ((a, b) if side == "left" else (b, a))
    ann.vote("left")
    [vote] = export(store, "one").votes
    assert (vote.outcome, vote.a_side) == (("a" if side == "left" else "b"), side)


@given(choice=st.sampled_from(CHOICES), side=st.sampled_from(["left", "right"]))
def test_an_outcome_is_a_exactly_when_the_chosen_side_was_as(choice, side):
    outcome, _ = meaning(Answer(1, choice, "key"), "01" if side == "left" else "10")
    assert (outcome == "a") == (choice == side)
    assert (outcome == "b") == ({choice, side} == {"left", "right"})
    assert outcome in {"a", "b"} or outcome == choice


def test_both_sides_are_drawn():
    assert {draw_order(2) for _ in range(100)} == {"01", "10"}
    assert len({draw_order(3) for _ in range(300)}) == 6


def test_a_vote_keeps_strength_reason_and_times(store):
    clock = Clock()
    _, ann = start(store, clock=clock)
    ann.item()
    clock.now += timedelta(minutes=1)
    ann.vote("left", strength=3, reason="Ünïcode 'quoted'", elapsed_ms=20_500)
    clock.now += timedelta(minutes=1)
    ann.vote("tie")
    stated, unstated = export(store, "one").votes
    assert (stated.strength, stated.reason) == (3, "Ünïcode 'quoted'")
    assert stated.shown_at == "2026-01-01T00:00:39.500+00:00"
    assert stated.answered_at == unstated.shown_at == "2026-01-01T00:01:00.000+00:00"
    assert unstated.answered_at == "2026-01-01T00:02:00.000+00:00"


def test_the_time_on_a_task_is_the_servers_whatever_the_rater_says(store):
    clock = Clock()
    _, ann = start(store, clock=clock)
    for elapsed_ms in (0, 600_000, MAX_ELAPSED_MS):
        ann.item()
        clock.now += timedelta(minutes=1)
        ann.vote("left", elapsed_ms=elapsed_ms)
    spent = [
        (datetime.fromisoformat(v.answered_at) - datetime.fromisoformat(v.shown_at)).total_seconds()
        for v in export(store, "one").votes
    ]
    assert spent == [0.0, 60.0, 60.0]


@given(
    handed_out=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)),
    later=st.timedeltas(timedelta(0), timedelta(days=30)),
    elapsed_ms=st.integers(0, MAX_ELAPSED_MS) | st.none(),
)
def test_an_item_is_seen_after_it_is_handed_out_and_before_it_is_answered(
    handed_out, later, elapsed_ms
):
    first, now = (stamp(moment.replace(tzinfo=UTC)) for moment in (handed_out, handed_out + later))
    seen = seen_at(first, now, elapsed_ms)
    assert first <= seen <= now
    assert len(seen) == len(now)
    assert seen_at("", now, elapsed_ms) == ""


@pytest.mark.parametrize(
    "wrong",
    [
        {"choice": "both"},
        {"strength": 0},
        {"strength": 4},
        {"strength": 2, "choice": "tie"},
        {"reason": "x" * 4001},
        {"reason": "nul \0"},
        {"reason": "lone \ud800"},
        {"key": ""},
        {"key": "undo 1"},
        {"elapsed_ms": -1},
        {"elapsed_ms": MAX_ELAPSED_MS + 1},
        {"elapsed_ms": 10**400},
        {"elapsed_ms": 0.5},
        {"elapsed_ms": "a while"},
    ],
)
def test_an_answer_that_cannot_be_stored_is_refused(wrong: dict[str, Any]):
    good: dict[str, Any] = {"assignment": 1, "choice": "left", "key": "key-00001"}
    Answer(**good)
    with pytest.raises(ValidationError):
        Answer(**{**good, **wrong})


def test_the_same_key_again_is_the_same_vote(store):
    campaigns, ann = start(store)
    answer = Answer(ann.item().assignment, "left", "key-00001")
    replies = [campaigns.submit("one", ann.id, answer) for _ in range(3)]
    assert len(set(replies)) == 1
    assert len(live(store)) == 1


def test_a_key_is_not_taken_for_another_vote(store):
    campaigns, ann = start(store)
    item = ann.item()
    campaigns.submit("one", ann.id, Answer(item.assignment, "left", "key-00001"))
    for other in (
        Answer(item.assignment, "right", "key-00001"),
        Answer(ann.item().assignment, "left", "key-00001"),
    ):
        with pytest.raises(Conflict, match="key was used"):
            campaigns.submit("one", ann.id, other)


def test_raters_need_not_agree_on_keys(store):
    campaigns, ann = start(store, overlap=2)
    for rater in (ann, Session(store, campaigns, "bob")):
        campaigns.submit("one", rater.id, Answer(rater.item().assignment, "tie", "1"))
    assert len(live(store)) == 2


def test_an_answered_comparison_is_not_answered_again(store):
    _, ann = start(store)
    item = ann.item()
    ann.vote("left", item)
    with pytest.raises(Conflict, match="answered already"):
        ann.vote("right", item)
    assert [outcome for *_, outcome in live(store)] in (["a"], ["b"])


def test_an_assignment_of_somebody_else_is_not_found(store):
    campaigns, ann = start(store, overlap=2)
    bob = Session(store, campaigns, "bob")
    item = ann.item()
    campaigns.add("two", [Task.of(comparison(99))])
    for rater, name, number in (
        (bob, "one", item.assignment),
        (ann, "one", 999),
        (ann, "two", item.assignment),
    ):
        with pytest.raises(NotFound, match="is not yours"):
            campaigns.submit(name, rater.id, Answer(number, "left", "key-00001"))
    assert live(store) == []


def test_a_campaign_that_is_not_there_is_not_found(store):
    campaigns, ann = start(store)
    with pytest.raises(NotFound, match="no campaign 'none'"):
        campaigns.next("none", ann.id)


def test_a_rater_sees_each_comparison_once(store):
    _, ann = start(store, count=5, overlap=3)
    for _ in range(5):
        ann.vote("left")
    turn = ann.next()
    assert turn.item is None
    assert (turn.progress.done, turn.progress.total) == (5, 5)
    assert len({c for c, *_ in live(store)}) == 5


def test_overlap_is_the_number_of_raters_per_comparison(store):
    campaigns, ann = start(store, count=2, overlap=2)
    others = [Session(store, campaigns, name) for name in ("bob", "cy")]
    for rater in (ann, others[0]):
        rater.vote("left")
        rater.vote("right")
    assert others[1].next().item is None
    assert status_of(store, "one").complete == 2
    progress = campaigns.progress("one", others[1].id)
    assert (progress.done, progress.total) == (0, 0)


def test_an_item_on_somebodys_screen_keeps_its_place_until_it_expires(store):
    clock = Clock()
    campaigns, ann = start(store, count=1, clock=clock)
    bob = Session(store, campaigns, "bob")
    item = ann.item()
    assert bob.next().item is None
    clock.now += LEASE + timedelta(seconds=1)
    taken = bob.item()
    assert taken.responses[0] in item.responses
    assert taken.assignment != item.assignment
    assert ann.next().item is None  # its place is bob's now
    ann.vote("left", item)  # a late answer is kept, and does not count
    bob.vote("right", taken)
    assert [rater for _, rater, _ in live(store)] == ["bob"]
    with store.read() as session:
        votes = session.scalars(select(VoteRow).order_by(VoteRow.id)).all()
    assert [(v.surplus, v.live) for v in votes] == [(True, False), (False, True)]
    with pytest.raises(Conflict, match="answered already"):
        ann.vote("right", item)


def test_an_expired_item_comes_back_while_its_place_is_free(store):
    clock = Clock()
    _, ann = start(store, clock=clock)
    item = ann.item()
    clock.now += 2 * LEASE
    assert ann.item() == item


def test_a_skip_leaves_the_place_to_somebody_else(store):
    campaigns, ann = start(store, count=1)
    bob = Session(store, campaigns, "bob")
    ann.vote("skip")
    assert ann.next().item is None
    bob.vote("tie")
    status = status_of(store, "one")
    assert (status.complete, status.votes, status.skips) == (1, 1, 1)


def test_undo_shows_the_item_again_with_the_same_sides(store):
    _, ann = start(store)
    item = ann.item()
    _, after = ann.vote("left", item)
    turn = ann.undo()
    assert turn.item == item == ann.item()
    assert turn.progress.done == 0
    _, again = ann.vote("right", item)
    assert again == after  # what was on the screen before the undo


def test_undo_reopens_the_comparison_and_deletes_nothing(store):
    _, ann = start(store, count=1)
    ann.vote("left")
    assert status_of(store, "one").complete == 1
    ann.undo()
    assert status_of(store, "one").complete == 0
    ann.vote("tie")
    with store.read() as session:
        rows = session.scalars(select(VoteRow).order_by(VoteRow.id)).all()
    assert [(r.outcome == "undone", r.supersedes, r.live) for r in rows] == [
        (False, None, False),
        (True, 1, False),
        (False, 2, True),
    ]


def test_there_may_be_nothing_to_undo(store):
    _, ann = start(store)
    with pytest.raises(Conflict, match="nothing to undo"):
        ann.undo()


def test_a_replay_of_an_undone_vote_does_not_vote_again(store):
    campaigns, ann = start(store)
    answer = Answer(ann.item().assignment, "left", "key-00001")
    number, _ = campaigns.submit("one", ann.id, answer)
    ann.undo()
    assert campaigns.submit("one", ann.id, answer)[0] == number
    assert live(store) == []


@settings(max_examples=25, deadline=None)
@given(
    before=st.lists(st.sampled_from([*CHOICES, "undo"]), max_size=8),
    choice=st.sampled_from(CHOICES),
)
def test_undoing_an_answer_leaves_everything_as_it_was(before, choice):
    with tempfile.TemporaryDirectory() as folder, closing(Store(Path(folder, "l.db"))) as store:
        _, ann = start(store, count=6, overlap=2)
        expected: list[str] = []
        for action in before:
            if action == "undo":
                if expected:
                    ann.undo()
                    expected.pop()
            elif len(expected) < 6:
                ann.vote(action)
                expected.append(action)
        if len(expected) == 6:
            ann.undo()

        def state():
            return ann.next(), status_of(store, "one"), live(store)

        earlier = state()
        assert len(earlier[2]) == min(len(expected), 5)
        ann.vote(choice)
        assert state() != earlier
        ann.undo()
        assert state() == earlier


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["ann", "bob"]), st.sampled_from(CHOICES)), max_size=12))
def test_the_store_holds_exactly_what_raters_chose_for_the_text_they_chose(choices):
    with tempfile.TemporaryDirectory() as folder, closing(Store(Path(folder, "l.db"))) as store:
        campaigns, ann = start(store, count=6, overlap=2)
        raters = {"ann": ann, "bob": Session(store, campaigns, "bob")}
        chosen: set[tuple[str, str, str]] = set()
        for name, choice in choices:
            item = raters[name].next().item
            if item is None:
                continue
            raters[name].vote(choice, item)
            parcel = item.messages[0].content
            left, right = item.responses
            shown = str({"left": left, "right": right}.get(choice, choice))
            chosen.add((name, parcel, shown))
        result = export(store, "one")
        asked = {c.id: c for c in result.comparisons}
        held: set[tuple[str, str, str]] = set()
        for vote in result.votes:
            c = asked[vote.comparison]
            texts = {"a": c.response_a.text, "b": c.response_b.text}
            parcel = c.prompt.messages[0].content
            held.add((vote.rater, parcel, texts.get(vote.outcome, vote.outcome)))
        assert held == chosen


def test_a_comparison_is_not_added_twice_not_even_swapped(store):
    campaigns = Campaigns(store)
    two = comparisons(2)
    assert campaigns.add("one", map(Task.of, [*two, two[0]])) == Added(2, 1)
    again = [two[1].swapped(), comparison(2)]
    assert campaigns.add("one", map(Task.of, again)) == Added(1, 1)
    assert status_of(store, "one").comparisons == 3


def test_metadata_that_no_file_can_hold_is_refused(store):
    c = comparison(0)
    odd = Comparison(c.prompt, c.response_a, c.response_b, {"note": "\ud800"})
    with pytest.raises(DataError, match="its metadata holds a lone surrogate"):
        Campaigns(store).add("one", [Task.of(odd)])


def test_a_campaign_can_grow_after_its_raters_finished(store):
    campaigns, ann = start(store, count=1)
    ann.vote("left")
    campaigns.add("one", [Task.of(comparison(7))], guidelines="Be fair.")
    assert ann.next().item is not None
    assert campaigns.names() == [("one", "Be fair.")]


def test_overlap_does_not_change_by_accident(store):
    campaigns, _ = start(store, overlap=2)
    with pytest.raises(Conflict, match=r"other settings .*overlap.: 2"):
        campaigns.add("one", [], settings=Settings(overlap=3))
    campaigns.add("one", tasks(4))
    assert status_of(store, "one").overlap == 2


@pytest.mark.parametrize("name", ["", "a/b", "x" * 81])
def test_a_campaign_needs_a_name(store, name):
    with pytest.raises(DataError, match="name has"):
        Campaigns(store).add(name, [])


def test_a_campaign_name_must_not_tell_raters_a_policy(store):
    prompt = Prompt.from_text("?")
    told = Comparison(prompt, Response("x", "SFT"), Response("y", "dpo"))
    with pytest.raises(DataError, match="would show policy 'SFT'"):
        Campaigns(store).add("sft against dpo", [Task.of(told)])
    Campaigns(store).add("swift", [Task.of(told)])  # whole words only
    same = Comparison(prompt, Response("x", "sft"), Response("y", "sft"))
    Campaigns(store).add("sft", [Task.of(same)])  # nothing to tell apart


@pytest.mark.parametrize(
    ("name", "policies"),
    [
        ("sft-v2 or dpo-v1", ("sft-v2", "dpo-v1")),
        ("SFT v2", ("sft-v2", "dpo-v1")),
        ("llama 3.1 8b", ("llama-3.1", "qwen")),
        ("llama31", ("llama-3.1", "qwen")),
        ("sft or dpo", ("runs/sft", "runs/dpo")),
        ("runs secretive-sft", ("runs/secretive-sft", "runs/dpo")),
        ("the dpo of may", ("runs/sft/final", "runs/dpo/final")),
        ("dpo", (r"runs\sft", r"runs\dpo")),
    ],
)
def test_punctuation_and_folders_do_not_hide_a_policy_in_a_name(name, policies):
    with pytest.raises(DataError, match=r"would show policy .*; choose a neutral name"):
        check_blindness(name, set(policies))


@pytest.mark.parametrize(
    ("name", "policies"),
    [
        ("swift dpop", ("sft-v2", "dpo")),
        ("llama 8b", ("llama-3.1", "qwen")),
        ("runs of may, final", ("runs/sft/final", "runs/dpo/final")),
        ("part b 2 of 10", ("a", "b", "2", "10")),
        ("sft", ("runs/sft",)),
        ("sft", ("sft", "")),
        ("anything", ("?", "!!", "/")),
        ("anything", ()),
    ],
)
def test_a_name_that_tells_nothing_is_not_refused(name, policies):
    check_blindness(name, set(policies))


on_sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


def plan(store, statement) -> list[str]:
    """How SQLite reads, in its own words."""
    names = ("campaign", "rater", "now", "overlap", "key", "assignment", "decides")
    values = {
        name: name == "decides" or "1" for name in names if name in statement.compile().params
    }
    options = {"literal_binds": True}
    sql = str(statement.params(values).compile(dialect=sqlite.dialect(), compile_kwargs=options))
    with store.read() as session:
        return [row[-1] for row in session.execute(text("EXPLAIN QUERY PLAN " + sql))]


@on_sqlite
@pytest.mark.parametrize("statement", [OPEN, *UNSEEN.values(), PROGRESS, EARLIER, LATEST])
def test_no_statement_of_a_vote_reads_a_whole_table(store, statement):
    assert not [line for line in plan(store, statement) if line.startswith("SCAN")]


@on_sqlite
@pytest.mark.parametrize("statement", [OPEN, *UNSEEN.values(), LATEST])
def test_what_comes_first_is_found_without_sorting(store, statement):
    assert not [line for line in plan(store, statement) if "TEMP B-TREE" in line]
