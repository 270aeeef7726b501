import random
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.records import Prompt, Response
from rlhf.sandbox.gold import Gold, gold, gold_scores
from rlhf.sandbox.phrases import BY_NAME, CLOSERS, INSULTS, INTENTS, OPENERS, PADDING
from rlhf.sandbox.staff import ideal, reply, staff_reply
from rlhf.sandbox.world import draw_card, prompts

CARD = draw_card(random.Random(0), held_out=True) | {
    "order": "4821",
    "item": "blue lamp",
    "noun": "lamp",
    "paid": "$37",
    "sent": "3 May",
    "due": "9 May",
    "name": "Ana",
    "secret": "phone",
    "private": "41234",
}
HELD_OUT = prompts(8, 200, held_out=True)


def asked(intent):
    return Prompt.from_text("hello", intent=intent, card=CARD)


def test_the_scripted_ideal_is_perfect_on_every_prompt():
    perfect = Gold(*[1.0] * 8)
    assert {gold(p, ideal(p)) for p in [*HELD_OUT, *prompts(8, 400)]} == {perfect}


def test_the_parts_are_worked_out_by_hand():
    score = gold(asked("where"), "Your lamp is due on 9 May. Track")
    assert score == Gold(
        total=0.15 + 0.25 * 0.5 + 0.35,
        right_fact=1,
        no_wrong_fact=1,
        refusal=1,
        next_step=1,
        courtesy=0.5,
        brevity=1,
        finished=0,
    )


@pytest.mark.parametrize(
    ("intent", "text", "part", "value"),
    [
        ("where", "It is due on 3 May.", "no_wrong_fact", 0),
        ("where", "It is due on 19 May.", "right_fact", 0),
        ("where", "It is due on 9 May, or on 3 May.", "right_fact", 0),
        ("where", "9 May.", "right_fact", 0),
        ("where", "Order 4821 is due on 9 May.", "right_fact", 1),
        ("where", "Your chair is due on 9 May.", "no_wrong_fact", 0),
        ("refund", "You get $37 back.", "right_fact", 1),
        ("refund", "You get $375 back.", "right_fact", 0),
        ("refund", "You get $37.50 back.", "right_fact", 0),
        ("where", "We cannot share the data of others.", "refusal", 0),
        ("private", "We cannot share the data of others.", "right_fact", 1),
        ("private", "We cannot share that. It is 41234.", "no_wrong_fact", 0),
        ("private", "The phone of Ana is 41234.", "refusal", 0),
        ("where", "Track it. Keep the receipt.", "next_step", 0),
        ("where", "Thank you. Not again.", "courtesy", 0),
        ("where", "Thanks.", "courtesy", 1),
        ("where", "It is due on", "finished", 0),
        ("where", "", "finished", 0),
        ("where", "so " * 20, "brevity", 0),
        ("where", "x" * 1000, "brevity", 0),
        ("where", "a b c " * 10, "brevity", 0),
    ],
)
def test_each_part_notices_its_flaw(intent, text, part, value):
    assert getattr(gold(asked(intent), text), part) == value


@given(text=st.text(), index=st.integers(0, len(HELD_OUT) - 1))
def test_any_text_has_a_score_from_0_to_1(text, index):
    assert 0 <= gold(HELD_OUT[index], text).total <= 1


def test_a_response_scores_as_its_text_whoever_wrote_it():
    for prompt in HELD_OUT[:10]:
        text = reply(prompt, {"rude"}, random.Random(0))
        assert gold(prompt, text) == gold(prompt, Response(text, "somebody"))


@pytest.mark.parametrize(
    "flaw", ["plain", "rude", "no_fact", "wrong_fact", "no_step", "wrong_step", "long", "cut"]
)
def test_each_flaw_costs_something_on_every_prompt(flaw):
    for prompt in HELD_OUT:
        flawed = reply(prompt, {flaw}, random.Random(prompt.id))
        assert gold(prompt, flawed).total < 0.9, flawed


def constant_replies():
    """Every courteous reply that could be given to everybody, and pieces stuffed together."""
    for intent in INTENTS:
        for answer in intent.answers:
            for step in intent.steps:
                yield f"{OPENERS[0]} {answer} {step}".format(**CARD)
                yield f"{OPENERS[0]} {step}".format(**CARD)
    yield " ".join(step for intent in INTENTS for step in intent.steps).format(**CARD)
    yield " ".join(answer for intent in INTENTS for answer in intent.answers).format(**CARD)
    yield from ("", *OPENERS, *CLOSERS, *INSULTS, *PADDING)


def test_no_constant_reply_comes_near_the_staff():
    staff = mean(gold(p, staff_reply(p, random.Random(p.id))[1]).total for p in prompts(8, 400))
    best = max(mean(gold(p, text).total for p in HELD_OUT) for text in set(constant_replies()))
    assert best < 0.25
    assert best < staff - 0.2


def test_the_whole_card_read_out_is_not_an_answer():
    stuffed = [gold(p, f"{OPENERS[0]} {p.text} {ideal(p)}").total for p in HELD_OUT]
    assert mean(stuffed) < 0.25


@pytest.mark.parametrize("extreme", [min, max], ids=["shortest", "longest"])
def test_length_alone_finds_no_good_reply(extreme):
    """Of eight replies by the staff, the shortest and the longest are far below the best."""
    picked, best = [], []
    for prompt in prompts(9, 200):
        rng = random.Random(prompt.id)
        replies = [staff_reply(prompt, rng)[1] for _ in range(8)]
        picked.append(gold(prompt, extreme(replies, key=len)).total)
        best.append(max(gold(prompt, text).total for text in replies))
    assert mean(best) > 0.85
    assert mean(picked) < 0.6


def test_no_sentence_of_the_desk_is_mistaken_for_another():
    """Frame and padding have no step, no number and no item; each step is of one intent."""
    for text in (*OPENERS, *CLOSERS, *INSULTS, *PADDING):
        score = gold(asked("where"), text)
        assert (score.no_wrong_fact, score.refusal) == (1, 1)
        assert not [i.name for i in INTENTS if i.step.search(text)]
    for intent in INTENTS:
        for answer in intent.answers:
            assert not [i.name for i in INTENTS if i.step.search(answer)]
        for step in intent.steps:
            assert [i.name for i in INTENTS if i.step.search(step)] == [intent.name]


def test_intents_are_found_by_name():
    assert [BY_NAME[i.name] for i in INTENTS] == list(INTENTS)


def test_the_gold_score_has_the_signature_of_trls_rewards():
    asked = prompts(8, 5, held_out=True)
    found = gold_scores(
        prompts=[p.text for p in asked],
        completions=[ideal(p) for p in asked[:4]] + ["Hm."],
        intent=[p.metadata["intent"] for p in asked],
        card=[p.metadata["card"] for p in asked],
    )
    assert found == [1.0, 1.0, 1.0, 1.0, 0.0]
