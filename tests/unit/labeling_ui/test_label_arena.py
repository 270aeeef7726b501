"""Battles: drawn blind, kept for who asked alone, judged once, and told apart afterwards."""

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from labeling_ui.accounts.rate_limits import TooMany
from labeling_ui.arena.battles import CAMPAIGN, MOST_BATTLES, Arena
from labeling_ui.arena.policies import Live
from labeling_ui.campaigns.answers import Answer, Choice
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import Settings
from labeling_ui.db.store import Conflict, NotFound
from labeling_ui.db.tables import AssignmentRow
from labeling_ui.maintenance.integrity import examine
from labeling_ui.results.cases import campaign_summaries, campaign_votes
from labeling_ui.results.export import export
from rlhf.errors import DataError
from tests.labeling import PASSWORD, cheap_accounts, tasks

NAMES = ("one", "two", "three")


class Scripted:
    """Answers with the name and the prompt, in two pieces."""

    def __init__(self, names=NAMES) -> None:
        self.names = tuple(names)
        self.asked: list[str] = []

    def stream(self, name, messages):
        self.asked.append(name)
        yield f"{name}:"
        yield f"{name}: {messages[-1].content}"

    def respond(self, name, prompts, sampling):  # noqa: ARG002
        raise AssertionError("a battle streams")


class Room:
    """A store with an arena and two people."""

    def __init__(self, store, names=NAMES, **options) -> None:
        self.store, self.campaigns = store, Campaigns(store)
        self.policies = Scripted(names)
        live = Live([Path(name) for name in names], lambda _: self.policies)
        self.arena = Arena(store, live, self.campaigns, **options)
        accounts = cheap_accounts(store)
        self.ann = accounts.add("ann", PASSWORD, "guest").id
        self.bob = accounts.add("bob", PASSWORD, "rater").id

    def battle(self, rater, prompt="why?", after=None) -> Any:
        with self.arena.asking(rater):
            pair = self.arena.pair(rater, prompt, after)
            *_, texts = self.arena.answers(pair)
            return self.arena.keep(pair, texts)

    def vote(self, rater, item, choice: Choice = "left", key="key"):
        return self.arena.vote(rater, Answer(item.assignment, choice, key))


@pytest.fixture
def room(store):
    return Room(store)


def shown(item) -> list[str]:
    """Who wrote what is on the screen, from the left."""
    return [text.split(":")[0] for text in item.responses]


def test_a_battle_is_a_task_of_who_asked_and_its_vote_names_who_answered(room):
    item = room.battle(room.ann)
    assert item.messages[0].content == "why?"
    assert room.arena.unjudged(room.ann) == item
    assert room.arena.unjudged(room.bob) is None
    assert examine(room.store).problems == ()
    number, policies = room.vote(room.ann, item)
    assert list(policies) == shown(item)
    assert room.vote(room.ann, item) == (number, policies)  # sent again, told again
    assert room.arena.unjudged(room.ann) is None
    result = export(room.store, CAMPAIGN)
    [vote], [comparison], [preference] = result.votes, result.comparisons, result.preferences
    assert result.independent == result.votes  # nobody chose the pair
    assert comparison.metadata == {"source": "arena"}
    assert preference.provenance["source"] == "arena"
    assert preference.chosen == item.responses[0]
    assert preference.provenance["chosen_policy"] == policies[0]
    assert (vote.outcome == "a") == (comparison.response_a.policy == policies[0])
    assert examine(room.store).problems == ()


@pytest.mark.parametrize("order", ["01", "10"])
def test_the_vote_means_the_response_that_stood_there(store, order):
    room = Room(store, NAMES[:2], draw=lambda _: order)
    item = room.battle(room.ann)
    assert shown(item) == (["one", "two"] if order == "01" else ["two", "one"])
    _, policies = room.vote(room.ann, item, "right")
    assert list(policies) == shown(item)
    [vote] = campaign_votes(store, CAMPAIGN).fair
    assert vote.outcome == ("b" if order == "01" else "a")
    assert vote.a_side == ("left" if order == "01" else "right")


@pytest.mark.parametrize("order", ["01", "10"])
@pytest.mark.parametrize(("choice", "place"), [("left", 0), ("right", 1), ("tie", 0)])
def test_a_conversation_goes_on_from_what_was_preferred(store, order, choice, place):
    room = Room(store, NAMES[:2], draw=lambda _: order)
    first = room.battle(room.ann, "one")
    room.vote(room.ann, first, choice)
    second = room.battle(room.ann, "two", first.assignment)
    assert [m.role for m in second.messages] == ["user", "assistant", "user"]
    assert [m.content for m in second.messages] == ["one", first.responses[place], "two"]
    room.vote(room.ann, second, "right", "key-2")
    third = room.battle(room.ann, "three", second.assignment)
    assert third.messages[:3] == second.messages
    assert third.messages[3].content == second.responses[1]
    found = [comparison.prompt.messages for comparison in export(store, CAMPAIGN).comparisons]
    assert found == [first.messages, second.messages, third.messages]
    assert examine(store).problems == ()


@pytest.mark.parametrize("choice", ["both_bad", "skip", None])
def test_there_is_nothing_to_go_on_from_what_nobody_preferred(room, choice):
    item = room.battle(room.ann)
    if choice:
        room.vote(room.ann, item, choice)
    with pytest.raises(Conflict, match="an answer that you preferred"):
        room.arena.pair(room.ann, "and?", item.assignment)


def test_a_conversation_is_nobody_elses_and_no_work_is_one(room):
    item = room.battle(room.ann)
    room.vote(room.ann, item)
    room.campaigns.add("work", tasks(1))
    work = room.campaigns.next("work", room.bob).item
    assert work is not None
    room.campaigns.submit("work", room.bob, Answer(work.assignment, "left", "key-of-work"))
    for number in (item.assignment, work.assignment, 99):
        with pytest.raises(Conflict, match="an answer that you preferred"):
            room.arena.pair(room.bob, "and?", number)


def test_every_pair_and_side_is_as_likely_as_any_other(room):
    counts = Counter(room.arena.pair(room.ann, "?").places for _ in range(1200))
    assert counts.keys() == {(a, b) for a in range(3) for b in range(3) if a != b}
    # 200 expected each, with a standard deviation of 13: one in a million falls outside
    assert all(135 < count < 265 for count in counts.values())


def test_a_vote_in_the_arena_cannot_be_withdrawn_because_the_names_are_known(room):
    item = room.battle(room.bob)
    room.vote(room.bob, item)
    with pytest.raises(Conflict, match="the vote on a battle stands"):
        room.campaigns.undo(CAMPAIGN, room.bob)
    with pytest.raises(Conflict, match="answered already"):
        room.vote(room.bob, item, "right", "another")
    assert campaign_votes(room.store, CAMPAIGN).votes[0].outcome in ("a", "b")


def test_nobody_judges_or_is_handed_the_battle_of_another(room):
    item = room.battle(room.ann)
    with pytest.raises(NotFound):
        room.vote(room.bob, item)
    assert room.campaigns.next(CAMPAIGN, room.bob).item is None
    assert room.campaigns.names() == []  # nor is there work to see
    assert room.arena.unjudged(room.ann) == item


def test_who_has_a_battle_to_judge_gets_no_other_and_a_skip_names_nobody(room):
    item = room.battle(room.ann)
    with pytest.raises(Conflict, match="judge the battle that you have"):
        room.battle(room.ann)
    assert room.vote(room.ann, item, "skip") == (1, ())
    assert room.battle(room.ann, "and?").messages[0].content == "and?"
    [glance] = campaign_summaries(room.store)
    assert (glance.tasks, glance.complete, glance.votes, glance.skips) == (2, 1, 0, 1)
    assert examine(room.store).problems == ()


def test_the_same_answers_for_two_people_are_one_comparison_and_for_one_nothing(store):
    room = Room(store, NAMES[:2])
    for rater in (room.ann, room.bob):
        room.vote(rater, room.battle(rater), key=f"key-{rater}")
    assert room.battle(room.ann) is None
    result = export(store, CAMPAIGN)
    assert (len(result.comparisons), len(result.votes)) == (1, 2)
    assert examine(store).problems == ()
    with store.read() as session:
        assert session.query(AssignmentRow).count() == 2


def test_sides_are_right_though_the_policies_are_served_in_another_order(store):
    first = Room(store, ("one", "two"), draw=lambda _: "01")
    first.vote(first.ann, first.battle(first.ann))
    live = Live([Path("two"), Path("one")], lambda _: Scripted(("two", "one")))
    arena = Arena(store, live, first.campaigns, draw=lambda _: "01")
    pair = arena.pair(first.bob, "why?")
    *_, texts = arena.answers(pair)
    item = arena.keep(pair, texts)
    assert item is not None
    assert shown(item) == ["two", "one"]
    assert arena.vote(first.bob, Answer(item.assignment, "left", "key"))[1] == ("two", "one")
    assert [vote.outcome for vote in campaign_votes(store, CAMPAIGN).votes] == ["a", "b"]


def test_a_battle_on_the_screen_is_there_after_any_time_and_a_restart(store):
    room = Room(store)
    item = room.battle(room.bob)
    assert item is not None
    assert room.campaigns.next(CAMPAIGN, room.bob).item == item  # asking does not make it expire
    again = Arena(store, Live([], lambda _: Scripted()), Campaigns(store))
    assert again.unjudged(room.bob) == item
    with store.read() as session:
        assert session.query(AssignmentRow).one().expires_at == "9999"
    assert again.vote(room.bob, Answer(item.assignment, "tie", "key"))[1] == tuple(shown(item))


def test_who_is_answered_waits_and_there_are_so_many_places(room):
    with room.arena.asking(room.ann), pytest.raises(Conflict, match="still being answered"):
        room.battle(room.ann)
    entered = [room.arena.asking(-number) for number in range(MOST_BATTLES)]
    for place in entered:
        place.__enter__()
    with pytest.raises(TooMany, match="too many battles"):
        room.battle(room.ann)
    for place in entered:
        place.__exit__(None, None, None)
    assert room.battle(room.ann) is not None


def test_an_arena_needs_two_policies_and_a_campaign_of_its_own(store):
    room = Room(store, ("one",))
    with pytest.raises(Conflict, match="needs two policies"):
        room.battle(room.ann)
    room.campaigns.add("other", tasks(1))
    with pytest.raises(DataError, match="holds battles"):
        room.campaigns.add("mine", tasks(1), settings=Settings(source="arena"))
    assert [glance.name for glance in campaign_summaries(store)] == ["other"]
    room.campaigns.add(CAMPAIGN, tasks(1))
    item = room.campaigns.next(CAMPAIGN, room.bob).item
    with pytest.raises(Conflict, match="holds other work"):
        room.vote(room.bob, item)  # which would name the policies of a blind comparison
    with pytest.raises(Conflict, match="holds other work"):
        room.battle(room.ann)


def test_policies_are_loaded_once_whoever_comes_first():
    loads = []
    gate = threading.Barrier(4)

    def load(runs):
        loads.append(runs)
        return Scripted()

    live = Live([Path("one"), Path("two")], load)
    found = []

    def ask():
        gate.wait()
        found.append(live.policies())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1
    assert len(set(map(id, found))) == 1
