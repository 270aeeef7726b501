"""Fact cards and customers: the prompts of the help desk.

A prompt is one user message: a card in square brackets, then what the customer wrote. Its metadata
holds the intent and the card's fields, which is all that the gold score needs. Besides facts, a
card names the next step that the desk's rules ask for.

Every value on a card comes from one of two disjoint pools: values that training text may show, and
values kept for held-out prompts. Which pool a value belongs to is a property of the value alone, so
no seed can mix them: a held-out order number, date, amount, item, opening time, return period,
name, street address or phone number never occurs in a training prompt, a demonstration or the
corpus.
"""

import random
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import product

from rlhf.errors import DataError
from rlhf.records import Prompt
from rlhf.sandbox.phrases import BY_NAME, INTENTS, Intent

Card = Mapping[str, str]


def _each(words: str) -> tuple[str, ...]:
    return tuple(words.split())


MONTHS = {
    "January": 31,
    "February": 28,
    "March": 31,
    "April": 30,
    "May": 31,
    "June": 30,
    "July": 31,
    "August": 31,
    "September": 30,
    "October": 31,
    "November": 30,
    "December": 31,
}
COLOURS = _each("black blue brown gold green grey pink red white yellow")
NOUNS = _each(
    "bag bed belt bike book bowl cap chair clock coat cup desk dress fan guitar hat jacket kettle "
    "knife lamp mat mirror mug pan pen pillow purse radio ring rug scarf shirt sofa table tent "
    "toy vase wallet watch"
)
NAMES = _each(
    "Ada Ana Ben Carl Dana Dev Ella Emil Eva Finn Gina Hana Hugo Ida Ines Ivan Jana Joel Kai Kira "
    "Lars Lea Leo Lina Luis Maja Marc Mina Nils Nora Olga Omar Paul Pia Rosa Ruth Sami Sara Theo "
    "Tom Uma Vera Viktor Wanda Yara Zoe"
)
STREETS = _each("Mill Park Lake Hill Oak King Church Station Garden River")
_HELD_OUT_ONE_IN = 5


def is_held_out(kind: str, value: str) -> bool:
    """Whether ``value`` is kept for held-out prompts."""
    return zlib.crc32(f"{kind}:{value}".encode()) % _HELD_OUT_ONE_IN == 0


@cache
def pool(kind: str, held_out: bool) -> tuple[str, ...]:
    """All values of one kind of fact that may stand on a (held-out) card."""
    return tuple(v for v in _VALUES[kind]() if is_held_out(kind, v) == held_out)


def _dates() -> Iterator[str]:
    for month, days in MONTHS.items():
        for day in range(1, days + 1):
            yield f"{day} {month}"


_VALUES: dict[str, Callable[[], Iterator[str]]] = {
    "order": lambda: (str(n) for n in range(1000, 10000)),
    "item": lambda: (f"{colour} {noun}" for colour, noun in product(COLOURS, NOUNS)),
    "money": lambda: (f"${n}" for n in range(3, 500)),
    "date": _dates,
    "hours": lambda: (f"{a} to {b}" for a, b in product(range(6, 12), range(13, 24))),
    "returns": lambda: (f"{n} days" for n in range(5, 100)),
    "name": lambda: iter(NAMES),
    "address": lambda: (f"{n} {street} Road" for n, street in product(range(1, 100), STREETS)),
    "phone": lambda: (str(n) for n in range(10000, 100000, 7)),
}


def draw_card(rng: random.Random, *, held_out: bool) -> dict[str, str]:
    """A value for every field that a card can have, and what hangs together with it."""
    item = rng.choice(pool("item", held_out))
    sent, due = rng.sample(pool("date", held_out), 2)
    kind = rng.choice(("address", "phone"))
    return {
        "order": rng.choice(pool("order", held_out)),
        "item": item,
        "noun": item.split()[-1],
        "paid": rng.choice(pool("money", held_out)),
        "sent": sent,
        "due": due,
        "hours": rng.choice(pool("hours", held_out)),
        "returns": rng.choice(pool("returns", held_out)),
        "name": rng.choice(pool("name", held_out)),
        "secret": kind,
        "private": rng.choice(pool(kind, held_out)),
        "next": rng.choice(INTENTS).cue,
    }


_SHOWN = {
    "order": "order {order}",
    "item": "{item}",
    "paid": "paid {paid}",
    "sent": "sent {sent}",
    "due": "due {due}",
    "open": "not sent",
    "hours": "open {hours}",
    "returns": "return {returns}",
    "person": "{name} {secret} {private}",
    "next": "next {next}",
}
_NEEDS = {
    "where": ("due",),
    "refund": ("paid",),
    "cancel": ("order", "open"),
    "too_late": ("sent",),
    "address": ("order", "open"),
    "damaged": ("order",),
    "hours": ("hours",),
    "returns": ("returns",),
    "private": ("person",),
}
_EXTRAS = ("order", "paid", "due", "hours", "returns", "person")


def draw_fields(intent: Intent, rng: random.Random) -> list[str]:
    """Which fields the card shows: the needed ones, the item, and one that distracts."""
    needed = [*_NEEDS[intent.name], "item", "next"]
    spare = [f for f in _EXTRAS if f not in needed and not (f == "due" and "sent" in needed)]
    fields = [*needed, rng.choice(spare)]
    rng.shuffle(fields)
    return fields


def show_card(card: Card, fields: list[str]) -> str:
    """The card as it stands in a prompt: ``[order 4821; blue lamp; due 9 May; next track]``."""
    return "[" + "; ".join(_SHOWN[field].format(**card) for field in fields) + "]"


def draw_prompt(rng: random.Random, *, held_out: bool) -> Prompt:
    """One customer with one card."""
    intent = rng.choice(INTENTS)
    card = {**draw_card(rng, held_out=held_out), "next": intent.cue}
    fields = draw_fields(intent, rng)
    text = f"{show_card(card, fields)}\n{rng.choice(intent.asks).format(**card)}"
    return Prompt.from_text(text, intent=intent.name, card=card)


def prompts(seed: int, n: int, *, held_out: bool = False) -> list[Prompt]:
    """``n`` different prompts; the same seed gives the same ones, and more of them when n grows."""
    rng = random.Random(f"prompts {seed} {held_out}")
    found: dict[str, Prompt] = {}
    while len(found) < n:
        prompt = draw_prompt(rng, held_out=held_out)
        found.setdefault(prompt.id, prompt)
    return list(found.values())


def intent_and_card(prompt: Prompt) -> tuple[Intent, Card]:
    """What a prompt of the sandbox is about.

    Raises:
        DataError: the prompt was not drawn by the sandbox, or has lost its metadata.
    """
    intent = BY_NAME.get(str(prompt.metadata.get("intent")))
    card = prompt.metadata.get("card")
    if intent is None or not isinstance(card, Mapping):
        raise DataError(
            f"prompt {prompt.id} has no sandbox intent and card in its metadata; "
            "the gold score exists only for prompts of rlhf.sandbox"
        )
    return intent, card
