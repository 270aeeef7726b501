"""What raters gave to single responses: each policy's mean by measure, agreement, severe raters."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean, median

import numpy as np
from scipy import stats
from scipy.sparse import csr_array

from rlhf.evaluate.agreement import count_values, krippendorff_alpha
from rlhf.evaluate.intervals import LEVEL, Estimate, mean, proportion


@dataclass(frozen=True, slots=True)
class Score:
    """What one rater gave to one response by one measure: an aspect, or thumbs."""

    measure: str
    policy: str
    item: Hashable
    """The response; the same for everybody who judged it."""
    rater: str
    value: float
    seconds: float | None = None
    """From being shown to answering, by all measures together."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How one policy does by one measure."""

    policy: str
    mean: Estimate
    """Robust to raters who differ: they are the independent units. Endless for one rater."""
    gain: Estimate | None
    """Over the mean of the policies, each rater's own level apart: what tells policies apart. None
    where only raters of other policies gave the others anything."""
    raters: int


@dataclass(frozen=True, slots=True)
class Measure:
    """The policies by one measure, and how well raters agree on it."""

    name: str
    standings: tuple[Standing, ...]
    """The highest mean first."""
    alpha: Estimate | None
    """Krippendorff's, ordinal; None where too little was judged twice."""


@dataclass(frozen=True, slots=True)
class RaterScores:
    """How one rater uses the scale."""

    rater: str
    items: int
    mean: float
    kinder: Estimate | None
    """Own score minus the mean of the others' on the same response, None
    where nobody else judged any."""
    apart: float | None
    """Mean of that difference without its sign."""
    median_seconds: float | None


def measures(scores: Sequence[Score], values: Sequence[float]) -> tuple[Measure, ...]:
    """Every measure in ``scores``, in the order of its first; ``values`` are all there can be.

    Values from 0 to 1 are shares, and their intervals stay between.
    """
    return tuple(
        Measure(
            str(name),
            _standings(given, values),
            krippendorff_alpha(count_values(((s.item, s.value) for s in given), values), "ordinal"),
        )
        for name, given in _grouped(scores, lambda one: one.measure).items()
    )


def _standings(scores: Sequence[Score], values: Sequence[float]) -> tuple[Standing, ...]:
    found: list[Standing] = []
    gained = gains(scores)
    for policy, own in _grouped(scores, lambda one: one.policy).items():
        raters = len({one.rater for one in own})
        found.append(Standing(str(policy), _mean(own, values), gained.get(str(policy)), raters))
    return tuple(sorted(found, key=lambda one: (-one.mean.value, one.policy)))


def _mean(own: Sequence[Score], values: Sequence[float]) -> Estimate:
    given, members = [one.value for one in own], [(one.rater,) for one in own]
    if len(set(members)) == 1:
        return Estimate(fmean(given), -inf, inf, len(given))
    if set(values) <= {0, 0.5, 1}:
        return proportion(given, members)
    found = mean(given, members)
    low, high = max(found.low, min(values)), min(found.high, max(values))
    return Estimate(found.value, low, high, found.n)


def gains(scores: Sequence[Score]) -> dict[str, Estimate]:
    """Each policy's effect in score = rater + policy, whose effects have mean 0 over the policies.

    Least squares with a t interval robust to what a rater's scores have in common (Liang and Zeger
    1986; Cameron and Miller 2015, eq. 11, with G / (G - 1)). Endless for one rater, and where the
    effects fit every score. Empty where the scores leave them open: one policy, or two sets of
    policies without a rater in common.
    """
    policies = sorted({one.policy for one in scores})
    if len(policies) < 2:
        return {}
    names = {rater: number for number, rater in enumerate({one.rater for one in scores})}
    rater = np.asarray([names[one.rater] for one in scores], dtype=np.int64)
    x = np.asarray([[one.policy == name for name in policies] for one in scores], dtype=float)
    y = np.asarray([one.value for one in scores], dtype=float)
    count = np.bincount(rater)
    by_rater = csr_array((np.ones(len(scores)), (rater, np.arange(len(scores)))))
    x -= (by_rater @ x / count[:, None])[rater]
    y -= (by_rater @ y / count)[rater]
    if np.linalg.matrix_rank(x) < len(policies) - 1:
        return {}
    bread = np.linalg.pinv(x.T @ x)
    effect = bread @ x.T @ y
    pulls = by_rater @ (x * (y - x @ effect)[:, None]) @ bread
    clusters, free = len(names), len(scores) - len(names) - len(policies) + 1
    wide = [inf] * len(policies)
    if clusters > 1 and free > 0:
        spread = np.sqrt((pulls**2).sum(axis=0) * clusters / (clusters - 1))
        wide = (stats.t.ppf((1 + LEVEL) / 2, clusters - 1) * spread).tolist()
    return {
        name: Estimate(value, value - h, value + h, len(scores))
        for name, value, h in zip(policies, effect.tolist(), wide, strict=True)
    }


def rater_scores(scores: Sequence[Score]) -> tuple[RaterScores, ...]:
    """Every rater of ``scores``, the busiest first."""
    sums: defaultdict[Hashable, float] = defaultdict(float)
    counts: defaultdict[Hashable, int] = defaultdict(int)
    for one in scores:
        sums[one.measure, one.item] += one.value
        counts[one.measure, one.item] += 1
    found: list[RaterScores] = []
    for rater, own in _grouped(scores, lambda one: one.rater).items():
        shared = [one for one in own if counts[one.measure, one.item] > 1]
        gaps = [
            one.value
            - (sums[one.measure, one.item] - one.value) / (counts[one.measure, one.item] - 1)
            for one in shared
        ]
        seconds = {one.item: one.seconds for one in own if one.seconds is not None}
        found.append(
            RaterScores(
                rater=str(rater),
                items=len({one.item for one in own}),
                mean=fmean(one.value for one in own),
                kinder=mean(gaps, [(one.item,) for one in shared]) if gaps else None,
                apart=fmean(map(abs, gaps)) if gaps else None,
                median_seconds=median(seconds.values()) if seconds else None,
            )
        )
    return tuple(sorted(found, key=lambda one: (-one.items, one.rater)))


def _grouped(
    scores: Iterable[Score], key: Callable[[Score], Hashable]
) -> dict[Hashable, list[Score]]:
    found: defaultdict[Hashable, list[Score]] = defaultdict(list)
    for one in scores:
        found[key(one)].append(one)
    return dict(found)
