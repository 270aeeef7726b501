"""Who may answer what: places of a task, gates of a campaign, whatever is taken back or left."""

from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labeling_ui.campaigns.answers import Answer
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import Settings, Task
from labeling_ui.db.store import Conflict, NotFound
from labeling_ui.db.tables import UserRow
from labeling_ui.maintenance.integrity import examine
from labeling_ui.results.answers import status_of
from labeling_ui.results.export import export
from rlhf.records import Prompt, Response
from tests.labeling import tasks

LEASE = timedelta(minutes=31)


class Room:
    """Campaign ``one`` on a clock that stands until it is moved; the first response is left."""

    def __init__(self, store, work, campaign="one", **rules):
        self.store, self.now, self.keys = store, datetime(2026, 1, 1, tzinfo=UTC), count()
        self.campaigns = Campaigns(store, clock=lambda: self.now, draw=lambda n: "0123"[:n])
        self.campaign = campaign
        self.campaigns.add(campaign, work, settings=Settings(**rules))
        self.ids = {name: self.person(name) for name in ("ann", "bob", "cy", "judy", "max")}

    def person(self, name):
        with self.store.write() as session:
            handle = name if self.campaign == "one" else f"{name} of {self.campaign}"
            row = UserRow(name=handle, handle=handle, role="rater", password_hash="", created_at="")
            session.add(row)
        return row.id

    def turn(self, name, decides=False):
        return self.campaigns.next(self.campaign, self.ids[name], decides=decides)

    def item(self, name, decides=False):
        item = self.turn(name, decides).item
        assert item is not None
        return item

    def vote(self, name, item, choice, decides=False, **extra):
        answer = Answer(
            item.assignment, choice, extra.pop("key", f"key-{next(self.keys)}"), **extra
        )
        return self.campaigns.submit(self.campaign, self.ids[name], answer, decides=decides)

    def answer(self, name, choice="left"):
        return self.vote(name, self.item(name), choice)[1]

    def undo(self, name, vote=None, decides=False):
        return self.campaigns.undo(self.campaign, self.ids[name], vote, decides=decides)

    def sound(self):
        assert examine(self.store).problems == ()


def check(number, use):
    """A task whose right answer is the left one."""
    texts = tuple(Response(f"{text} {number}", text) for text in ("right", "wrong"))
    return Task(Prompt.from_text(f"check {number}?"), texts, use=use, expected="a")


# -- places ---------------------------------------------------------------------------------------


def test_a_skip_cannot_be_taken_back_once_others_have_filled_its_place(store):
    room = Room(store, tasks(1))
    room.answer("ann", "skip")
    room.answer("bob", "right")
    with pytest.raises(Conflict, match="others have answered this task meanwhile"):
        room.undo("ann")
    room.sound()
    [vote] = [v for v in export(store, "one").votes if v.outcome != "skip"]
    assert vote.rater == "bob"


def test_a_skip_can_be_taken_back_while_there_is_a_place(store):
    room = Room(store, tasks(1))
    room.answer("ann", "skip")
    room.undo("ann")
    assert room.turn("bob").item is None  # ann holds it again
    room.answer("ann", "left")
    room.sound()
    assert status_of(store, "one").complete == 1


def test_a_sign_of_life_after_the_lease_does_not_take_back_a_place_that_another_has(store):
    room = Room(store, tasks(1))
    late = room.item("ann")
    room.now += LEASE
    held = room.item("bob")
    room.campaigns.beat("one", room.ids["ann"], late.assignment)
    room.vote("bob", held, "left")
    room.vote("ann", late, "right")  # kept, but one too many
    room.sound()
    assert [vote.rater for vote in export(store, "one").votes] == ["bob"]


def test_a_sign_of_life_after_the_lease_keeps_a_place_that_nobody_took(store):
    room = Room(store, tasks(1))
    late = room.item("ann")
    room.now += LEASE
    room.campaigns.beat("one", room.ids["ann"], late.assignment)
    assert room.turn("bob").item is None
    room.vote("ann", late, "right")
    assert status_of(store, "one").complete == 1


def contested(store):
    room = Room(store, tasks(1), overlap=2)
    room.answer("ann", "left")
    room.answer("bob", "right")
    return room


def test_of_two_adjudicators_at_one_task_the_first_decides(store):
    room = contested(store)
    judys = room.item("judy", decides=True)
    room.now += LEASE
    other = room.item("max", decides=True)
    assert other.messages == judys.messages
    room.vote("judy", judys, "left", decides=True)
    room.vote("max", other, "tie", decides=True)
    room.sound()
    assert export(store, "one").ties == ()


def test_an_adjudicator_cannot_take_back_a_skip_that_another_has_decided(store):
    room = contested(store)
    room.vote("judy", room.item("judy", decides=True), "skip", decides=True)
    room.vote("max", room.item("max", decides=True), "tie", decides=True)
    with pytest.raises(Conflict, match="others have answered"):
        room.undo("judy", decides=True)
    room.sound()


CAMPAIGNS = count()
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "judy", "max"]),
        st.sampled_from(["left", "right", "skip", "undo", "beat", "take", "wait"]),
    ),
    min_size=8,
    max_size=25,
)


@given(STEPS, st.integers(1, 2), st.sampled_from(["others", "later", "drop"]))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_taken_left_and_taken_back_the_counts_stay_sound(sqlite, steps, overlap, skip):
    room = Room(sqlite, tasks(1), f"campaign {next(CAMPAIGNS)}", overlap=overlap, skip=skip)
    screens = {}
    for name, step in steps:
        decides = name in ("judy", "max")
        held = screens.get(name)
        try:
            if step == "wait":
                room.now += LEASE
            elif step == "undo":
                screens[name] = room.undo(name, decides=decides).item
            elif held is None or step == "take":
                screens[name] = room.turn(name, decides).item or held
            elif step == "beat":
                room.campaigns.beat(room.campaign, room.ids[name], held.assignment, decides=decides)
            else:
                room.vote(name, held, step, decides)
        except (Conflict, NotFound):
            continue
    room.sound()
    counted = [v for v in export(sqlite, room.campaign).independent if v.outcome != "skip"]
    assert len(counted) <= overlap


# -- one answer, one key --------------------------------------------------------------------------


def test_a_key_stands_for_one_answer_with_all_that_belongs_to_it(store):
    work = [Task(Prompt.from_text("?"), tuple(Response(t, t) for t in "xyz"))]
    room = Room(store, work, kind="ranking")
    item = room.item("ann")
    ranking = ((0,), (1,), (2,))
    first = room.vote("ann", item, "ranked", key="same", ranking=ranking)
    assert room.vote("ann", item, "ranked", key="same", ranking=ranking) == first
    with pytest.raises(Conflict, match="this key was used for another vote"):
        room.vote("ann", item, "ranked", key="same", ranking=ranking[::-1])
    with pytest.raises(Conflict, match="this key was used for another vote"):
        room.vote("ann", item, "ranked", key="same", ranking=ranking, reason="another")


# -- gates ----------------------------------------------------------------------------------------


def test_a_failed_qualification_cannot_be_tried_again_by_taking_answers_back(store):
    work = [*tasks(3), check(1, "qualify"), check(2, "qualify")]
    room = Room(store, work, pass_mark=1.0)
    room.answer("ann", "right")
    room.undo("ann")  # nothing has been said about it yet
    room.answer("ann", "right")
    turn = room.answer("ann", "left")
    assert (turn.item, turn.notice) == (None, "the qualification was not passed; ask an admin")
    for past in room.campaigns.history("one", room.ids["ann"]):
        with pytest.raises(Conflict, match="you get no more tasks here"):
            room.undo("ann", past.vote)
    assert room.turn("ann").item is None
    for _ in range(2):
        turn = room.answer("bob", "left")
    assert turn.item is not None


def test_failed_attention_items_cannot_be_taken_back(store):
    work = [*tasks(9), *(check(n, "attention") for n in range(3))]
    room = Room(store, work, check_every=2, max_failed_checks=1)
    turn = room.turn("ann")
    while turn.item:
        turn = room.vote("ann", turn.item, "right")[1]
    assert turn.notice == "too many attention items were failed; ask an admin"
    with pytest.raises(Conflict, match="you get no more tasks here"):
        room.undo("ann")


def test_a_list_waits_for_the_qualification_and_ends_with_the_quota(store):
    listed = tasks(3)
    room = Room(store, [*listed, check(1, "qualify")], source="list", pass_mark=1.0, quota=2)
    room.campaigns.assign("one", [(name, t.key) for name in ("ann", "bob") for t in listed])
    first = room.item("ann")
    assert first.messages[0].content == "check 1?"
    assert room.item("ann") == first
    turn = room.vote("ann", first, "left")[1]
    for task in listed[:2]:
        assert turn.item is not None
        assert turn.item.messages == task.prompt.messages
        turn = room.vote("ann", turn.item, "left")[1]
    assert turn.item is None
    assert turn.notice.startswith("you have reached the most answers")
    turn = room.answer("bob", "right")
    assert turn.notice.startswith("the qualification was not passed")
    room.sound()


def test_checks_come_between_what_is_listed(store):
    listed = tasks(4)
    room = Room(store, [*listed, check(1, "gold")], source="list", check_every=2)
    room.campaigns.assign("one", [("ann", task.key) for task in listed])
    asked, turn, totals = [], room.turn("ann"), set()
    while turn.item:
        assert room.item("ann") == turn.item
        asked.append(turn.item.messages[0].content)
        totals.add(turn.progress.total)
        turn = room.vote("ann", turn.item, "left")[1]
    assert asked[2] == "check 1?"
    assert len(asked) == 5
    assert totals == {5}, "none gives itself away by the count"
    assert (turn.progress.done, turn.progress.total) == (5, 5)


def test_what_was_skipped_for_later_is_not_in_the_quota(store):
    room = Room(store, tasks(2), quota=2, skip="later")
    room.answer("ann", "skip")
    turn = room.answer("ann", "skip")
    for _ in range(2):
        assert turn.item is not None
        turn = room.vote("ann", turn.item, "left")[1]
    assert (turn.item, status_of(store, "one").votes) == (None, 2)


def test_what_somebody_decides_is_not_on_the_list_of_what_the_same_person_rates(store):
    work = tasks(2)
    room = Room(store, work, source="list", overlap=2)
    lists = [("ann", work[0].key), ("bob", work[0].key), ("judy", work[1].key)]
    room.campaigns.assign("one", [*lists, ("ann", work[1].key)])
    room.answer("ann", "left")
    room.answer("bob", "right")
    room.vote("judy", room.item("judy", decides=True), "tie", decides=True)
    turn = room.answer("judy", "left")
    assert (turn.progress.done, turn.progress.total) == (1, 1)
