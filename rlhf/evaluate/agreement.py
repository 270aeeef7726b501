"""How well raters agree: percent, Cohen's and Fleiss' kappa, Krippendorff's alpha, with intervals.

All but Cohen's need only how often each value was given to each comparison, so any number of raters
costs the same. Comparisons are what the intervals resample; those of one task, such as the pairs of
a ranking, depend on each other and are resampled together.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from rlhf.evaluate.intervals import LEVEL, Estimate, proportion
from rlhf.records import Outcome, Vote

Counts = NDArray[np.int64]
"""One row per comparison, one column per value: how many raters gave it that value."""
Clusters = NDArray[np.int64]
"""The number of the task of each comparison, from 0 on."""
_Floats = NDArray[np.float64]

OUTCOMES: tuple[Outcome, ...] = ("a", "b", "tie", "both_bad")
_STEPS = (-3, -2, -1, 0, 1, 2, 3)
_NUM_RESAMPLES = 1000
_CHUNK = 50
_MOST_RATERS = 50
_LEAST_SHARED = 10


@dataclass(frozen=True, slots=True)
class PairKappa:
    """Cohen's kappa of two raters; ``n`` counts the comparisons that both judged."""

    rater: str
    other: str
    kappa: Estimate


@dataclass(frozen=True, slots=True)
class Agreement:
    """How well the raters of a campaign agree; None where too little was judged twice.

    ``n`` of each estimate counts the comparisons that it is from. Kappa and alpha are relative to
    chance: 1 is perfect, 0 is what random votes with the same shares would give.
    """

    percent: Estimate | None
    """Share of pairs of votes on the same comparison that are equal."""
    fleiss: Estimate | None
    """Over the comparisons with ``fleiss_votes`` votes, which is what most of them have."""
    fleiss_votes: int | None
    alpha_nominal: Estimate | None
    """Outcomes as names: a, b, tie, both bad."""
    alpha_ordinal: Estimate | None
    """Outcomes in order, from a to b by strength where given; a tie and both bad in the middle."""
    pairs: tuple[PairKappa, ...]
    """Those with the most comparisons in common first."""


def agreement(
    votes: Sequence[Vote], seed: int = 0, tasks: Mapping[str, Hashable] | None = None
) -> Agreement:
    """Every figure of agreement of ``votes``, of which skips do not count.

    ``tasks`` names the task of each comparison that was judged at once with others.
    """
    counts = outcome_counts(votes)
    votes_each = most_frequent_overlap(counts)
    task_of = _numbered(votes, tasks or {})
    clusters = None if task_of is None else np.asarray(list(task_of.values()))
    return Agreement(
        percent=percent_agreement(counts, clusters),
        fleiss=None if votes_each is None else fleiss_kappa(counts, votes_each, seed, clusters),
        fleiss_votes=votes_each,
        alpha_nominal=krippendorff_alpha(counts, "nominal", seed, clusters),
        alpha_ordinal=krippendorff_alpha(strength_counts(votes), "ordinal", seed, clusters),
        pairs=tuple(cohen_kappas(votes, task_of=task_of)),
    )


def _numbered(votes: Iterable[Vote], tasks: Mapping[str, Hashable]) -> dict[str, int] | None:
    """The number of each comparison's task, in the order of the rows of counts.

    None where each comparison is its own task.
    """
    place: dict[Hashable, int] = {}
    judged = (vote.comparison for vote in votes if vote.outcome != "skip")
    found = {one: place.setdefault(tasks.get(one, ("alone", one)), len(place)) for one in judged}
    return None if len(place) == len(found) else found


def outcome_counts(votes: Iterable[Vote]) -> Counts:
    """How often each of :data:`OUTCOMES` was voted, per comparison."""
    return count_values(((v.comparison, v.outcome) for v in votes if v.outcome != "skip"), OUTCOMES)


def strength_counts(votes: Iterable[Vote]) -> Counts:
    """How often each step from much better a to much better b was voted, per comparison.

    A vote without a strength is one step, so without any there are three values.
    """
    sign = {"a": -1, "b": 1, "tie": 0, "both_bad": 0}
    steps = (
        (v.comparison, sign[v.outcome] * (v.strength or 1)) for v in votes if v.outcome in sign
    )
    return count_values(steps, _STEPS)


def count_values(given: Iterable[tuple[Hashable, Hashable]], values: Sequence[Hashable]) -> Counts:
    """A row for each first entry of ``given``, a column for each of ``values``."""
    column = {value: place for place, value in enumerate(values)}
    row: dict[Hashable, int] = {}
    cells = [row.setdefault(item, len(row)) * len(column) + column[value] for item, value in given]
    size = len(row) * len(column)
    return np.bincount(np.asarray(cells, dtype=np.int64), minlength=size).reshape(-1, len(column))


def agreeing_share(counts: Counts) -> float | None:
    """Share of pairs of votes on the same comparison that are equal; None without a pair."""
    pairs = (counts.sum(axis=1) * (counts.sum(axis=1) - 1)).sum()
    return float((counts * (counts - 1)).sum() / pairs) if pairs else None


def percent_agreement(counts: Counts, clusters: Clusters | None = None) -> Estimate | None:
    """:func:`agreeing_share` with an interval."""
    twice = counts.sum(axis=1) >= 2
    judged = counts[twice]
    if not len(judged):
        return None
    size = judged.sum(axis=1)
    pairs = size * (size - 1)
    shares = (judged * (judged - 1)).sum(axis=1) / pairs
    names = range(len(judged)) if clusters is None else clusters[twice].tolist()
    members = [(name,) for name in names]
    return proportion(shares.tolist(), members, weights=pairs.tolist())


def most_frequent_overlap(counts: Counts) -> int | None:
    """The number of votes, two or more, that most comparisons have; the larger of equals."""
    size = counts.sum(axis=1)
    sizes, times = np.unique(size[size >= 2], return_counts=True)
    return max(zip(times.tolist(), sizes.tolist(), strict=True))[1] if len(sizes) else None


def fleiss_kappa(
    counts: Counts, votes_each: int, seed: int = 0, clusters: Clusters | None = None
) -> Estimate | None:
    """Fleiss 1971, over the comparisons with exactly ``votes_each`` votes.

    None where there is none, or where all votes are equal: then chance would agree as well.
    """

    def kappa(coincidences: _Floats) -> _Floats:
        shares = coincidences.sum(axis=2) / coincidences.sum(axis=(1, 2))[:, None]
        observed = np.trace(coincidences, axis1=1, axis2=2) / coincidences.sum(axis=(1, 2))
        chance = (shares**2).sum(axis=1)
        return (observed - chance) / (1 - chance)

    return _bootstrapped(counts, counts.sum(axis=1) == votes_each, kappa, seed, clusters)


def krippendorff_alpha(
    counts: Counts,
    level: Literal["nominal", "ordinal"],
    seed: int = 0,
    clusters: Clusters | None = None,
) -> Estimate | None:
    """Krippendorff 2019, chapter 12, over the comparisons with two votes or more.

    None where there is none, or where all votes are equal.
    """

    def alpha(coincidences: _Floats) -> _Floats:
        given = coincidences.sum(axis=2)
        total = given.sum(axis=1)
        if level == "nominal":
            distance = np.broadcast_to(1 - np.eye(given.shape[1]), coincidences.shape)
        else:
            middle = given.cumsum(axis=1) - given / 2
            distance = (middle[:, :, None] - middle[:, None, :]) ** 2
        observed = (coincidences * distance).sum(axis=(1, 2))
        expected = (given[:, :, None] * given[:, None, :] * distance).sum(axis=(1, 2))
        return 1 - (total - 1) * observed / expected

    return _bootstrapped(counts, counts.sum(axis=1) >= 2, alpha, seed, clusters)


def _bootstrapped(
    counts: Counts,
    kept: NDArray[np.bool_],
    statistic: Callable[[_Floats], _Floats],
    seed: int,
    clusters: Clusters | None,
) -> Estimate | None:
    """A statistic of summed coincidences, with the percentiles of a bootstrap over tasks.

    Tasks with equal coincidences are one pattern drawn so many times, which makes it fast.
    Resamples in which all votes are equal say nothing and are left out. One task alone says
    nothing of how tasks differ.
    """
    judged = counts[kept]
    if np.count_nonzero(judged.sum(axis=0)) < 2:
        return None
    table, times = _patterns(judged, None if clusters is None else clusters[kept])
    num_values = counts.shape[1]

    def summed(draws: NDArray[np.int64]) -> _Floats:
        sums = (draws @ table).reshape(-1, num_values, num_values)
        return statistic(sums[np.count_nonzero(sums.sum(axis=2), axis=1) >= 2])

    value = float(summed(times[None])[0])
    if clusters is not None and times.sum() == 1:
        return Estimate(value, -1.0, 1.0, len(judged))
    draw = np.random.default_rng(seed)
    share = times / times.sum()
    found = [
        summed(draw.multinomial(times.sum(), share, size=_CHUNK))
        for _ in range(_NUM_RESAMPLES // _CHUNK)
    ]
    low, high = np.quantile(np.concatenate(found), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high), len(judged))


def _patterns(judged: Counts, clusters: Clusters | None) -> tuple[_Floats, NDArray[np.int64]]:
    """The coincidences of each task, those of equal tasks once, and how many tasks have them."""
    patterns, which, times = np.unique(judged, axis=0, return_inverse=True, return_counts=True)
    diagonal = patterns[:, :, None] * np.eye(judged.shape[1])
    one_by_one = patterns[:, :, None] * patterns[:, None, :] - diagonal
    table = (one_by_one / (patterns.sum(axis=1) - 1)[:, None, None]).reshape(len(patterns), -1)
    if clusters is None:
        return table, times
    sums = np.zeros((clusters.max() + 1, table.shape[1]))
    np.add.at(sums, clusters, table[which.reshape(-1)])
    return np.unique(sums[np.unique(clusters)], axis=0, return_counts=True)


def cohen_kappas(
    votes: Sequence[Vote],
    at_least: int = _LEAST_SHARED,
    most_raters: int = _MOST_RATERS,
    task_of: Mapping[str, int] | None = None,
) -> list[PairKappa]:
    """Cohen's kappa of every two of the busiest raters that share ``at_least`` comparisons.

    Pairs that gave one outcome only are left out: chance would agree as well.
    """
    counted = [vote for vote in votes if vote.outcome != "skip"]
    busiest = Counter(vote.rater for vote in counted).most_common(most_raters)
    kept = {rater for rater, _ in busiest}
    judged: dict[str, dict[str, int]] = {}
    for vote in counted:
        if vote.rater in kept:
            place = OUTCOMES.index(vote.outcome)
            judged.setdefault(vote.comparison, {})[vote.rater] = place
    tables: defaultdict[tuple[str, str], defaultdict[int | None, _Floats]] = defaultdict(
        lambda: defaultdict(lambda: np.zeros((len(OUTCOMES), len(OUTCOMES))))
    )
    for comparison, by_rater in judged.items():
        task = None if task_of is None else task_of[comparison]
        for pair in combinations(sorted(by_rater), 2):
            tables[pair][task][by_rater[pair[0]], by_rater[pair[1]]] += 1
    found: list[PairKappa] = []
    for pair, by_task in tables.items():
        parts = np.stack(list(by_task.values()))
        if parts.sum() >= at_least:
            table = parts.sum(axis=0)
            kappa = cohen_kappa(table, None if task_of is None else parts)
            found += [] if kappa is None else [PairKappa(*pair, kappa)]
    return sorted(found, key=lambda pair: (-pair.kappa.n, pair.rater, pair.other))


def cohen_kappa(table: _Floats, parts: _Floats | None = None) -> Estimate | None:
    """Cohen 1960, of a square table of how often one rater said the row and the other the column.

    The interval is that of Fleiss, Cohen and Everitt 1969; with ``parts``, the table of each task,
    robust to what the comparisons of a task have in common (Liang and Zeger 1986). None where both
    gave one and the same value throughout.
    """
    n = table.sum()
    p = table / n
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    observed, chance = np.trace(p), rows @ columns
    if chance >= 1:
        return None
    kappa = (observed - chance) / (1 - chance)
    # Fleiss, Cohen and Everitt 1969, eq. 13
    weight = (rows[None, :] + columns[:, None]) * (1 - kappa)
    on_diagonal = np.eye(len(p), dtype=bool)
    middle = kappa - chance * (1 - kappa)
    quantile = float(stats.norm.ppf((1 + LEVEL) / 2))
    if parts is None:
        spread = (p * np.where(on_diagonal, (1 - weight) ** 2, weight**2)).sum()
        variance = (spread - middle**2) / (n * (1 - chance) ** 2)
    elif len(parts) == 1:
        return Estimate(float(kappa), -1.0, 1.0, int(n))
    else:
        pulls = (parts * (on_diagonal - weight - middle)).sum(axis=(1, 2)) / (n * (1 - chance))
        free = len(parts) - 1
        variance = (pulls**2).sum() * len(parts) / free
        quantile = float(stats.t.ppf((1 + LEVEL) / 2, free))
    half = quantile * np.sqrt(max(variance, 0.0))
    low, high = max(-1.0, kappa - half), min(1.0, kappa + half)
    return Estimate(float(kappa), float(low), float(high), int(n))
