from collections import Counter
from statistics import mean

import pytest

from rlhf.records import Prompt
from rlhf.sandbox.gold import gold
from rlhf.sandbox.staff import STAFF, demonstrations, ideal
from rlhf.sandbox.world import prompts

PROMPTS = prompts(4, 1500)


def scores(seed):
    pairs = zip(PROMPTS, demonstrations(PROMPTS, seed), strict=True)
    return [gold(prompt, demo.messages[-1].content).total for prompt, demo in pairs]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_staff_is_mediocre_but_often_enough_good(seed):
    found = scores(seed)
    assert 0.42 < mean(found) < 0.56
    assert mean(score > 0.9 for score in found) > 0.18


def test_shares_add_up_and_everyone_works():
    assert sum(clerk.share for clerk in STAFF) == pytest.approx(1)
    worked = Counter(d.metadata["clerk"] for d in demonstrations(PROMPTS, 0))
    assert all(abs(worked[c.name] / len(PROMPTS) - c.share) < 0.04 for c in STAFF)


def test_a_demonstration_is_the_prompt_and_one_reply_and_depends_on_the_seed():
    demos = demonstrations(PROMPTS[:50], 0)
    assert [Prompt(d.messages[:-1]).id for d in demos] == [p.id for p in PROMPTS[:50]]
    assert all(d.messages[-1].role == "assistant" and d.messages[-1].content for d in demos)
    assert demonstrations(PROMPTS[:50], 0) == demos
    assert demonstrations(PROMPTS[:50], 1) != demos


def test_replies_are_short():
    words = [len(d.messages[-1].content.split()) for d in demonstrations(PROMPTS, 0)]
    assert max(words) <= 65
    assert max(len(ideal(p).split()) for p in PROMPTS) <= 30
