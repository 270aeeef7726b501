"""What is known to go wrong with PPO, seen in its metrics and said in plain words."""

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

Metrics = Mapping[str, float]
"""One line of the log: the means since the line before."""

_WINDOW = 5
"""Lines that are averaged, so that one noisy rollout raises no alarm."""


def complaints(history: Sequence[Metrics]) -> dict[str, str]:
    """A sentence, with what helps, for each known trouble that the log shows; most runs have none.

    ``history`` is the whole log, oldest first. Each trouble is looked for in its last lines.
    """
    found = {name: check(history) for name, check in _CHECKS.items()}
    return {name: sentence for name, sentence in found.items() if sentence}


def _first_ratio(history: Sequence[Metrics]) -> str | None:
    seen = _values(history, "policy/first_ratio")
    if not seen or seen[-1] < _MOST_FIRST_RATIO:
        return None
    return (
        f"the first update of a rollout already finds probability ratios of {seen[-1]:.2f}: the "
        "trainer computes other logprobs than the sampler; look for dropout or another dtype"
    )


def _sampler_apart(history: Sequence[Metrics]) -> str | None:
    seen = _values(history, "sampling/kl")[-_WINDOW:]
    if not seen or fmean(seen) < _MOST_SAMPLING_KL:
        return None
    return (
        f"sampler and trainer disagree by {fmean(seen):.3f} nats per token: samples come from "
        "another policy than the one that learns; see that vLLM serves the same base as stored "
        "here and says processed logprobs (--logprobs-mode processed_logprobs)"
    )


def _far_from_reference(history: Sequence[Metrics]) -> str | None:
    before, now = _ends(history, "objective/kl")
    if now < _HIGH_KL or now < 2 * before:
        return None
    return (
        f"the KL from the reference has gone from {before:.1f} to {now:.1f} nats per response and "
        "grows: the reward model is being exploited; raise kl_coef, or set kl_target"
    )


def _longer_not_better(history: Sequence[Metrics]) -> str | None:
    before, now = _ends(history, "response_length")
    worse, better = _ends(history, "objective/scores")
    if now < _LONGER * before or better - worse > _NO_BETTER * (abs(worse) + 1):
        return None
    return (
        f"responses have grown from {before:.0f} to {now:.0f} tokens while the score stands at "
        f"{better:.2f}; look at samples, and set overlong_buffer or raise missing_eos_penalty"
    )


def _value_learns_nothing(history: Sequence[Metrics]) -> str | None:
    seen = _values(history, "val/explained_variance")
    if len(seen) < 3 * _WINDOW or fmean(seen[-_WINDOW:]) > 0:
        return None
    return (
        f"the value explains nothing (explained variance {fmean(seen[-_WINDOW:]):.2f}); raise "
        "value_learning_rate or value_warmup_steps"
    )


def _no_entropy(history: Sequence[Metrics]) -> str | None:
    before, now = _ends(history, "objective/entropy")
    if now > _COLLAPSED * before:
        return None
    return (
        f"entropy has fallen from {before:.2f} to {now:.2f} nats: the policy says the same to "
        "everybody; raise kl_coef, or lower learning_rate"
    )


_MOST_FIRST_RATIO = 1.2
_MOST_SAMPLING_KL = 0.02
"""Nats per token; tinker-cookbook finds training stable below half of it."""
_HIGH_KL, _LONGER, _NO_BETTER, _COLLAPSED = 15.0, 1.5, 0.05, 0.1

_CHECKS: dict[str, Callable[[Sequence[Metrics]], str | None]] = {
    "first ratio": _first_ratio,
    "sampler": _sampler_apart,
    "KL": _far_from_reference,
    "length": _longer_not_better,
    "value": _value_learns_nothing,
    "entropy": _no_entropy,
}


def _ends(history: Sequence[Metrics], name: str) -> tuple[float, float]:
    """Means of a metric in its first lines and in its last; the same where there are too few."""
    seen = _values(history, name)
    if len(seen) < 2 * _WINDOW:
        return 1.0, 1.0
    return fmean(seen[:_WINDOW]), fmean(seen[-_WINDOW:])


def _values(history: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [line[name] for line in history if name in line]
