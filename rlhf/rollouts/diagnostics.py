"""What is known to go wrong with PPO, seen in its metrics and said in plain words."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import fmean

Metrics = Mapping[str, float]
"""One line of the log: the means since the line before."""

_WINDOW = 5
"""Lines that are averaged, so that one noisy rollout raises no alarm."""


@dataclass(slots=True)
class _Metric:
    """The first and the last few values of a metric, however many there were."""

    count: int = 0
    first: list[float] = field(default_factory=list[float])
    last: deque[float] = field(default_factory=lambda: deque[float](maxlen=_WINDOW))

    def add(self, value: float) -> None:
        self.count += 1
        self.last.append(value)
        if len(self.first) < _WINDOW:
            self.first.append(value)

    @property
    def ends(self) -> tuple[float, float]:
        """Means over the first values and over the last; the same where there are too few."""
        if self.count < 2 * _WINDOW:
            return 1.0, 1.0
        return fmean(self.first), fmean(self.last)


class Diagnostics:
    """Reads the log line by line, and names each known trouble once; most runs have none."""

    def __init__(self) -> None:
        self._seen: dict[str, _Metric] = {}
        self._named: set[str] = set()

    def add(self, line: Metrics) -> list[str]:
        """A sentence, with what helps, for each trouble that ``line`` is the first to show."""
        for name, value in line.items():
            self._seen.setdefault(name, _Metric()).add(value)
        found: list[str] = []
        for name, check in _CHECKS.items():
            if name not in self._named and (sentence := check(self._seen)):
                self._named.add(name)
                found.append(sentence)
        return found


Seen = Mapping[str, _Metric]


def _first_ratio(seen: Seen) -> str | None:
    ratio = seen["policy/first_ratio"].last[-1] if "policy/first_ratio" in seen else 1.0
    if ratio < _MOST_FIRST_RATIO:
        return None
    return (
        f"the first update of a rollout already finds probability ratios of {ratio:.2f}: the "
        "trainer computes other logprobs than the sampler; look for dropout or another dtype"
    )


def _sampler_apart(seen: Seen) -> str | None:
    apart = fmean(seen["sampling/kl"].last) if "sampling/kl" in seen else 0.0
    if apart < _MOST_SAMPLING_KL:
        return None
    return (
        f"sampler and trainer disagree by {apart:.3f} nats per token: samples come from "
        "another policy than the one that learns; see that vLLM serves the same base as stored "
        "here and says processed logprobs (--logprobs-mode processed_logprobs)"
    )


def _far_from_reference(seen: Seen) -> str | None:
    before, now = _ends(seen, "objective/kl")
    if now < _HIGH_KL or now < 2 * before:
        return None
    return (
        f"the KL from the reference has gone from {before:.1f} to {now:.1f} nats per response and "
        "grows: the reward model is being exploited; raise kl_coef, or set kl_target"
    )


def _longer_not_better(seen: Seen) -> str | None:
    before, now = _ends(seen, "response_length")
    worse, better = _ends(seen, "objective/scores")
    if now < _LONGER * before or better - worse > _NO_BETTER * (abs(worse) + 1):
        return None
    return (
        f"responses have grown from {before:.0f} to {now:.0f} tokens while the score stands at "
        f"{better:.2f}; look at samples, and set overlong_buffer or raise missing_eos_penalty"
    )


def _value_learns_nothing(seen: Seen) -> str | None:
    explained = seen.get("val/explained_variance", _Metric())
    if explained.count < 3 * _WINDOW or fmean(explained.last) > 0:
        return None
    return (
        f"the value explains nothing (explained variance {fmean(explained.last):.2f}); raise "
        "value_learning_rate or value_warmup_rollouts"
    )


def _not_judged(seen: Seen) -> str | None:
    share = fmean(seen["not_judged"].last) if "not_judged" in seen else 0.0
    if share < _MANY_NOT_JUDGED:
        return None
    return (
        f"{share:.0%} of the responses are not judged (the reward gave None or NaN), and nothing "
        "is learnt from them; see that the reward can judge what the policy says"
    )


def _no_entropy(seen: Seen) -> str | None:
    before, now = _ends(seen, "objective/entropy")
    if now > _COLLAPSED * before:
        return None
    return (
        f"entropy has fallen from {before:.2f} to {now:.2f} nats: the policy says the same to "
        "everybody; raise kl_coef, or lower learning_rate"
    )


_MOST_FIRST_RATIO = 1.2
_MOST_SAMPLING_KL = 0.02
"""Nats per token; tinker-cookbook finds training stable below half of it."""
_MANY_NOT_JUDGED = 0.5
_HIGH_KL, _LONGER, _NO_BETTER, _COLLAPSED = 15.0, 1.5, 0.05, 0.1

_CHECKS: dict[str, Callable[[Seen], str | None]] = {
    "first ratio": _first_ratio,
    "sampler": _sampler_apart,
    "KL": _far_from_reference,
    "length": _longer_not_better,
    "value": _value_learns_nothing,
    "entropy": _no_entropy,
    "not judged": _not_judged,
}


def _ends(seen: Seen, name: str) -> tuple[float, float]:
    return seen.get(name, _Metric()).ends
