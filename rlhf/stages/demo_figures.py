"""What the demo found: every policy by the gold score, and the reward model beside its bounds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rlhf.model.generate import Sampling
from rlhf.model.policies import load_policies
from rlhf.records import Prompt
from rlhf.sandbox.measure import (
    Interval,
    baselines,
    best_constant,
    gain,
    measure,
    win_rate,
)

SAMPLES = 4
"""Replies of the SFT policy to each prompt, of which the shortest and the longest are picked."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One way of answering, beside the SFT policy on the same prompts."""

    name: str
    gold: float
    gain: Interval
    """Mean gold score above SFT's, paired by prompt."""
    wins: Interval
    """Win rate over SFT by the gold score."""
    kl: float | None
    """Nats per response from SFT; None for what is not a model."""
    num_words: float
    wrong_fact_rate: float


@dataclass(frozen=True, slots=True)
class RewardFigures:
    """How well the reward model predicts settled votes on held-out prompts."""

    num_comparisons: int
    accuracy: Interval
    ceiling: float
    """What who knows the gold score, but neither voter nor luck, would reach."""
    floors: dict[str, float]

    @property
    def of_ceiling(self) -> float:
        """Accuracy as a share of the ceiling."""
        return self.accuracy.mean / self.ceiling


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that the demo's table shows."""

    standings: tuple[Standing, ...]
    reward: RewardFigures

    def to_json(self) -> dict[str, Any]:
        """For ``figures.json``."""
        return asdict(self)


def standings(
    runs: Sequence[Path], prompts: Sequence[Prompt], sampling: Sampling, candidates: Sequence[str]
) -> tuple[Standing, ...]:
    """SFT, which is the first of ``runs``, the aligned policies, and what needs no learning.

    ``candidates`` are replies of which the best constant one is picked, on other prompts' facts.
    """
    policies = load_policies(runs)
    reference = policies.names[0]
    replies = {name: policies.sample(name, prompts, sampling) for name in policies.names}
    measured = {
        name: measure(name, prompts, policies.decode(name, r)) for name, r in replies.items()
    }
    kl = {
        name: fmean(policies.kl(name, reference, prompts, ids))
        for name, ids in replies.items()
        if name != reference
    }
    drawn = [measured[reference].texts]
    for draw in range(1, SAMPLES):
        again = Sampling(sampling.max_new_tokens, sampling.temperature, _other(sampling, draw))
        drawn.append(tuple(policies.respond(reference, prompts, again)))
    others = baselines(prompts, list(zip(*drawn, strict=True)), best_constant(prompts, candidates))
    return tuple(
        Standing(
            name=one.name,
            gold=one.mean_gold,
            gain=gain(one, measured[reference]),
            wins=win_rate(one, measured[reference]),
            kl=kl.get(one.name),
            num_words=one.num_words,
            wrong_fact_rate=one.wrong_fact_rate,
        )
        for one in [*measured.values(), *others]
    )
