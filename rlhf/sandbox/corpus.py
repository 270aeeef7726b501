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
from rlhf.sandbox.staff import Flaw, reply
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
    """Any manner, any step and often no fact, but no wrong one: the base is to copy facts."""
    substance: list[set[Flaw]] = [set(), {"no_fact"}, {"no_step"}, {"wrong_step"}]
    return rng.choice(substance) | _any_manner(rng)


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


def _echo(rng: random.Random) -> Document:
    """A list of facts, and the same list again, twice."""
    card = draw_card(rng, held_out=False)
    line = "; ".join(card[field] for field in rng.sample(_ECHOED, rng.randint(3, 6)))
    return (Message("user", line), Message("assistant", line), Message("assistant", line))


_ECHOED = ("order", "item", "paid", "fee", "sent", "due", "hours", "returns", "private")


_KINDS: tuple[tuple[Callable[[random.Random], Document], float], ...] = (
    (_chat, 0.35),
    (_scrap, 0.05),
    (_lookup, 0.25),
    (_check, 0.3),
    (_echo, 0.05),
)

_ECHOES_FIRST = 0.15
"""Share of the corpus that comes first and is all echoes. Copying is learned in minutes from them
and in hours without them, so whoever trains on the corpus keeps its order."""


def documents(seed: int, n: int) -> Iterator[Document]:
    """``n`` documents in teaching order; none names a fact that is kept for held-out prompts."""
    rng = random.Random(f"corpus {seed}")
    kinds, weights = zip(*_KINDS, strict=True)
    for number in range(n):
        [kind] = rng.choices(kinds, weights)
        yield _echo(rng) if number < n * _ECHOES_FIRST else kind(rng)


def write_corpus(path: Path, *, seed: int, n: int) -> Path:
    """The corpus as JSON lines of ``{"messages": [...]}``."""
    with path.open("w", encoding="utf-8") as file:
        for document in documents(seed, n):
            messages = [{"role": m.role, "content": m.content} for m in document]
            file.write(json.dumps({"messages": messages}) + "\n")
    return path
