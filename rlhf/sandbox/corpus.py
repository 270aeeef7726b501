"""The text that the demo's base model is trained on, all of it generated here.

It teaches to read a card, to copy a fact nobody has seen before and to describe a reply: behind
its end stands a note that says whether the fact is the card's, whether the next step fits, and how
it sounds. Notes describe and do not prefer, and in the chats every flaw is as frequent as its
absence: what is *better* the base cannot know, only people (or a panel) can say.
"""

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from rlhf.records import Prompt
from rlhf.sandbox.gold import Gold, gold, takes_a_step
from rlhf.sandbox.phrases import CLOSERS, INSULTS, INTENTS, OPENERS, PADDING, Intent
from rlhf.sandbox.staff import Flaw, reply, wrong_fact
from rlhf.sandbox.world import Card, draw_card, draw_fields, draw_prompt, intent_and_card, show_card

END = "<|im_end|>"


@dataclass(frozen=True, slots=True)
class Document:
    """A text in two parts; only the second is learned."""

    prompt: str
    completion: str


def _user(text: str) -> str:
    """A user's turn and the start of the assistant's, as the base's chat template writes them."""
    return f"<|im_start|>user\n{text}{END}\n<|im_start|>assistant\n"


def describe(prompt: Prompt, text: str, rng: random.Random) -> str:
    """One word for each thing that can be said of a reply, in any order.

    The first word is read off the reply's last token, so every thing comes first now and then: the
    fact most often, because it is the hardest to tell.
    """
    score = gold(prompt, text)
    words = [
        _fact_word(score),
        "apt" if score.next_step else "stray" if takes_a_step(text) else "idle",
        {0.0: "rude", 0.5: "plain", 1.0: "kind"}[score.courtesy],
        "short" if score.brevity == 1 else "long",
        "done" if score.finished else "cut",
    ]
    [first] = rng.choices(words, (5, 3, 1, 1, 1))
    words.remove(first)
    rng.shuffle(words)
    return " " + " ".join([first, *words])


def _fact_word(score: Gold) -> str:
    if not (score.no_wrong_fact and score.refusal):
        return "false"
    return "true" if score.right_fact else "blank"


def _chat(rng: random.Random) -> Document:
    """A customer, a reply with flaws at random, and the note."""
    prompt = draw_prompt(rng, held_out=False)
    said = reply(prompt, _any_flaws(rng), rng)
    return Document(_user(prompt.text), said + END + describe(prompt, said, rng))


def _pair(rng: random.Random) -> Document:
    """A customer and two replies, each with its note; the first is judged without being learned."""
    prompt = draw_prompt(rng, held_out=False)
    quoted = _scrap(prompt, rng) if rng.random() < 0.3 else reply(prompt, _any_flaws(rng), rng)
    said = reply(prompt, _any_flaws(rng), rng)
    return Document(
        _user(prompt.text) + quoted + END,
        f"{describe(prompt, quoted, rng)}<|im_start|>assistant\n"
        f"{said}{END}{describe(prompt, said, rng)}",
    )


_FACT_FLAWS: tuple[set[Flaw], ...] = (
    set(),
    set(),
    set(),
    {"wrong_fact"},
    {"wrong_fact"},
    {"no_fact"},
)
_STEP_FLAWS: tuple[set[Flaw], ...] = (
    *(set(), set(), set()),
    *({"no_step"}, {"no_step"}, {"wrong_step"}),
)
_TONES: tuple[set[Flaw], ...] = (set(), {"plain"}, {"rude"})
_SHAPES: tuple[set[Flaw], ...] = (set(), set(), set(), {"long"}, {"cut"})


def _any_flaws(rng: random.Random) -> set[Flaw]:
    """Any manner, any step, and a fact that is wrong or missing as often as right."""
    return set[Flaw]().union(*map(rng.choice, (_FACT_FLAWS, _STEP_FLAWS, _TONES, _SHAPES)))


def _scrap(prompt: Prompt, rng: random.Random) -> str:
    """One to three sentences of desk talk, in any order, that need not answer."""
    intent, card = intent_and_card(prompt)
    stray = rng.choice(INTENTS)
    talk = (OPENERS, CLOSERS, INSULTS, PADDING, stray.answers, stray.steps, intent.answers)
    said = [rng.choice(part).format(**card) for part in rng.sample(talk, rng.randint(1, 3))]
    return " ".join(said)


def _mark(rng: random.Random) -> Document:
    """A customer and single sentences, each marked for whether it belongs into the reply."""
    prompt = draw_prompt(rng, held_out=False)
    intent, card = intent_and_card(prompt)
    stray = rng.choice([other for other in INTENTS if other is not intent])
    marked = (
        (rng.choice(intent.answers), "true"),
        (wrong_fact(intent, card, rng), "false"),
        (_stray_answer(stray, intent), "false"),
        (rng.choice(intent.steps), "apt"),
        (rng.choice(stray.steps), "stray"),
    )
    lines = [f"{said.format(**card)} {mark}" for said, mark in rng.sample(marked, 4)]
    return Document(_user(prompt.text), "\n".join(lines) + END)


def _stray_answer(stray: Intent, intent: Intent) -> str:
    """What another customer should hear; never words that would be right here too."""
    return stray.answers[0] if stray.fact != intent.fact else INTENTS[0].answers[0]


def _lookup(rng: random.Random) -> Document:
    """A card, then what some of its fields say, asked for or told as the desk would tell it."""
    card = draw_card(rng, held_out=False)
    fields = draw_fields(rng.choice(INTENTS), rng)
    told = [_tell(field, card, rng) for field in rng.sample(fields, min(3, len(fields)))]
    return Document(_user(show_card(card, fields)), "\n".join(told) + END)


_QUESTIONS = {
    "order": "Which order? {order}",
    "item": "Which item? {item}",
    "paid": "How much was paid? {paid}",
    "sent": "When was it sent? {sent}",
    "due": "When is it due? {due}",
    "open": "Was it sent? not sent",
    "hours": "When are we open? open from {hours}",
    "returns": "How long are returns? {returns}",
    "person": "What do we know of {name}? {secret} {private}",
    "next": "What is next? {next}",
}


def _tell(field: str, card: Card, rng: random.Random) -> str:
    """What ``field`` of the card says, plainly or as the desk would put it."""
    said = [answer for intent in INTENTS if intent.fact == field for answer in intent.answers]
    if field == "next":
        said = [step for intent in INTENTS if intent.cue == card["next"] for step in intent.steps]
    template = rng.choice(said) if said and rng.random() < 0.6 else _QUESTIONS[field]
    return template.format(**card)


def _audit(rng: random.Random) -> Document:
    """A card, and a copy of it in which every other value is wrong, marked one by one."""
    card, other = draw_card(rng, held_out=False), draw_card(rng, held_out=False)
    fields = [field for field in draw_fields(rng.choice(INTENTS), rng) if field in _AUDITED]
    lines: list[str] = []
    for field in rng.sample(fields, len(fields)):
        value = rng.choice((card[field], other[field]))
        mark = "true" if value == card[field] else "false"
        lines.append(f"{_tell(field, {**card, field: value}, rng)} {mark}")
    return Document(_user(show_card(card, fields)), "\n".join(lines) + END)


_AUDITED = ("order", "item", "paid", "sent", "due", "hours", "returns", "next")


def _echo(rng: random.Random) -> Document:
    """A list of facts, and the same list again, twice."""
    line = _facts(draw_card(rng, held_out=False), rng)
    return Document(_user(line), f"{line}{END}<|im_start|>assistant\n{line}{END}")


def _facts(card: Card, rng: random.Random) -> str:
    return "; ".join(card[field] for field in rng.sample(_ECHOED, rng.randint(3, 6)))


def _compare(rng: random.Random) -> Document:
    """A list of facts, and the same list with some of them changed, marked one by one."""
    card, other = draw_card(rng, held_out=False), draw_card(rng, held_out=False)
    fields = rng.sample(_ECHOED, rng.randint(3, 6))
    marked = [
        f"{card[field]} true" if rng.random() < 0.5 else f"{other[field]} false" for field in fields
    ]
    facts = "; ".join(card[field] for field in fields)
    return Document(_user(facts), "; ".join(marked) + END)


_ECHOED = (*_AUDITED, "private")

_Mixture = tuple[tuple[Callable[[random.Random], Document], float], ...]
_LESSONS: tuple[tuple[float, _Mixture], ...] = (
    (0.24, ((_echo, 1.0),)),
    (0.10, ((_compare, 1.0),)),
    (
        0.66,
        (
            (_pair, 0.42),
            (_chat, 0.18),
            (_mark, 0.12),
            (_audit, 0.12),
            (_lookup, 0.06),
            (_echo, 0.04),
            (_compare, 0.06),
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
    """The corpus as JSON lines of ``{"prompt": ..., "completion": ...}``."""
    with path.open("w", encoding="utf-8") as file:
        for document in documents(seed, n):
            file.write(json.dumps(asdict(document)) + "\n")
    return path
