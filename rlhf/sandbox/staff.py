"""Who answers at the help desk: a scripted ideal, and a mixed staff with its flaws.

Demonstrations come from the staff, so a policy that imitates them well is mediocre, as in life.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rlhf.records import Demonstration, Message, Prompt
from rlhf.sandbox.phrases import CLOSERS, INSULTS, INTENTS, OPENERS, PADDING, Intent
from rlhf.sandbox.world import Card, draw_card, intent_and_card

Flaw = Literal["plain", "rude", "no_fact", "wrong_fact", "no_step", "wrong_step", "long", "cut"]


@dataclass(frozen=True, slots=True)
class Clerk:
    """One of the staff, and how often each flaw is in this one's replies."""

    name: str
    share: float
    """Of all demonstrations."""
    flaws: Mapping[Flaw, float]

    def habits(self, rng: random.Random) -> set[Flaw]:
        """The flaws of one reply; nobody says nothing at all."""
        flaws: set[Flaw] = {flaw for flaw, chance in self.flaws.items() if rng.random() < chance}
        return flaws - {"no_step"} if "no_fact" in flaws else flaws


STAFF = (
    Clerk("ideal", 0.20, {}),
    Clerk("curt", 0.18, {"plain": 1.0, "no_step": 0.8, "no_fact": 0.3, "wrong_fact": 0.1}),
    Clerk("wrong", 0.20, {"wrong_fact": 1.0, "plain": 0.3, "no_step": 0.2}),
    Clerk("verbose", 0.14, {"long": 1.0, "wrong_fact": 0.1, "no_fact": 0.3, "plain": 0.3}),
    Clerk("careless", 0.14, {"cut": 0.7, "no_step": 0.6, "wrong_fact": 0.1, "plain": 0.3}),
    Clerk("rude", 0.14, {"rude": 1.0, "no_step": 0.4, "no_fact": 0.2, "wrong_fact": 0.1}),
)


def ideal(prompt: Prompt) -> str:
    """The scripted ideal reply: courteous, right fact or refusal, one step, short, finished."""
    return reply(prompt, set(), random.Random(f"ideal {prompt.id}"))


def reply(prompt: Prompt, flaws: set[Flaw], rng: random.Random) -> str:
    """One reply with exactly these flaws."""
    intent, card = intent_and_card(prompt)
    opener, closer = _frame(flaws, rng)
    sentences = [opener, _fact(intent, card, flaws, rng), _step(intent, card, flaws, rng), closer]
    if "long" in flaws:
        before, after = rng.sample(PADDING, 2)
        sentences[1:1] = [before]
        sentences[-1:-1] = [after]
    text = " ".join(sentence for sentence in sentences if sentence)
    return _cut(text, rng) if "cut" in flaws else text


def _frame(flaws: set[Flaw], rng: random.Random) -> tuple[str, str]:
    """What stands before and after the substance: courtesy, an insult or nothing."""
    if "rude" in flaws:
        insult = rng.choice(INSULTS)
        return (insult, "") if rng.random() < 0.5 else ("", insult)
    if "plain" in flaws:
        return "", ""
    return [
        (rng.choice(OPENERS), ""),
        ("", rng.choice(CLOSERS)),
        (rng.choice(OPENERS), rng.choice(CLOSERS)),
    ][rng.randrange(3)]


def _fact(intent: Intent, card: Card, flaws: set[Flaw], rng: random.Random) -> str:
    if "wrong_fact" in flaws:
        return wrong_fact(intent, card, rng)
    if "no_fact" in flaws:
        return ""
    return rng.choice(intent.answers).format(**card)


def wrong_fact(intent: Intent, card: Card, rng: random.Random) -> str:
    """The answer with a value that is not the right one; a secret where it should be refused."""
    if not intent.fact:
        return f"The {card['secret']} of {card['name']} is {card['private']}."
    other = draw_card(rng, held_out=False)
    if other[intent.fact] == card[intent.fact]:
        return wrong_fact(intent, card, rng)
    return rng.choice(intent.answers).format(**{**card, intent.fact: other[intent.fact]})


def _step(intent: Intent, card: Card, flaws: set[Flaw], rng: random.Random) -> str:
    if "no_step" in flaws:
        return ""
    if "wrong_step" in flaws:
        intent = rng.choice([other for other in INTENTS if other is not intent])
    return rng.choice(intent.steps).format(**card)


def _cut(text: str, rng: random.Random) -> str:
    """Left in mid-sentence, somewhere after the first third."""
    words = text.split()
    ends = [n for n in range(len(words) // 3 + 1, len(words)) if words[n - 1][-1].isalnum()]
    return " ".join(words[: rng.choice(ends)]) if ends else text.rstrip(".!?")


def staff_reply(prompt: Prompt, rng: random.Random) -> tuple[Clerk, str]:
    """A reply by one of the staff, drawn by share."""
    [clerk] = rng.choices(STAFF, [clerk.share for clerk in STAFF])
    return clerk, reply(prompt, clerk.habits(rng), rng)


def demonstrations(prompts: Sequence[Prompt], seed: int) -> list[Demonstration]:
    """One staff reply for each prompt; the clerk's name is in the metadata."""
    found: list[Demonstration] = []
    for prompt in prompts:
        clerk, text = staff_reply(prompt, random.Random(f"staff {seed} {prompt.id}"))
        messages = (*prompt.messages, Message("assistant", text))
        found.append(Demonstration(messages, {"clerk": clerk.name}))
    return found
