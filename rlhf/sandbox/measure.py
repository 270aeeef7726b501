"""What replies to the sandbox's customers are worth, and what can be had without any learning."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from rlhf.records import Prompt, from_json
from rlhf.sandbox.gold import gold


@dataclass(frozen=True, slots=True)
class Measured:
    """One way of answering, on the same prompts as the others."""

    name: str
    texts: tuple[str, ...]
    gold: tuple[float, ...]
    """Gold score of each reply."""
    wrong_fact_rate: float
    """Share of the replies that name a wrong fact or give a secret away."""
    num_words: float
    """Mean length of a reply."""

    @property
    def mean_gold(self) -> float:
        """Mean gold score."""
        return fmean(self.gold)


def measure(name: str, prompts: Sequence[Prompt], texts: Sequence[str]) -> Measured:
    """Score one reply for each prompt."""
    scored = [gold(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
    return Measured(
        name=name,
        texts=tuple(texts),
        gold=tuple(score.total for score in scored),
        wrong_fact_rate=1 - fmean(score.no_wrong_fact for score in scored),
        num_words=fmean(len(text.split()) for text in texts),
    )


def best_constant(prompts: Sequence[Prompt], candidates: Iterable[str]) -> str:
    """The candidate with the highest mean gold score if everybody is told the same."""
    found = sorted(set(candidates))
    return max(found, key=lambda text: fmean(gold(prompt, text).total for prompt in prompts))


def gold_score(
    prompts: Sequence[object],  # noqa: ARG001 - the signature of rewards
    completions: Sequence[Sequence[Mapping[str, str]]],
    record: Sequence[str],
    **_: object,
) -> list[float]:
    """The gold score as a reward, for prompts that come with their ``record`` as JSON.

    Raises:
        DataError: a prompt is not one of the sandbox.
    """
    asked = [from_json(Prompt, json.loads(text)) for text in record]
    replies = [turns[-1]["content"] for turns in completions]
    return [gold(prompt, reply).total for prompt, reply in zip(asked, replies, strict=True)]
