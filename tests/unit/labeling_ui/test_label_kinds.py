import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import select

from labeling_ui.campaigns.answers import Answer, Flag, Item, meaning
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import MAX_TEXT, Settings, Task
from labeling_ui.db.store import Conflict, NotFound, Store
from labeling_ui.db.tables import AssignmentRow, FlagRow, GuidelineRow, TaskRow, UserRow, VoteRow
from labeling_ui.results.answers import status_of
from labeling_ui.results.dataset_card import dataset_card
from labeling_ui.results.export import export
from labeling_ui.results.export_folder import write_folder
from labeling_ui.results.ratings import RaterMeans, better_of
from rlhf.config import SourceConfig
from rlhf.data.sources import read
from rlhf.errors import DataError
from rlhf.records import Demonstration, Feedback, Preference, Prompt, Response, from_json
from tests.labeling import comparison, tasks

KEYS = count()


def task(number: int, *texts: str, **keys: Any) -> Task:
    """A task on prompt ``number`` whose responses are of as many policies."""
    responses = tuple(Response(text, f"policy-{i}") for i, text in enumerate(texts))
    return Task(Prompt.from_text(f"Question {number}?"), responses, **keys)


class Rater:
    """Somebody at work on campaign ``one``."""

    def __init__(self, store: Store, campaigns: Campaigns, name: str) -> None:
        with store.write() as session:
            row = UserRow(name=name, handle=name, role="rater", password_hash="", created_at="")
            session.add(row)
        self.campaigns, self.id = campaigns, row.id

    def turn(self):
        return self.campaigns.next("one", self.id)

    def item(self) -> Item:
        item = self.turn().item
        assert item is not None
        return item

    def answer(self, choice, item: Item | None = None, **extra: Any) -> int:
        item = item or self.item()
        answer = Answer(item.assignment, choice, f"key-{next(KEYS)}", **extra)
        return self.campaigns.submit("one", self.id, answer)[0]

    def question(self) -> str:
        return self.item().messages[0].content


def start(store: Store, work: Sequence[Task], *raters: str, clock=None, **rules: Any) -> Any:
    """Campaign ``one`` of these rules, and its raters."""
    options = {"clock": clock} if clock else {}
    campaigns = Campaigns(store, draw=lambda n: "".join(map(str, reversed(range(n)))), **options)
    campaigns.add("one", work, settings=Settings(**rules))
    return [campaigns, *(Rater(store, campaigns, name) for name in raters)]


# -- kinds ----------------------------------------------------------------------------------------


def test_a_ranking_is_stored_by_response_and_settles_every_pair(store):
    _, ann, bob = start(
        store, [task(1, "worst", "middle", "best")], "ann", "bob", kind="ranking", overlap=2
    )
    assert ann.item().responses == ("best", "middle", "worst")
    ann.answer("ranked", ranking=((0,), (1,), (2,)))
    bob.answer("ranked", ranking=((0,), (1, 2)))
    result = export(store, "one")
    won = {(p.chosen, p.rejected): (p.margin, p.num_votes) for p in result.preferences}
    assert won == {
        ("best", "worst"): (1.0, 2),
        ("best", "middle"): (1.0, 2),
        ("middle", "worst"): (0.5, 2),
    }
    assert len(result.votes) == 6
    assert {vote.a_side for vote in result.votes} == {"right"}


def test_thumbs_settle_to_feedback_by_majority(store):
    work = [task(1, "fine"), task(2, "poor"), task(3, "even")]
    _, ann, bob = start(store, work, "ann", "bob", kind="thumbs", overlap=2)
    for rater, choices in ((ann, ("good", "bad", "good")), (bob, ("good", "bad", "bad"))):
        for choice in choices:
            rater.answer(choice)
    data = export(store, "one").to_json()
    found = [from_json(Feedback, row) for row in data["feedback"]]
    assert [(f.response, f.good) for f in found] == [("fine", True), ("poor", False)]
    assert found[0].provenance["num_votes"] == 2
    assert len(data["answers"]) == 6
    assert status_of(store, "one").agreement == pytest.approx(2 / 3)


def test_a_rewrite_is_a_demonstration_and_beats_what_it_was_made_from(store):
    _, ann = start(store, [task(1, "draft"), task(2, "good as it is")], "ann", kind="rewrite")
    ann.answer("rewritten", text="better")
    ann.answer("rewritten", text="good as it is")
    data = export(store, "one").to_json()
    shown = [from_json(Demonstration, row).messages[-1].content for row in data["demonstrations"]]
    assert shown == ["better", "good as it is"]
    [preference] = [from_json(Preference, row) for row in data["preferences"]]
    assert (preference.chosen, preference.rejected) == ("better", "draft")


def test_ratings_hold_every_aspect(store, tmp_path):
    aspects = ("helpful", "honest")
    _, ann = start(store, [task(1, "fine")], "ann", kind="rating", aspects=aspects)
    with pytest.raises(DataError, match="'honest' is missing"):
        ann.answer("rated", aspects={"helpful": 4})
    ann.answer("rated", aspects={"helpful": 4, "honest": 5}, reason="clear")
    result = export(store, "one")
    [answer] = result.answers
    assert (answer["aspects"], answer["reason"]) == ({"helpful": 4, "honest": 5}, "clear")
    write_folder(result, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "answers.jsonl").read_text())["rater"] == "ann"
    assert "rated responses by aspects" in dataset_card(result, {})


def rating(store: Store, *said: tuple[int, str, str, tuple[int, int]]) -> Any:
    """The export of (prompt, response, rater, (helpful, honest)) in a campaign of all of these."""
    keys = dict.fromkeys((number, text) for number, text, _, _ in said)
    names = dict.fromkeys(name for _, _, name, _ in said)
    work = [Task(Prompt.from_text(f"Question {n}?"), (Response(t, f"by {t}"),)) for n, t in keys]
    rules: Any = {"kind": "rating", "aspects": ("helpful", "honest"), "overlap": len(names)}
    _, *raters = start(store, work, *names, **rules)
    wanted = {(name, f"Question {number}?", text): given for number, text, name, given in said}
    for rater, name in zip(raters, names, strict=True):
        for _ in work:
            item = rater.item()
            given = wanted.get((name, item.messages[0].content, item.responses[0]))
            if given is None:
                rater.answer("skip", item)
            else:
                rater.answer("rated", item, aspects={"helpful": given[0], "honest": given[1]})
    return export(store, "one")


def test_ratings_are_means_and_the_higher_one_is_preferred_by_the_raters_of_both(store):
    result = rating(
        store,
        (1, "x", "ann", (5, 4)),
        (1, "x", "bob", (2, 1)),  # severe, and never saw y
        (1, "y", "ann", (3, 2)),
        (1, "y", "cat", (5, 5)),  # generous, and never saw x
        (2, "x", "ann", (1, 1)),  # alone: nothing to compare it with
        (3, "x", "bob", (1, 2)),
        (3, "y", "cat", (4, 3)),
        (4, "x", "ann", (2, 4)),
        (4, "y", "ann", (4, 2)),  # as good in all
    )
    first = result.ratings[0]
    assert (first.response.text, first.rating, first.num_votes) == ("x", 3.0, 2)
    assert first.aspects == {"helpful": 3.5, "honest": 2.5}
    shared, apart = [from_json(Preference, row) for row in result.to_json()["preferences"]]
    assert (shared.chosen, shared.rejected, shared.num_votes) == ("x", "y", 1)  # ann: 4.5, 2.5
    assert (shared.margin, shared.agreement) == (0.5, 1.0)
    assert shared.provenance["chosen_policy"] == "by x"
    assert (apart.chosen, apart.margin, apart.agreement) == ("y", 0.5, None)
    assert apart.num_votes == 2


def test_what_ratings_train_is_on_disk_with_what_it_means(store, tmp_path):
    said = [(1, "x", "ann", (5, 4)), (1, "y", "ann", (3, 2)), (1, "z", "ann", (1, 1))]
    result = rating(store, *said)
    write_folder(result, tmp_path / "out")
    found = list(read(SourceConfig(path=str(tmp_path / "out")), Preference))
    assert {(p.chosen, p.rejected) for p in found} == {("x", "y"), ("x", "z"), ("y", "z")}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "`ratings.jsonl`: each response with the mean of its ratings" in card
    assert "difference over the width of the scale" in card
    write_folder(result, tmp_path / "trl", "trl-paired")
    assert len((tmp_path / "trl" / "preferences.jsonl").read_text().splitlines()) == 3


MARKS = st.dictionaries(
    st.tuples(st.integers(1, 2), st.sampled_from("xyz"), st.sampled_from(["ann", "bob"])),
    st.integers(1, 5),
    max_size=12,
)


@given(MARKS)
def test_preferences_of_ratings_follow_the_means(marks):
    by_task: dict[tuple[int, str], dict[str, float]] = {}
    for (number, text, name), mark in marks.items():
        by_task.setdefault((number, text), {})[name] = mark
    found = list(
        better_of(
            RaterMeans(Task(Prompt.from_text(str(number)), (Response(text),)), by_rater)
            for (number, text), by_rater in by_task.items()
        )
    )
    expected = set()  # slowly: every two tasks, and the sums over those who rated both, or all
    for (number, text), one in by_task.items():
        for (other_number, other_text), other in by_task.items():
            names = [n for n in one if n in other] or sorted({*one, *other})
            mine = [one[n] for n in names if n in one]
            theirs = [other[n] for n in names if n in other]
            if number == other_number and sum(mine) * len(theirs) > sum(theirs) * len(mine):
                expected.add((str(number), text, other_text))
    assert {(p.prompt.messages[0].content, p.chosen, p.rejected) for p in found} == expected
    assert len(found) == len(expected)
    assert all(0 < (p.margin or 0) <= 1 for p in found)


def test_aspects_of_a_pair_are_kept_by_response(store):
    _, ann = start(store, tasks(1), "ann", aspects=("helpful", "honest"))
    ann.answer("left", aspects={"helpful": "right", "honest": "tie"}, strength=2)
    [vote] = export(store, "one").votes
    assert (vote.outcome, vote.a_side, vote.strength) == ("b", "right", 2)
    assert vote.aspects == {"helpful": "a", "honest": "tie"}


@given(
    order=st.permutations(range(4)),
    ranking=st.permutations(range(4)),
    cuts=st.sets(st.integers(1, 3)),
)
def test_a_ranking_means_the_texts_that_stood_there(order, ranking, cuts):
    ends = [0, *sorted(cuts), 4]
    groups = tuple(tuple(ranking[a:b]) for a, b in pairwise(ends))
    answer = Answer(1, "ranked", "key", ranking=groups)
    _, content = meaning(answer, "".join(map(str, order)))
    texts = ["w", "x", "y", "z"]
    shown = [texts[i] for i in order]
    assert [[texts[i] for i in g] for g in content["ranking"]] == [
        sorted(shown[place] for place in g) for g in groups
    ]


PAIR = tasks(1)
THREE = [task(1, "x", "y", "z")]
WRONG: list[tuple[list[Task], dict[str, Any], str, dict[str, Any], str]] = [
    (PAIR, {"ties": False}, "tie", {}, "takes left, right, skip"),
    (PAIR, {}, "good", {}, "takes left, right, tie"),
    (PAIR, {"strength": "required"}, "left", {}, "strength: is required"),
    (PAIR, {"strength": "no"}, "left", {"strength": 1}, "strength: is not asked"),
    (PAIR, {}, "left", {"aspects": {"odd": "left"}}, "'odd' is not asked"),
    (PAIR, {"aspects": ("odd",)}, "left", {"aspects": {"odd": 3}}, "say left, right or tie"),
    (PAIR, {}, "left", {"ranking": ((0,), (1,))}, "ranking: goes with"),
    (PAIR, {}, "left", {"text": "x"}, "text: goes with"),
    (THREE, {"kind": "ranking"}, "ranked", {}, "must be there"),
    (THREE, {"kind": "ranking"}, "ranked", {"ranking": ((0,), (1,))}, "from 0 to 2 once"),
    (THREE, {"kind": "ranking"}, "ranked", {"ranking": ((0, 1), (1, 2))}, "from 0 to 2 once"),
    ([task(1, "x")], {"kind": "rewrite"}, "rewritten", {"text": ""}, "must be there"),
]


@pytest.mark.parametrize(("work", "rules", "choice", "extra", "said"), WRONG)
def test_an_answer_that_was_not_asked_is_refused_and_stores_nothing(
    store, work, rules, choice, extra, said
):
    _, ann = start(store, work, "ann", **rules)
    with pytest.raises(DataError, match=said):
        ann.answer(choice, **extra)
    assert status_of(store, "one").votes == 0
    ann.answer("skip")


ODD: list[tuple[dict[str, Any], Task, str]] = [
    ({}, task(1, "only one"), "has 2 responses, not 1"),
    ({"kind": "ranking"}, task(1, *"abcdefghij"), "2 to 9 responses, not 10"),
    ({}, task(1, "x", "y" * (MAX_TEXT + 1)), "more than 200,000 characters"),
    ({"check_every": 2}, task(1, "x", "y", use="gold"), "say what is expected"),
    ({}, task(1, "x", "y", use="gold", expected="a"), "only where .* say check_every"),
    ({}, task(1, "x", "y", use="qualify", expected="a"), "only where .* say pass_mark"),
    ({}, task(1, "x", "y", expected="a"), "say what is expected"),
    (
        {"check_every": 2},
        task(1, "x", "y", use="gold", expected="good"),
        "one of a, b, tie, both_bad",
    ),
    (
        {"kind": "rewrite", "check_every": 2},
        task(1, "x", use="gold", expected="a"),
        "no answer that can be checked",
    ),
]


@pytest.mark.parametrize(("rules", "odd", "said"), ODD)
def test_a_task_that_cannot_be_asked_is_refused_with_all_the_others(store, rules, odd, said):
    with pytest.raises(DataError, match=f"task 0: .*{said}"):
        Campaigns(store).add("one", [odd], settings=Settings(**rules))
    with pytest.raises(NotFound):
        status_of(store, "one")


@pytest.mark.parametrize(
    "rules", [{"kind": "rating"}, {"aspects": ("a", "a")}, {"overlap": 0}, {"odd": 1}]
)
def test_rules_that_make_no_sense_are_refused(rules):
    with pytest.raises((ValidationError, TypeError)):
        Settings(**rules)


@pytest.mark.parametrize("one", [task(1, "x", "y", use="gold", expected="a"), THREE[0], PAIR[0]])
def test_a_task_reads_back_as_it_was_written(one):
    assert Task.from_text(one.to_text()) == one


# -- who gets what --------------------------------------------------------------------------------


def test_a_list_is_worked_off_in_its_order_by_whom_it_belongs_to(store):
    work = tasks(3)
    campaigns, ann, bob = start(store, work, "ann", "bob", source="list", overlap=2)
    pairs = [("ann", work[2].key), ("ann", work[0].key), ("bob", work[0].key)]
    assert campaigns.assign("one", pairs).added == 3
    assert campaigns.assign("one", pairs).duplicates == 3
    assert ann.turn().progress.total == 2
    assert ann.question() == "Where is parcel 2?"
    ann.answer("left")
    assert ann.question() == "Where is parcel 0?"
    ann.answer("left")
    assert ann.turn().item is None
    bob.answer("right")
    assert bob.turn().item is None
    assert status_of(store, "one").complete == 1
    for pair, said in ((("cy", work[0].key), "rater 'cy'"), (("ann", "nothing"), "task 'nothing'")):
        with pytest.raises(DataError, match=said):
            campaigns.assign("one", [("bob", work[1].key), pair])
    assert bob.turn().item is None
    campaigns.add("two", tasks(1))
    with pytest.raises(DataError, match="has no lists"):
        campaigns.assign("two", [("ann", work[0].key)])


def checks(count: int, use: str = "gold") -> list[Task]:
    return [task(100 + i, "right", "wrong", use=use, expected="a") for i in range(count)]


def test_checks_come_unannounced_and_never_count(store):
    _, ann = start(store, [*tasks(6), *checks(2)], "ann", check_every=2)
    asked, totals = [], set()
    while (turn := ann.turn()).item is not None:
        asked.append(turn.item.messages[0].content.startswith("Question"))
        totals.add(turn.progress.total)
        assert turn.progress.done == len(asked) - 1
        ann.answer("left")
    assert asked == [False, False, True, False, False, True, False, False]
    assert totals == {8}  # nothing gives a check away
    result = export(store, "one")
    assert len(result.votes) == len(result.comparisons) == 6
    assert status_of(store, "one").comparisons == 6


def test_who_fails_too_many_attention_items_gets_no_more(store):
    work = [*tasks(9), *checks(3, "attention")]
    _, ann, bob = start(store, work, "ann", "bob", check_every=2, max_failed_checks=1, overlap=2)
    answers = 0
    while ann.turn().item is not None:
        ann.answer("left")  # the order is reversed, so left is b
        answers += 1
    assert answers == 6
    assert "attention" in ann.turn().notice
    bob.answer("left")
    assert bob.turn().notice == ""


def test_only_who_passes_the_qualification_goes_on_to_the_work(store):
    work = [*tasks(2), *checks(2, "qualify")]
    _, ann, bob = start(store, work, "ann", "bob", pass_mark=1.0)
    for choice in ("right", "left"):
        assert ann.question().startswith("Question")
        ann.answer(choice)
    assert (ann.turn().item, "qualification" in ann.turn().notice) == (None, True)
    for _ in range(2):
        bob.answer("right")
    assert bob.question().startswith("Where is parcel")
    assert status_of(store, "one").votes == 0


def test_a_quota_ends_a_raters_share(store):
    _, ann = start(store, tasks(5), "ann", quota=2)
    assert ann.turn().progress.total == 2
    ann.answer("left")
    ann.answer("skip")
    assert (ann.turn().item, "most answers" in ann.turn().notice) == (None, True)


def test_what_was_skipped_comes_back_later_where_the_rules_say_so(store):
    _, ann = start(store, tasks(2), "ann", skip="later")
    first = ann.question()
    ann.answer("skip")
    ann.answer("left")
    assert ann.question() == first
    ann.answer("right")
    assert ann.turn().item is None
    assert (status_of(store, "one").votes, status_of(store, "one").skips) == (2, 0)


def test_what_was_skipped_is_dropped_where_the_rules_say_so(store):
    _, ann, bob = start(store, tasks(1), "ann", "bob", skip="drop")
    ann.answer("skip")
    assert bob.turn().item is None
    assert status_of(store, "one").complete == 1


def test_a_sign_of_life_keeps_the_place(store):
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    campaigns, ann, bob = start(
        store, tasks(1), "ann", "bob", clock=lambda: now[0], lease_minutes=10
    )
    item = ann.item()
    now[0] += timedelta(minutes=8)
    campaigns.beat("one", ann.id, item.assignment)
    now[0] += timedelta(minutes=8)
    assert bob.turn().item is None
    now[0] += timedelta(minutes=3)
    assert bob.turn().item is not None
    with pytest.raises(NotFound):
        campaigns.beat("one", bob.id, item.assignment)


def test_active_selection_takes_the_lowest_rank_and_leaves_a_random_share(store):
    _, ann, bob = start(store, tasks(30), "ann", "bob", random_share=0.5, overlap=2)
    with store.write() as session:
        for row in session.scalars(select(TaskRow)):
            row.rank = -row.id
    for rater in (ann, bob):
        for _ in range(30):
            rater.answer("left")
    with store.read() as session:
        rows = session.execute(
            select(AssignmentRow.source, AssignmentRow.task_id)
            .where(AssignmentRow.rater_id == ann.id)
            .order_by(AssignmentRow.id)
        ).all()
    active = [number for source, number in rows if source == "active"]
    assert active == sorted(active, reverse=True)
    assert 5 <= len(active) <= 25
    assert {source for source, _ in rows} == {"active", "random"}


# -- guidelines, flags, history -------------------------------------------------------------------


def test_a_vote_knows_the_guidelines_that_were_in_force(store):
    campaigns, ann = start(store, tasks(3), "ann")
    for text in ("", "First.", "First.", "Second."):
        campaigns.add("one", [], guidelines=text)
        if text:
            assert campaigns.names() == [("one", text)]
    ann.answer("left")
    campaigns.add("one", [], guidelines="Third.")
    ann.answer("left")
    with store.read() as session:
        assert list(session.scalars(select(VoteRow.guideline).order_by(VoteRow.id))) == [2, 3]
        versions = session.scalars(select(GuidelineRow.text).order_by(GuidelineRow.version))
        assert list(versions) == ["First.", "Second.", "Third."]


def test_a_flag_is_kept_once_and_only_by_whom_the_item_belongs_to(store):
    campaigns, ann, bob = start(store, tasks(2), "ann", "bob")
    item = ann.item()
    for _ in range(2):
        campaigns.flag("one", ann.id, Flag(item.assignment, "private", "a name is in it"))
    with pytest.raises(NotFound):
        campaigns.flag("one", bob.id, Flag(item.assignment, "private"))
    with pytest.raises(DataError, match="'odd' is unknown; use one of broken"):
        campaigns.flag("one", ann.id, Flag(item.assignment, "odd"))
    with store.read() as session:
        [row] = session.scalars(select(FlagRow)).all()
    assert (row.kind, row.note, row.user_id) == ("private", "a name is in it", ann.id)


def test_any_earlier_answer_can_be_revised(store):
    campaigns, ann = start(store, tasks(3), "ann")
    numbers = [ann.answer(choice) for choice in ("left", "tie", "skip")]
    past = campaigns.history("one", ann.id)
    assert [(one.vote, one.choice) for one in past] == [
        (numbers[2], "skip"),
        (numbers[1], "tie"),
        (numbers[0], "left"),
    ]
    turn = campaigns.undo("one", ann.id, numbers[0])
    assert turn.item is not None
    assert turn.item.messages[0].content == "Where is parcel 0?"
    ann.answer("right", turn.item)
    assert {one.choice for one in campaigns.history("one", ann.id)} == {"right", "tie", "skip"}
    with pytest.raises(Conflict, match="nothing to undo"):
        campaigns.undo("one", ann.id, numbers[0])
    a = comparison(0).response_a.text
    [first] = [p for p in export(store, "one").preferences if "parcel 0" in p.prompt.text]
    assert first.chosen == a  # the order was reversed, so right is a
