"""Numbers with 95 % intervals, where rows may depend on each other."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy import stats

LEVEL = 0.95
_NUM_RESAMPLES = 2000
_CHUNK = 100

Members = Sequence[tuple[Hashable, ...]]
"""For each row the one or two clusters it belongs to: its prompt, or the two texts compared."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number, its 95 % interval and the rows it is from."""

    value: float
    low: float
    high: float
    n: int


def wilson(share: float, n: float, quantile: float | None = None) -> tuple[float, float]:
    """The interval of a share of ``n`` independent trials. Wilson 1927.

    ``quantile`` is that of the normal distribution unless given.
    """
    z = float(stats.norm.ppf((1 + LEVEL) / 2)) if quantile is None else quantile
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def proportion(
    values: Sequence[float],
    members: Members | None = None,
    groups: Sequence[Hashable] | None = None,
    weights: Sequence[float] | None = None,
) -> Estimate:
    """Mean of ``values`` in [0, 1] (a tie is 0.5), by ``weights`` if they are given.

    ``groups`` are a fixed few, like longer and shorter: then it is the mean of their means. What is
    drawn, like prompts, is a matter of ``weights`` and ``members``.

    Wilson's interval at the sample size that independent rows of the same variance would have
    (Dean and Pagano 2015, sec. 2.2); rows that share a member are dependent. For 0/1 values
    without members it is Wilson's own.
    """
    share, error, clusters = _spread(values, members, groups, weights)
    independent = members is None
    quantile = None if independent else _quantile(clusters)
    # without any variance nothing is known but that each cluster agreed
    n = share * (1 - share) / error**2 if error > 0 else clusters
    low, high = wilson(share, n, quantile)
    return Estimate(share, low, high, len(values))


def mean(values: Sequence[float], members: Members | None = None) -> Estimate:
    """Mean of any values, with a t interval robust to the dependence of rows that share a member.

    With one member to a row these are clusters (Liang and Zeger 1986); with two, dyads (Aronow,
    Samii and Assenova 2015).
    """
    own = [(index,) for index in range(len(values))]
    middle, error, clusters = _spread(values, own if members is None else members)
    half = _quantile(clusters) * error
    return Estimate(middle, middle - half, middle + half, len(values))


def bootstrap_mean(
    values: Sequence[float],
    clusters: Sequence[Hashable] | None = None,
    weights: Sequence[float] | None = None,
    seed: int = 0,
) -> Estimate:
    """Mean of ``values`` (per weight, if given) with the percentiles of a cluster bootstrap.

    Whole clusters are drawn with replacement; each row is its own without ``clusters``.
    """
    x = np.asarray(values, dtype=float)
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=float)
    names = range(len(x)) if clusters is None else clusters
    place: dict[Hashable, int] = {}
    where = np.asarray([place.setdefault(name, len(place)) for name in names])
    sums = np.bincount(where, weights=x if weights is None else x * w)
    sizes = np.bincount(where, weights=w)
    draw = np.random.default_rng(seed)
    found: list[np.ndarray] = []
    for _ in range(_NUM_RESAMPLES // _CHUNK):
        times = draw.multinomial(len(place), np.full(len(place), 1 / len(place)), size=_CHUNK)
        found.append((times @ sums) / (times @ sizes))
    low, high = np.quantile(np.concatenate(found), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(sums.sum() / sizes.sum()), float(low), float(high), len(x))


def _spread(
    values: Sequence[float],
    members: Members | None,
    groups: Sequence[Hashable] | None = None,
    weights: Sequence[float] | None = None,
) -> tuple[float, float, int]:
    """The mean (of the groups' means), its standard error, and the number of clusters."""
    w = [1.0] * len(values) if weights is None else weights
    by_group: defaultdict[Hashable, list[int]] = defaultdict(list)
    for index in range(len(values)):
        by_group[None if groups is None else groups[index]].append(index)
    influence = [0.0] * len(values)
    middle = 0.0
    for indices in by_group.values():
        total = sum(w[i] for i in indices)
        average = sum(w[i] * values[i] for i in indices) / total
        middle += average / len(by_group)
        for i in indices:
            influence[i] = w[i] * (values[i] - average) / (total * len(by_group))
    alone = sum(e * e for e in influence)
    if members is None:
        return middle, sqrt(alone), len(values)
    sums: defaultdict[Hashable, float] = defaultdict(float)
    pairs: defaultdict[frozenset[Hashable], float] = defaultdict(float)
    for keys, e in zip(members, influence, strict=True):
        for key in set(keys):
            sums[key] += e
        if len(set(keys)) == 2:
            pairs[frozenset(keys)] += e
    # rows that share both members were counted twice
    shared = sum(s * s for s in sums.values()) - sum(p * p for p in pairs.values())
    correction = len(sums) / (len(sums) - 1) if len(sums) > 1 else 1.0
    return middle, sqrt(max(shared, alone) * correction), len(sums)


def _quantile(clusters: int) -> float:
    return float(stats.t.ppf((1 + LEVEL) / 2, max(clusters - 1, 1)))
