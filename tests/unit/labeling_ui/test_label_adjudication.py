"""An adjudicator decides what raters disagree on, the worst first, once."""

from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from labeling_ui.campaigns.adjudication import answers_apart
from labeling_ui.campaigns.answers import Answer, Flag, Said
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import Settings, Task
from labeling_ui.db.store import Conflict, NotFound, Store
from labeling_ui.db.tables import AssignmentRow, CampaignRow, TaskRow, UserRow
from labeling_ui.maintenance.integrity import examine
from labeling_ui.results.export import export
from rlhf.records import Prompt, Response
from tests.labeling import tasks

KEYS = count()
OUTCOMES = {"a": "left", "b": "right", "tie": "tie", "both_bad": "both_bad", "skip": "skip"}


class Room:
    """Campaign ``one`` on a clock that stands until it is moved; the first response is left."""

    def __init__(self, store, num_tasks=4, overlap=3, **rules):
        self.store, self.now = store, datetime(2026, 1, 1, tzinfo=UTC)
        self.campaigns = Campaigns(store, clock=lambda: self.now, draw=lambda n: "0123"[:n])
        chosen = Settings(overlap=overlap, **rules)
        texts = [Response(f"answer {i}", f"p{i}") for i in range(3)]
        many = {
            "pairwise": tasks(num_tasks),
            "rating": [Task(Prompt.from_text(f"{i}?"), (texts[0],)) for i in range(num_tasks)],
            "thumbs": [Task(Prompt.from_text(f"{i}?"), (texts[0],)) for i in range(num_tasks)],
            "ranking": [Task(Prompt.from_text(f"{i}?"), tuple(texts)) for i in range(num_tasks)],
        }
        self.campaigns.add("one", many[chosen.kind], settings=chosen)

    def person(self, name):
        with self.store.write() as session:
            row = UserRow(name=name, handle=name, role="rater", password_hash="", created_at="")
            session.add(row)
        return row.id

    def item(self, who, decides=True):
        item = self.campaigns.next("one", who, decides=decides).item
        assert item is not None
        return item

    def vote(self, who, choice, decides=False, **extra):
        item = self.item(who, decides)
        answer = Answer(item.assignment, choice, f"key-{next(KEYS):08}", **extra)
        return self.campaigns.submit("one", who, answer, decides=decides)

    def judged(self, *rows):
        """Each rater's choices in the order of the tasks."""
        for number, row in enumerate(rows):
            who = self.person(f"rater {number}")
            for choice in row:
                self.vote(who, choice)

    def queue(self, who):
        """The prompts that are handed out, each put aside."""
        found = []
        while (item := self.campaigns.next("one", who, decides=True).item) is not None:
            found.append(item.messages[0].content)
            self.vote(who, "skip", decides=True)
        return found


def test_the_queue_is_ordered_by_disagreement(store):
    room = Room(store)
    room.judged(
        ["left", "left", "left", "left"],
        ["left", "left", "tie", "left"],
        ["left", "right", "right", "skip"],
    )
    # all three differ on the third, two agree on the second; the last still waits for an answer
    assert room.queue(room.person("judy")) == ["Where is parcel 2?", "Where is parcel 1?"]


def test_a_flagged_task_is_in_the_queue_though_all_agree(store):
    room = Room(store, num_tasks=2, overlap=1)
    ann = room.person("ann")
    item = room.item(ann, decides=False)
    room.campaigns.flag("one", ann, Flag(item.assignment, "unsafe"))
    for choice in ("left", "left"):
        room.vote(ann, choice)
    assert room.queue(room.person("judy")) == ["Where is parcel 0?"]


def test_what_was_decided_stands_alone_and_fills_no_place(store):
    room = Room(store, num_tasks=1)
    room.judged(["left"], ["left"], ["right"])
    judy, ruth = room.person("judy"), room.person("ruth")
    before = export(store, "one")
    assert before.preferences[0].chosen.startswith("Parcel")
    _, turn = room.vote(judy, "right", decides=True)
    after = export(store, "one")
    assert (turn.progress.done, turn.progress.total) == (1, 1)
    assert after.preferences[0].chosen.startswith("I do not know")
    assert len(after.votes) == 4
    assert after.independent == before.independent
    assert after.status.agreement == before.status.agreement
    assert room.campaigns.contested("one", ruth) == 0
    with store.read() as session:
        assert session.scalars(select(TaskRow.num_votes)).all() == [3]
    assert examine(store).problems == ()
    room.campaigns.undo("one", judy, decides=True)
    assert export(store, "one").preferences == before.preferences
    assert examine(store).problems == ()


def test_an_adjudicator_who_skips_has_decided_nothing(store):
    room = Room(store, num_tasks=1)
    room.judged(["left"], ["left"], ["right"])
    judy, ruth = room.person("judy"), room.person("ruth")
    before = export(store, "one").preferences
    room.vote(judy, "skip", decides=True)
    assert export(store, "one").preferences == before
    assert room.campaigns.contested("one", judy) == 0
    assert room.campaigns.contested("one", ruth) == 1


def test_nobody_decides_on_what_they_rated(store):
    room = Room(store, num_tasks=1, overlap=2)
    ann, bob = room.person("ann"), room.person("bob")
    room.vote(ann, "left")
    room.vote(bob, "right")
    assert room.campaigns.next("one", ann, decides=True).item is None
    assert room.campaigns.contested("one", room.person("judy")) == 1


def test_what_raters_said_is_told_by_the_places_on_this_screen(store):
    room = Room(store, num_tasks=1, overlap=2)
    ann, bob = room.person("ann"), room.person("bob")
    room.vote(ann, "left", strength=3, reason="it answers")
    room.campaigns._draw = lambda _: "10"
    room.vote(bob, "tie")
    turn = room.campaigns.next("one", room.person("judy"), decides=True)
    assert turn.item is not None
    assert turn.item.responses[1].startswith("Parcel")  # the first response stands right here
    assert turn.said == (Said("right", (), 3, "it answers"), Said("tie", (), None, ""))


def test_rankings_differ_where_their_order_does(store):
    room = Room(store, num_tasks=2, overlap=2, kind="ranking")
    ann, bob = room.person("ann"), room.person("bob")
    for who, second in ((ann, ((0,), (1,), (2,))), (bob, ((2,), (0,), (1,)))):
        room.vote(who, "ranked", ranking=((0,), (2, 1)) if who == ann else ((0,), (1, 2)))
        room.vote(who, "ranked", ranking=second)
    judy = room.person("judy")
    turn = room.campaigns.next("one", judy, decides=True)
    assert turn.item is not None
    assert turn.item.messages[0].content == "1?"
    assert [one.ranking for one in turn.said] == [((0,), (1,), (2,)), ((2,), (0,), (1,))]
    assert turn.progress.total == 1
    room.vote(judy, "ranked", decides=True, ranking=((1,), (0,), (2,)))
    found = [p for p in export(store, "one").preferences if p.prompt.messages[0].content == "1?"]
    assert {(p.chosen, p.rejected) for p in found} == {
        ("answer 1", "answer 0"),
        ("answer 0", "answer 2"),
        ("answer 1", "answer 2"),
    }


def test_thumbs_are_decided_too(store):
    room = Room(store, num_tasks=1, overlap=2, kind="thumbs")
    room.judged(["good"], ["bad"])
    assert export(store, "one").feedback == ()
    room.vote(room.person("judy"), "bad", decides=True)
    [feedback] = export(store, "one").feedback
    assert not feedback.good


def test_ratings_are_decided_where_they_lie_two_points_apart(store):
    room = Room(store, num_tasks=5, overlap=2, kind="rating", aspects=("helpful", "honest"))
    ann, bob, judy = room.person("ann"), room.person("bob"), room.person("judy")
    rated = ["33 42", "15 35", "51 55", "22 22", "11 21"]  # by ann and by bob
    for number, marks in enumerate(rated):
        if number == 3:
            item = room.item(bob, decides=False)
            room.campaigns.flag("one", bob, Flag(item.assignment, "unsafe"))
        for who, (helpful, honest) in zip((ann, bob), marks.split(), strict=True):
            room.vote(
                who, "rated", aspects={"helpful": int(helpful), "honest": int(honest)}, reason="so"
            )
    assert room.campaigns.contested("one", judy) == 3
    with store.read() as session:
        campaign = session.scalars(select(CampaignRow)).one()
        assert list(answers_apart(session, campaign).values()) == [0.25, 0.5, 1.0, 0.0, 0.25]
    turn = room.campaigns.next("one", judy, decides=True)
    assert turn.item is not None
    assert turn.item.messages[0].content == "2?"  # four points apart by honesty
    assert turn.said[0] == Said("rated", (), None, "so", {"helpful": 5, "honest": 1})
    room.vote(judy, "rated", decides=True, aspects={"helpful": 5, "honest": 4})
    assert room.queue(judy) == ["1?", "3?"]  # two points apart, and as good but flagged
    result = export(store, "one")
    found = {one.prompt.messages[0].content: (one.rating, one.num_votes) for one in result.ratings}
    assert found["2?"] == (4.5, 1)  # what was decided stands alone
    assert found["1?"] == (3.5, 2)
    assert examine(store).problems == ()


def test_two_adjudicators_do_not_decide_the_same(store):
    room = Room(store, num_tasks=2, overlap=2)
    room.judged(["left", "left"], ["right", "right"])
    judy, ruth = room.person("judy"), room.person("ruth")
    first = room.item(judy)
    other = room.item(ruth)
    assert first.messages != other.messages
    room.vote(ruth, "left", decides=True)
    assert room.campaigns.next("one", ruth, decides=True).item is None
    room.now += timedelta(hours=1)  # judy went away: the task is free again
    assert room.item(ruth).messages == first.messages
    room.vote(ruth, "right", decides=True)
    late = Answer(first.assignment, "left", "key-of-judy-who-comes-late")
    room.campaigns.submit("one", judy, late, decides=True)
    assert len(export(store, "one").votes) == 6  # hers is kept, and does not count
    assert examine(store).problems == ()
    assert room.campaigns.next("one", judy, decides=True).item is None


def test_a_lease_that_ran_out_takes_nothing_from_the_only_adjudicator(store):
    room = Room(store, num_tasks=1, overlap=2)
    room.judged(["left"], ["right"])
    judy = room.person("judy")
    first = room.item(judy)
    room.now += timedelta(days=1)
    assert room.item(judy) == first
    room.vote(judy, "left", decides=True)
    assert len(export(store, "one").preferences) == 1


def test_the_two_desks_are_apart(store):
    room = Room(store, num_tasks=2, overlap=2)
    room.judged(["left", "left"], ["right", "left"])
    judy = room.person("judy")
    item = room.item(judy)
    answer = Answer(item.assignment, "left", "key-00000000-x")
    assert room.campaigns.next("one", judy).item is None
    with pytest.raises(NotFound, match="is not yours"):
        room.campaigns.submit("one", judy, answer)
    room.campaigns.submit("one", judy, answer, decides=True)
    assert room.campaigns.progress("one", judy).done == 0
    assert room.campaigns.history("one", judy) == []
    assert [past.choice for past in room.campaigns.history("one", judy, decides=True)] == ["left"]
    with pytest.raises(Conflict, match="nothing to undo"):
        room.campaigns.undo("one", judy)


@given(st.lists(st.lists(st.sampled_from(list(OUTCOMES)), min_size=3, max_size=3), max_size=6))
@settings(max_examples=12, deadline=None)
def test_the_queue_is_what_a_slow_count_says(rows):
    """Rows are tasks; a column is a rater. A skip fills no place, so the task is not complete."""
    with TemporaryDirectory() as folder, closing(Store(Path(folder) / "label.db")) as store:
        room = Room(store, num_tasks=len(rows))
        room.judged(*([OUTCOMES[row[k]] for row in rows] for k in range(3)))
        expected = []
        for number, row in enumerate(rows):
            if "skip" in row:
                continue
            split = 1 - max(row.count(one) for one in row) / 3
            if split:
                expected.append((-split, number))
        wanted = [f"Where is parcel {number}?" for _, number in sorted(expected)]
        assert room.queue(room.person("judy")) == wanted
        with store.read() as session:
            found = session.scalars(select(AssignmentRow.source)).all()
            assert found.count("adjudicate") == len(wanted)
