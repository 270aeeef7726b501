"""The gold score: what a reply to a customer is worth, known exactly.

The score is what the reply says, times how it says it. A reply is read sentence by sentence with
regular expressions, so that any text has a score and nobody is asked.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from rlhf.records import Prompt, Response
from rlhf.sandbox.phrases import COURTESY, INTENTS, REFUSAL, RUDE, Intent
from rlhf.sandbox.world import NOUNS, Card, intent_and_card

_FACT_WEIGHT = 0.6
_STEP_WEIGHT = 0.4
_WRONG_FACT_FACTOR = 0.5
"""A reply that misleads is worth less than one that leaves the fact out."""
_MANNER_FLOOR = 0.15
_COURTESY_WEIGHT = 0.25
_BREVITY_WEIGHT = 0.35
_FINISHED_WEIGHT = 0.25
_PLENTY = 24
"""Words that are enough for any reply; from here brevity falls."""
_TOO_LONG = 40
"""Words at which nothing is left of brevity."""

_SENTENCE = re.compile(r"[^.!?]+[.!?]*")
_NUMBER = re.compile(r"\d")
_WORD = re.compile(r"\w+")
_CHARACTERS_PER_WORD = 6
_NOUN = re.compile(rf"\b(?:{'|'.join(NOUNS)})\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Gold:
    """The gold score of one response and its parts, each from 0 to 1."""

    total: float
    right_fact: float
    """1 if a sentence states what was asked; on what must be refused, 1 if it is refused."""
    no_wrong_fact: float
    """1 unless a value or an item is named that is not the right one, or a secret given away."""
    refusal: float
    """1 if it refuses exactly where it must."""
    next_step: float
    """1 if it takes the right step and no other."""
    courtesy: float
    """1 if courteous, 0 if rude, a half if neither."""
    brevity: float
    """1 up to 24 words, then falling; repeated words count as if they were more."""
    finished: float
    """1 if the last sentence has an end."""


def gold(prompt: Prompt, response: Response | str) -> Gold:
    """Score any text as the answer to a prompt of the sandbox.

    Raises:
        DataError: the prompt is not one of the sandbox.
    """
    intent, card = intent_and_card(prompt)
    text = response if isinstance(response, str) else response.text
    refuses = REFUSAL.search(text) is not None
    refusal = float(refuses == (intent.fact == ""))
    no_wrong_fact = float(not _misleads(text, intent, card))
    right_fact = float(refuses or _states(text, intent, card)) * refusal * no_wrong_fact
    next_step = float([i.name for i in INTENTS if i.step.search(text)] == [intent.name])
    courtesy = _courtesy(text)
    brevity = _brevity(text)
    finished = float(text.rstrip().endswith((".", "!", "?")))
    content = _FACT_WEIGHT * right_fact + _STEP_WEIGHT * next_step
    if not (no_wrong_fact and refusal):
        content *= _WRONG_FACT_FACTOR
    manner = (
        _MANNER_FLOOR
        + _COURTESY_WEIGHT * courtesy
        + _BREVITY_WEIGHT * brevity
        + _FINISHED_WEIGHT * finished
    )
    return Gold(
        total=content * manner,
        right_fact=right_fact,
        no_wrong_fact=no_wrong_fact,
        refusal=refusal,
        next_step=next_step,
        courtesy=courtesy,
        brevity=brevity,
        finished=finished,
    )


def gold_scores(
    prompts: Sequence[str], completions: Sequence[str], intent: Sequence[str], card: Sequence[Card]
) -> list[float]:
    """The gold score with the signature of TRL's rewards: ``rlhf.sandbox.gold:gold_scores``."""
    rows = zip(prompts, completions, intent, card, strict=True)
    return [
        gold(Prompt.from_text(asked, intent=name, card=facts), text).total
        for asked, text, name, facts in rows
    ]


def takes_a_step(text: str) -> bool:
    """Whether ``text`` names the next step of any intent, fitting or not."""
    return any(intent.step.search(text) for intent in INTENTS)


@lru_cache(maxsize=4096)
def _value(value: str) -> re.Pattern[str]:
    """Finds ``value`` where it is not part of a longer one."""
    return re.compile(rf"(?<![\w$]){re.escape(value)}(?!\w)", re.IGNORECASE)


def _states(text: str, intent: Intent, card: Card) -> bool:
    """Whether one sentence has both the value asked for and words that give it its sense."""
    if not intent.fact:
        return False
    value = _value(card[intent.fact])
    return any(
        value.search(sentence) and intent.about.search(sentence)
        for sentence in _SENTENCE.findall(text)
    )


def _misleads(text: str, intent: Intent, card: Card) -> bool:
    """Whether a number is left when the right value and the order's own number are taken away."""
    for field in ("order", intent.fact):
        if field and intent.fact:
            text = _value(card[field]).sub(" ", text)
    nouns = {noun.lower() for noun in _NOUN.findall(text)}
    return _NUMBER.search(text) is not None or bool(nouns - {card["noun"]})


def _courtesy(text: str) -> float:
    if RUDE.search(text):
        return 0.0
    return 1.0 if COURTESY.search(text) else 0.5


def _brevity(text: str) -> float:
    words = [word.lower() for word in _WORD.findall(text)]
    trigrams = Counter(zip(words, words[1:], words[2:], strict=False))
    repeated = sum(count - 1 for count in trigrams.values())
    length = max(len(words) + 3 * repeated, len(text) / _CHARACTERS_PER_WORD)
    return min(1.0, max(0.0, (_TOO_LONG - length) / (_TOO_LONG - _PLENTY)))
