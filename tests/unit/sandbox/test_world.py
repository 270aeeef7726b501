import re

import pytest

from rlhf.errors import DataError
from rlhf.records import Prompt, from_json, to_json
from rlhf.sandbox.corpus import documents
from rlhf.sandbox.phrases import INTENTS
from rlhf.sandbox.staff import demonstrations
from rlhf.sandbox.world import COLOURS, MONTHS, NOUNS, intent_and_card, pool, prompts

# written apart from the world's own templates, so that a leak cannot hide behind them
SHAPES = {
    "order": r"(?<![\d$])\d{4}(?!\d)",
    "phone": r"(?<![\d$])\d{5}(?!\d)",
    "money": r"\$\d+",
    "date": rf"\d+ (?:{'|'.join(MONTHS)})",
    "hours": r"\d+ to \d+",
    "returns": r"\d+ days",
    "address": r"\d+ \w+ Road",
    "item": rf"(?:{'|'.join(COLOURS)}) (?:{'|'.join(NOUNS)})\b",
    "name": rf"\b(?:{'|'.join(pool('name', True) + pool('name', False))})\b",
}


def facts(text):
    return {(kind, v) for kind, shape in SHAPES.items() for v in re.findall(shape, text)}


def facts_of(texts):
    return set().union(*map(facts, texts))


def kept():
    return {(kind, value) for kind in SHAPES for value in pool(kind, True)}


def test_every_fact_of_a_held_out_prompt_is_kept_from_training():
    seen = facts_of(p.text for p in prompts(5, 600, held_out=True))
    assert len(seen) > 500
    assert {kind for kind, _ in seen} == set(SHAPES)
    assert seen <= kept()


def test_training_prompts_and_demonstrations_never_show_a_kept_fact():
    training = prompts(5, 1500)
    shown = facts_of(m.content for d in demonstrations(training, 0) for m in d.messages)
    assert len(shown) > 2000
    assert not shown & kept()


def test_the_corpus_never_shows_a_kept_fact():
    shown = facts_of(d.prompt + d.completion for d in documents(3, 1500))
    assert len(shown) > 2000
    assert not shown & kept()


def test_prompts_differ_and_a_longer_list_begins_with_the_shorter():
    drawn = prompts(1, 300)
    assert len({p.id for p in drawn}) == 300
    assert prompts(1, 100) == drawn[:100]
    assert not {p.id for p in prompts(2, 300)} & {p.id for p in drawn}


def test_every_intent_is_asked_about():
    assert {p.metadata["intent"] for p in prompts(0, 200)} == {i.name for i in INTENTS}


def test_the_card_shows_the_fact_that_was_asked_for():
    for prompt in prompts(0, 300, held_out=True):
        intent, card = intent_and_card(prompt)
        shown = prompt.text.splitlines()[0]
        assert card[intent.fact or "private"] in shown


def test_a_prompt_survives_json_with_its_card():
    [prompt] = prompts(0, 1)
    assert intent_and_card(from_json(Prompt, to_json(prompt))) == intent_and_card(prompt)


@pytest.mark.parametrize("metadata", [{}, {"intent": "where"}, {"intent": "no such", "card": {}}])
def test_a_prompt_from_elsewhere_is_refused_in_one_sentence(metadata):
    with pytest.raises(DataError, match="no sandbox intent and card"):
        intent_and_card(Prompt.from_text("hello", **metadata))
