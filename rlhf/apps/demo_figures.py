"""What the demo found: every policy by the gold score, and the reward model beside its bounds."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rlhf.evaluate.floors import Floors
from rlhf.evaluate.intervals import Estimate
from rlhf.evaluate.reward import Audit, audit
from rlhf.evaluate.winrate import gain, shares, win_rate
from rlhf.model.scorer import load_scorer
from rlhf.records import Preference
from rlhf.report import Case
from rlhf.sandbox.measure import Measured, best_constant, measure
from rlhf.sandbox.staff import ideal

KL_BUDGET = 5.0
"""Nats per response that PPO may go from SFT."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One way of answering, beside the SFT policy on the same prompts."""

    name: str
    gold: float
    gain: Estimate
    """Mean gold score above SFT's, paired by prompt."""
    wins: Estimate
    """Win rate over SFT by the gold score; equal scores count a half."""
    kl: float | None
    """Nats per response from SFT; None for what is not a model."""
    num_words: float
    wrong_fact_rate: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that the demo's tables show."""

    num_prompts: int
    num_samples: int
    """Responses to each prompt; intervals are clustered by prompt."""
    standings: tuple[Standing, ...]
    """SFT, the aligned policies, the scripted ideal, and what needs no learning."""
    ceiling: float
    """How often who knows the gold score, but neither voter nor luck, predicts a settled vote."""
    audit: Audit
    """The reward model and the floors on the same comparisons."""

    def to_json(self) -> dict[str, Any]:
        """For ``figures.json``."""
        return asdict(self)


def standings(
    cases: Sequence[Case], names: Sequence[str], constant: str, num_samples: int
) -> tuple[Standing, ...]:
    """Every way of answering, from the responses of a compare run whose first policy is SFT."""
    prompts = [case.prompt for case in cases]
    said = {name: [case.answers[i].text for case in cases] for i, name in enumerate(names)}
    groups = [
        said[names[0]][start : start + num_samples] for start in range(0, len(cases), num_samples)
    ]
    shortest = [text for group in groups for text in [min(group, key=len)] * num_samples]
    longest = [text for group in groups for text in [max(group, key=len)] * num_samples]
    said |= {
        "scripted ideal": [ideal(prompt) for prompt in prompts],
        "best constant reply": [constant] * len(prompts),
        f"shortest of {num_samples}": shortest,
        f"longest of {num_samples}": longest,
    }
    measured = [measure(name, prompts, texts) for name, texts in said.items()]
    kl = {name: fmean(case.answers[i].kl or 0.0 for case in cases) for i, name in enumerate(names)}
    ids = [prompt.id for prompt in prompts]
    return tuple(_standing(one, measured[0], ids, kl.get(one.name)) for one in measured)


def _standing(one: Measured, sft: Measured, prompts: Sequence[str], kl: float | None) -> Standing:
    return Standing(
        name=one.name,
        gold=one.mean_gold,
        gain=gain(one.gold, sft.gold, prompts),
        wins=win_rate(shares(one.gold, sft.gold), prompts),
        kl=kl,
        num_words=one.num_words,
        wrong_fact_rate=one.wrong_fact_rate,
    )


def constant_reply(cases: Sequence[Case], candidates: Sequence[str]) -> str:
    """The candidate that would do best if everybody were told the same, on these very prompts."""
    prompts = list({case.prompt.id: case.prompt for case in cases}.values())
    return best_constant(prompts[:_CONSTANT_PROMPTS], candidates[:_CONSTANT_CANDIDATES])


_CONSTANT_PROMPTS = 150
_CONSTANT_CANDIDATES = 300


def reward_audit(run: Path, pairs: Sequence[Preference], train: Sequence[Preference]) -> Audit:
    """The reward run and the floors on held-out comparisons."""
    scorer = load_scorer(run)
    prompts = [pair.prompt for pair in pairs]
    chosen = scorer.score(prompts, [pair.chosen for pair in pairs])
    rejected = scorer.score(prompts, [pair.rejected for pair in pairs])
    return audit(chosen, rejected, pairs, Floors.fitted(train))


def policy_table(found: Figures) -> str:
    """The policies, as Markdown."""
    lines = [
        f"{found.num_prompts} held-out prompts (simulated), {found.num_samples} responses to each "
        "at temperature 1:",
        "",
        "| policy | gold score | gain over SFT | wins over SFT, % | KL | words | wrong facts, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for s in found.standings:
        own = s is found.standings[0]
        gains = "" if own else _interval(s.gain, 1, "+.3f")
        wins = "" if own else _interval(s.wins, 100, ".1f")
        kl = "" if s.kl is None else f"{s.kl:.1f}"
        lines.append(
            f"| {s.name} | {s.gold:.3f} | {gains} | {wins} | {kl} | {s.num_words:.1f} | "
            f"{100 * s.wrong_fact_rate:.1f} |"
        )
    return "\n".join(lines)


def budget_line(found: Figures) -> str:
    """How far PPO went from SFT, and how far it may."""
    [ppo] = [s for s in found.standings if s.name == "ppo"]
    assert ppo.kl is not None
    side = "within" if ppo.kl <= KL_BUDGET else "above"
    return (
        f"PPO's KL, {ppo.kl:.1f} nats per response, is {side} its budget of {KL_BUDGET:.0f}: as "
        f"far as the best of {math.exp(KL_BUDGET + 1):.0f} samples."
    )


def reward_lines(found: Figures) -> str:
    """The reward model between floors and ceiling, in two sentences."""
    model, *floors = found.audit.judges
    beneath = ", ".join(f"{floor.name} {100 * floor.accuracy.value:.1f} %" for floor in floors)
    return (
        f"On {found.audit.num_pairs} held-out comparisons that the panel settled, the reward model "
        f"is right in {_interval(model.accuracy, 100, '.1f')} %: "
        f"{model.accuracy.value / found.ceiling:.1%} of the panel's own ceiling, "
        f"{100 * found.ceiling:.1f} %. Floors: {beneath}."
    )


def _interval(estimate: Estimate, scale: float, form: str) -> str:
    value, low, high = (scale * x for x in (estimate.value, estimate.low, estimate.high))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"
