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
    "order": ("Which order?", "{order}"),
    "item": ("Which item?", "{item}"),
    "paid": ("How much was paid?", "{paid}"),
    "fee": ("How much is the fee?", "{fee}"),
    "sent": ("When was it sent?", "{sent}"),
    "due": ("When is it due?", "{due}"),
    "open": ("Was it sent?", "not sent"),
    "hours": ("When are we open?", "open from {hours}"),
    "returns": ("How long are returns?", "{returns}"),
    "person": ("What do we know of {name}?", "{secret} {private}"),
}


def _chat(rng: random.Random) -> Document:
    """A customer and a reply with flaws at random."""
    prompt = draw_prompt(rng, held_out=False)
    return (*prompt.messages, Message("assistant", reply(prompt, _any_flaws(rng), rng)))


def _any_flaws(rng: random.Random) -> set[Flaw]:
    manner: list[set[Flaw]] = [set(), {"plain"}, {"rude"}]
    fact: list[set[Flaw]] = [set(), set(), set(), {"no_fact"}]
    step: list[set[Flaw]] = [set(), {"no_step"}, {"wrong_step"}]
    shape: list[set[Flaw]] = [set(), set(), {"long"}, {"cut"}]
    return set[Flaw]().union(*(rng.choice(part) for part in (manner, fact, step, shape)))


def _scrap(rng: random.Random) -> Document:
    """A customer and one or two sentences of desk talk, in any order, that need not answer."""
    prompt = draw_prompt(rng, held_out=False)
    intent, card = intent_and_card(prompt)
    talk = (OPENERS, CLOSERS, INSULTS, PADDING, rng.choice(INTENTS).steps, intent.answers)
    said = [rng.choice(part).format(**card) for part in rng.sample(talk, rng.randint(1, 2))]
    return (*prompt.messages, Message("assistant", " ".join(said)))


def _lookup(rng: random.Random) -> Document:
    """A card and questions about its fields."""
    card = draw_card(rng, held_out=False)
    fields = draw_fields(rng.choice(INTENTS), rng)
    lines = [show_card(card, fields)]
    for field in rng.sample(fields, min(3, len(fields))):
        question, answer = _QUESTIONS[field]
        lines.append(f"{question} {answer}".format(**card))
    return (Message("user", lines[0]), Message("assistant", "\n".join(lines[1:])))


def _check(rng: random.Random) -> Document:
    """A customer, an answer that may be wrong, and whether it was."""
    prompt = draw_prompt(rng, held_out=False)
    intent, card = intent_and_card(prompt)
    right = rng.choice(intent.answers).format(**card)
    step = rng.choice(intent.steps).format(**card)
    stray = rng.choice(INTENTS)
    stray_step = rng.choice(stray.steps).format(**card)
    wrong = rng.random() < 0.5
    off = stray is not intent and rng.random() < 0.5
    said = wrong_fact(intent, card, rng) if wrong else right
    verdict = f"Fact {'wrong' if wrong else 'right'}, step {'wrong' if off else 'right'}."
    return (
        *prompt.messages,
        Message("assistant", f"{said} {stray_step if off else step}"),
        Message("user", "Check."),
        Message("assistant", f"{verdict} {right}"),
    )


def _echo(rng: random.Random) -> Document:
    """A list of facts, and the same list again, twice."""
    card = draw_card(rng, held_out=False)
    line = "; ".join(card[field] for field in rng.sample(_ECHOED, rng.randint(3, 6)))
    return (Message("user", line), Message("assistant", line), Message("assistant", line))


_ECHOED = ("order", "item", "paid", "fee", "sent", "due", "hours", "returns", "private")


_KINDS: tuple[tuple[Callable[[random.Random], Document], float], ...] = (
    (_chat, 0.35),
    (_scrap, 0.1),
    (_lookup, 0.2),
    (_check, 0.25),
    (_echo, 0.1),
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
