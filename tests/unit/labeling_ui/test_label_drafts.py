"""Policies answer prompts for a campaign; what a restart breaks off is taken up."""

import threading
import time
from pathlib import Path

import pytest

from labeling_ui.arena.generation import Drafts, Wanted
from labeling_ui.arena.policies import Live
from labeling_ui.campaigns.service import Campaigns
from labeling_ui.campaigns.tasks import Settings
from labeling_ui.db.store import Conflict
from labeling_ui.db.tables import TaskRow
from labeling_ui.results.answers import tasks_where
from labeling_ui.results.export import export
from rlhf.errors import DataError, ModelError
from rlhf.records import Prompt

RUNS = [Path("runs/one"), Path("runs/two"), Path("runs/three")]


class Scripted:
    """Says the same where the prompt says so; fails at the prompt ``fail``."""

    names = ("one", "two", "three")

    def __init__(self):
        self.asked: list[tuple[str, str, int, int]] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def stream(self, name, messages):
        yield f"{name} {messages[-1].content}"

    def respond(self, name, prompts, sampling):
        assert self.go_on.wait(20)
        texts = [prompt.messages[-1].content for prompt in prompts]
        if "fail" in texts:
            raise ModelError("the model is damaged")
        self.asked += [
            (name, text, sampling.seed, sampling.first + i) for i, text in enumerate(texts)
        ]
        return ["same" if text == "same" else f"{name}: {text}" for text in texts]


class Kitchen:
    """Drafts on a store."""

    def __init__(self, store):
        self.store, self.policies = store, Scripted()
        self.drafts = Drafts(store, Live(RUNS, lambda _: self.policies), Campaigns(store))

    def make(self, texts, policies=(0, 1), **settings):
        prompts = tuple(Prompt.from_text(text) for text in texts)
        self.drafts.begin(Wanted("new", prompts, tuple(policies), Settings(**settings)))
        return self.done()

    def done(self):
        deadline = time.monotonic() + 20
        while (draft := self.drafts.draft) is None or draft.going:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return draft

    def tasks(self):
        with self.store.read() as session:
            return list(tasks_where(session, TaskRow.use == "work").values())


@pytest.fixture
def kitchen(store):
    return Kitchen(store)


def test_every_two_policies_are_compared_on_every_prompt_but_not_with_the_same_words(kitchen):
    draft = kitchen.make(["a", "same", "b"], (0, 1, 2))
    assert (draft.answered, draft.prompts, draft.problem) == (3, 3, "")
    found = [
        (t.prompt.messages[0].content, {r.policy for r in t.responses}) for t in kitchen.tasks()
    ]
    pairs = [{"one", "two"}, {"one", "three"}, {"two", "three"}]
    assert sorted(found, key=str) == sorted(((p, pair) for p in "ab" for pair in pairs), key=str)
    assert export(kitchen.store, "new").status.comparisons == 6


@pytest.mark.parametrize(
    ("settings", "policies", "sizes"),
    [
        ({"kind": "ranking"}, (0, 1, 2), [3, 3]),
        ({"kind": "thumbs"}, (1,), [1, 1]),
        ({"kind": "rating", "aspects": ("honest",)}, (0, 2), [1, 1, 1, 1]),
    ],
)
def test_each_kind_gets_tasks_of_its_own(kitchen, settings, policies, sizes):
    kitchen.make(["a", "b"], policies, **settings)
    assert [len(task.responses) for task in kitchen.tasks()] == sizes


def test_each_policy_and_prompt_has_noise_of_its_own(kitchen):
    kitchen.make([f"prompt {n}" for n in range(20)])
    seeds = {(name, seed) for name, _, seed, _ in kitchen.policies.asked}
    assert seeds == {("one", 0), ("two", 1)}
    for name in ("one", "two"):
        numbers = [number for who, _, _, number in kitchen.policies.asked if who == name]
        assert numbers == list(range(20))


def test_what_was_broken_off_is_taken_up_and_nothing_is_answered_twice(kitchen):
    texts = [f"prompt {n}" for n in range(10)]
    broken = kitchen.make([*texts[:9], "fail"])
    assert (broken.answered, broken.problem) == (8, "the model is damaged")
    assert len(kitchen.tasks()) == 8
    kitchen.policies.asked.clear()
    assert kitchen.make(texts).answered == 10
    assert {text for _, text, _, _ in kitchen.policies.asked} == {"prompt 8", "prompt 9"}
    assert len(kitchen.tasks()) == 10


@pytest.mark.parametrize("kind", ["thumbs", "pairwise"])
def test_the_order_of_the_tasks_of_a_prompt_does_not_tell_the_policies(kitchen, kind):
    texts = [f"prompt {n}" for n in range(64)]
    kitchen.make([*texts[:20], "fail"], (0, 1, 2), kind=kind)
    kitchen.make(texts, (0, 1, 2), kind=kind)
    found = [
        (t.prompt.messages[0].content, frozenset(r.policy for r in t.responses))
        for t in kitchen.tasks()
    ]
    assert [prompt for prompt, _ in found] == [text for text in texts for _ in range(3)]
    for place in range(3):
        assert len({shown for _, shown in found[place::3]}) == 3, "who stands there changes"
    assert len(set(found)) == len(found), "nothing was doubled or lost by the second try"


def test_one_campaign_is_made_at_a_time(kitchen):
    kitchen.policies.go_on.clear()
    wanted = Wanted("new", (Prompt.from_text("a"),), (0, 1), Settings())
    kitchen.drafts.begin(wanted)
    with pytest.raises(Conflict, match="'new' is still being made"):
        kitchen.drafts.begin(wanted)
    kitchen.policies.go_on.set()
    assert kitchen.done().answered == 1


@pytest.mark.parametrize(
    ("texts", "policies", "settings", "sentence"),
    [
        ([], (0, 1), {}, "prompts: give one at least"),
        (["a"], (0, 0), {}, "name none twice"),
        (["a"], (0, 7), {}, "this server has 3"),
        (["a"], (0,), {}, "kind pairwise takes 2 at least"),
        (["a"], (0, 1), {"source": "list"}, "must be pool"),
    ],
)
def test_what_cannot_be_made_is_refused_before_there_is_a_campaign(
    kitchen, texts, policies, settings, sentence
):
    with pytest.raises(DataError, match=sentence):
        kitchen.make(texts, policies, **settings)
    with pytest.raises(DataError, match="would show policy 'two'"):
        kitchen.drafts.begin(Wanted("Two", (Prompt.from_text("a"),), (0, 1), Settings()))
    assert kitchen.drafts.draft is None
    assert kitchen.drafts._campaigns.names() == []
