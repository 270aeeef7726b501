"""The text that the demo's base model is trained on, all of it generated here.

It teaches to read a card, to copy a fact nobody has seen before and to tell a right fact from a
wrong one. Its chats are scraps of help-desk talk in which every flaw is as frequent as its
absence, so that the base can speak like the desk but prefers nothing.
"""

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from rlhf.records import Message
from rlhf.sandbox.phrases import CLOSERS, INSULTS, INTENTS, OPENERS, PADDING
from rlhf.sandbox.staff import Flaw, reply, wrong_fact
from rlhf.sandbox.world import draw_card, draw_fields, draw_prompt, intent_and_card, show_card

Document = tuple[Message, ...]

_QUESTIONS = {
    "order": "Which order? {order}",
    "item": "Which item? {item}",
    "paid": "How much was paid? {paid}",
    "fee": "How much is the fee? {fee}",
    "sent": "When was it sent? {sent}",
    "due": "When is it due? {due}",
    "open": "Was it sent? not sent",
    "hours": "When are we open? open from {hours}",
    "returns": "How long are returns? {returns}",
    "person": "What do we know of {name}? {secret} {private}",
}

# the flaws of what is checked, and what the verdict says of each
_FACTS: tuple[tuple[set[Flaw], str], ...] = (
    (set(), "right"),
    ({"wrong_fact"}, "wrong"),
    ({"no_fact"}, "no"),
)
_STEPS: tuple[tuple[set[Flaw], str], ...] = (
    (set(), "right"),
    ({"wrong_step"}, "wrong"),
    ({"no_step"}, "no"),
)


def _chat(rng: random.Random) -> Document:
    """A customer and a reply with flaws at random."""
    prompt = draw_prompt(rng, held_out=False)
    return (*prompt.messages, Message("assistant", reply(prompt, _any_flaws(rng), rng)))


def _any_flaws(rng: random.Random) -> set[Flaw]:
    """Any manner, any step, and a fact that is wrong or missing as often as right."""
    fact: list[set[Flaw]] = [set(), set(), {"wrong_fact"}, {"no_fact"}]
    step: list[set[Flaw]] = [set(), set(), {"no_step"}, {"wrong_step"}]
    return rng.choice(fact) | rng.choice(step) | _any_manner(rng)


def _any_manner(rng: random.Random) -> set[Flaw]:
    tone: list[set[Flaw]] = [set(), {"plain"}, {"rude"}]
    shape: list[set[Flaw]] = [set(), set(), {"long"}, {"cut"}]
    return rng.choice(tone) | rng.choice(shape)


def _scrap(rng: random.Random) -> Document:
    """A customer and one or two sentences of desk talk, in any order, that need not answer."""
    prompt = draw_prompt(rng, held_out=False)
    intent, card = intent_and_card(prompt)
    talk = (OPENERS, CLOSERS, INSULTS, PADDING, rng.choice(INTENTS).steps, intent.answers)
    said = [rng.choice(part).format(**card) for part in rng.sample(talk, rng.randint(1, 2))]
    return (*prompt.messages, Message("assistant", " ".join(said)))


def _lookup(rng: random.Random) -> Document:
    """A card, then what some of its fields say, asked for or told as the desk would tell it."""
    card = draw_card(rng, held_out=False)
    fields = draw_fields(rng.choice(INTENTS), rng)
    told = [_tell(field, rng).format(**card) for field in rng.sample(fields, min(3, len(fields)))]
    return (Message("user", show_card(card, fields)), Message("assistant", "\n".join(told)))


def _tell(field: str, rng: random.Random) -> str:
    sentences = [answer for intent in INTENTS if intent.fact == field for answer in intent.answers]
    if sentences and rng.random() < 0.6:
        return rng.choice(sentences)
    return _QUESTIONS[field]


def _check(rng: random.Random) -> Document:
    """A customer, a reply that may be wrong, and whether its fact and its step were right.

    Most of these replies are quoted by the user: a model that is trained on assistant turns alone
    learns to judge them without learning to say them.
    """
    prompt = draw_prompt(rng, held_out=False)
    intent, card = intent_and_card(prompt)
    [(fact_flaws, fact)] = rng.choices(_FACTS, (3, 2, 1))
    [(step_flaws, step)] = rng.choices(_STEPS, (2, 1, 1))
    # never cut: that could take away what the verdict is about
    said = reply(prompt, (_any_manner(rng) - {"cut"}) | fact_flaws | step_flaws, rng)
    answer = rng.choice(intent.answers).format(**card)
    return (
        *prompt.messages,
        Message("assistant" if rng.random() < 0.25 else "user", said),
        Message("assistant", f"{fact} fact, {step} step. {answer}"),
    )


def _mark(rng: random.Random) -> Document:
    """A customer and single sentences, each marked for whether it belongs into the reply."""
    prompt = draw_prompt(rng, held_out=False)
    intent, card = intent_and_card(prompt)
    stray = rng.choice([other for other in INTENTS if other is not intent])
    marked = (
        (rng.choice(intent.answers), "right"),
        (wrong_fact(intent, card, rng), "wrong"),
        (rng.choice(stray.answers), "wrong"),
        (rng.choice(intent.steps), "right"),
        (rng.choice(stray.steps), "wrong"),
    )
    lines = [f"{said.format(**card)} {mark}" for said, mark in rng.sample(marked, 4)]
    return (*prompt.messages, Message("assistant", "\n".join(lines)))


def _audit(rng: random.Random) -> Document:
    """A card, and a copy of it in which every other value is wrong, marked one by one."""
    card, other = draw_card(rng, held_out=False), draw_card(rng, held_out=False)
    fields = [field for field in draw_fields(rng.choice(INTENTS), rng) if field in _MIXED_UP]
    lines: list[str] = []
    for field in rng.sample(fields, len(fields)):
        value = rng.choice((card[field], card[field], other[field], card[_MIXED_UP[field]]))
        verdict = "right" if value == card[field] else "wrong"
        lines.append(f"{_tell(field, rng).format(**{**card, field: value})} {verdict}")
    return (Message("user", show_card(card, fields)), Message("assistant", "\n".join(lines)))


_MIXED_UP = {
    "order": "order",
    "item": "item",
    "paid": "fee",
    "fee": "paid",
    "sent": "due",
    "due": "sent",
    "hours": "hours",
    "returns": "returns",
}


def _echo(rng: random.Random) -> Document:
    """A list of facts, and the same list again, twice."""
    card = draw_card(rng, held_out=False)
    line = "; ".join(card[field] for field in rng.sample(_ECHOED, rng.randint(3, 6)))
    return (Message("user", line), Message("assistant", line), Message("assistant", line))


def _compare(rng: random.Random) -> Document:
    """A list of facts, and the same list with some of them changed, marked one by one."""
    card, other = draw_card(rng, held_out=False), draw_card(rng, held_out=False)
    fields = rng.sample(_ECHOED, rng.randint(3, 6))
    marked = [
        f"{card[field]} right" if rng.random() < 0.5 else f"{other[field]} wrong"
        for field in fields
    ]
    facts = "; ".join(card[field] for field in fields)
    return (Message("user", facts), Message("assistant", "; ".join(marked)))


_ECHOED = ("order", "item", "paid", "fee", "sent", "due", "hours", "returns", "private")

_Mixture = tuple[tuple[Callable[[random.Random], Document], float], ...]
_LESSONS: tuple[tuple[float, _Mixture], ...] = (
    (0.12, ((_echo, 1.0),)),
    (0.05, ((_compare, 1.0),)),
    (
        0.83,
        (
            (_chat, 0.37),
            (_scrap, 0.04),
            (_lookup, 0.09),
            (_audit, 0.12),
            (_mark, 0.15),
            (_check, 0.14),
            (_echo, 0.04),
            (_compare, 0.05),
        ),
    ),
)
"""Shares of the corpus and the kinds of document in each. Whoever trains on it keeps the order:
to copy and to compare are learned in minutes from lists alone, and in hours from chats."""


def documents(seed: int, n: int) -> Iterator[Document]:
    """``n`` documents in teaching order; none names a fact that is kept for held-out prompts."""
    rng = random.Random(f"corpus {seed}")
    for share, mixture in _LESSONS:
        kinds, weights = zip(*mixture, strict=True)
        for _ in range(round(share * n)):
            [kind] = rng.choices(kinds, weights)
            yield kind(rng)


def write_corpus(path: Path, *, seed: int, n: int) -> Path:
    """The corpus as JSON lines of ``{"messages": [...]}``."""
    with path.open("w", encoding="utf-8") as file:
        for document in documents(seed, n):
            messages = [{"role": m.role, "content": m.content} for m in document]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path
