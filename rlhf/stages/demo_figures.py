"""What the demo found: every policy by the gold score, and the reward model beside its bounds."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from rlhf.chat import decode_response
from rlhf.evaluate.intervals import Estimate
from rlhf.evaluate.reward import Audit, audit
from rlhf.evaluate.winrate import gain, shares, win_rate
from rlhf.model.generate import Sampling
from rlhf.model.load import load_tokenizer
from rlhf.model.policies import load_policies
from rlhf.model.scorer import load_scorer
from rlhf.records import Preference, Prompt
from rlhf.runs import open_run
from rlhf.sandbox.measure import Measured, baselines, best_constant, measure

SAMPLES = 4
"""Replies of the SFT policy to each prompt, of which the shortest and the longest are picked."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One way of answering, beside the SFT policy on the same prompts."""

    name: str
    gold: float
    gain: Estimate
    """Mean gold score above SFT's, paired by prompt."""
    wins: Estimate
    """Win rate over SFT by the gold score."""
    kl: float | None
    """Nats per response from SFT; None for what is not a model."""
    num_words: float
    wrong_fact_rate: float


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that the demo's tables show."""

    num_prompts: int
    standings: tuple[Standing, ...]
    ceiling: float
    """How often who knows the gold score, but neither voter nor luck, predicts a settled vote."""
    audit: Audit
    """The reward model and the floors on the same comparisons."""

    def to_json(self) -> dict[str, Any]:
        """For ``figures.json``."""
        return asdict(self)


def standings(
    runs: Sequence[Path], prompts: Sequence[Prompt], sampling: Sampling, candidates: Sequence[str]
) -> tuple[Standing, ...]:
    """SFT, which is the first of ``runs``, the aligned policies, and what needs no learning.

    ``candidates`` are the replies of which the best constant one is picked.
    """
    policies = load_policies(runs)
    reference, *aligned = policies.names
    tokenizer = load_tokenizer(str(open_run(runs[0]).tokenizer))

    def draw(name: str, number: int) -> list[list[int]]:
        seed = None if sampling.seed is None else sampling.seed + number
        again = Sampling(sampling.max_new_tokens, sampling.temperature, seed)
        return policies.sample(name, prompts, again)

    def texts(ids: list[list[int]]) -> list[str]:
        return [decode_response(tokenizer, row) for row in ids]

    drawn = [texts(draw(reference, number)) for number in range(SAMPLES)]
    sft = measure(reference, prompts, drawn[0])
    found = [_standing(sft, sft, 0.0)]
    for number, name in enumerate(aligned, start=SAMPLES):
        ids = draw(name, number)
        kl = fmean(policies.kl(name, reference, prompts, ids))
        found.append(_standing(measure(name, prompts, texts(ids)), sft, kl))
    constant = best_constant(prompts, candidates)
    others = baselines(prompts, list(zip(*drawn, strict=True)), constant)
    return (*found, *(_standing(one, sft, None) for one in others))


def _standing(one: Measured, sft: Measured, kl: float | None) -> Standing:
    return Standing(
        name=one.name,
        gold=one.mean_gold,
        gain=gain(one.gold, sft.gold),
        wins=win_rate(shares(one.gold, sft.gold)),
        kl=kl,
        num_words=one.num_words,
        wrong_fact_rate=one.wrong_fact_rate,
    )


def reward_audit(run: Path, pairs: Sequence[Preference], train: Sequence[Preference]) -> Audit:
    """The reward run and the floors on held-out comparisons."""
    scorer = load_scorer(run)
    prompts = [pair.prompt for pair in pairs]
    chosen = scorer.score(prompts, [pair.chosen for pair in pairs])
    rejected = scorer.score(prompts, [pair.rejected for pair in pairs])
    return audit(chosen, rejected, pairs, train)


def policy_table(found: Figures) -> str:
    """The policies, as Markdown."""
    lines = [
        f"Simulated customers, {found.num_prompts} held-out prompts, sampled at temperature 1:",
        "",
        "| policy | gold score | gain over SFT | wins over SFT % | KL | words | wrong facts % |",
        "|---|---|---|---|---|---|---|",
    ]
    for s in found.standings:
        gains = "" if s.kl == 0 else _interval(s.gain, 1, "+.3f")
        wins = "" if s.kl == 0 else _interval(s.wins, 100, ".1f")
        kl = "" if s.kl is None else f"{s.kl:.1f}"
        lines.append(
            f"| {s.name} | {s.gold:.3f} | {gains} | {wins} | {kl} | {s.num_words:.1f} | "
            f"{100 * s.wrong_fact_rate:.1f} |"
        )
    return "\n".join(lines)


def reward_lines(found: Figures) -> str:
    """The reward model between floors and ceiling, as Markdown."""
    model = found.audit.judges[0].accuracy
    lines = [
        f"Reward model on {found.audit.num_pairs} held-out comparisons that the panel settled: "
        f"accuracy {_interval(model, 100, '.1f')} %, {model.value / found.ceiling:.1%} of the "
        f"panel's own ceiling of {100 * found.ceiling:.1f} %.",
        "Floors: "
        + ", ".join(f"{j.name} {100 * j.accuracy.value:.1f} %" for j in found.audit.judges[1:]),
    ]
    return "\n".join(lines)


def _interval(estimate: Estimate, scale: float, form: str) -> str:
    value, low, high = (scale * x for x in (estimate.value, estimate.low, estimate.high))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"
