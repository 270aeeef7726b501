"""How well raters agree: percent, Cohen's and Fleiss' kappa, Krippendorff's alpha, with intervals.

All but Cohen's need only how often each value was given to each comparison, so any number of raters
costs the same. Comparisons are what the intervals resample.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
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


def agreement(votes: Sequence[Vote], seed: int = 0) -> Agreement:
    """Every figure of agreement of ``votes``, of which skips do not count."""
    counts = outcome_counts(votes)
    votes_each = most_frequent_overlap(counts)
    return Agreement(
        percent=percent_agreement(counts),
        fleiss=None if votes_each is None else fleiss_kappa(counts, votes_each, seed),
        fleiss_votes=votes_each,
        alpha_nominal=krippendorff_alpha(counts, "nominal", seed),
        alpha_ordinal=krippendorff_alpha(strength_counts(votes), "ordinal", seed),
        pairs=tuple(cohen_kappas(votes)),
    )


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


def percent_agreement(counts: Counts) -> Estimate | None:
    """:func:`agreeing_share` with an interval."""
    judged = _judged_twice(counts)
    if not len(judged):
        return None
    size = judged.sum(axis=1)
    pairs = size * (size - 1)
    shares = (judged * (judged - 1)).sum(axis=1) / pairs
    members = [(index,) for index in range(len(judged))]
    return proportion(shares.tolist(), members, weights=pairs.tolist())


def most_frequent_overlap(counts: Counts) -> int | None:
    """The number of votes, two or more, that most comparisons have; the larger of equals."""
    sizes, times = np.unique(_judged_twice(counts).sum(axis=1), return_counts=True)
    return max(zip(times.tolist(), sizes.tolist(), strict=True))[1] if len(sizes) else None


def fleiss_kappa(counts: Counts, votes_each: int, seed: int = 0) -> Estimate | None:
    """Fleiss 1971, over the comparisons with exactly ``votes_each`` votes.

    None where there is none, or where all votes are equal: then chance would agree as well.
    """

    def kappa(coincidences: _Floats) -> _Floats:
        shares = coincidences.sum(axis=2) / coincidences.sum(axis=(1, 2))[:, None]
        observed = np.trace(coincidences, axis1=1, axis2=2) / coincidences.sum(axis=(1, 2))
        chance = (shares**2).sum(axis=1)
        return (observed - chance) / (1 - chance)

    return _bootstrapped(counts[counts.sum(axis=1) == votes_each], kappa, seed)


def krippendorff_alpha(
    counts: Counts, level: Literal["nominal", "ordinal"], seed: int = 0
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

    return _bootstrapped(counts, alpha, seed)


def _judged_twice(counts: Counts) -> Counts:
    return counts[counts.sum(axis=1) >= 2]


def _bootstrapped(
    counts: Counts, statistic: Callable[[_Floats], _Floats], seed: int
) -> Estimate | None:
    """A statistic of summed coincidences, with the percentiles of a bootstrap over comparisons.

    Comparisons with equal counts are one pattern drawn so many times, which makes it fast.
    Resamples in which all votes are equal say nothing and are left out.
    """
    judged = _judged_twice(counts)
    patterns, times = np.unique(judged, axis=0, return_counts=True)
    num_values = counts.shape[1]
    one_by_one = patterns[:, :, None] * patterns[:, None, :] - patterns[:, :, None] * np.eye(
        num_values
    )
    table = one_by_one / (patterns.sum(axis=1) - 1)[:, None, None]
    if np.count_nonzero(judged.sum(axis=0)) < 2:
        return None

    def summed(draws: NDArray[np.int64]) -> _Floats:
        sums = (draws @ table.reshape(len(table), -1)).reshape(-1, num_values, num_values)
        return statistic(sums[np.count_nonzero(sums.sum(axis=2), axis=1) >= 2])

    draw = np.random.default_rng(seed)
    share = times / len(judged)
    found = [
        summed(draw.multinomial(len(judged), share, size=_CHUNK))
        for _ in range(_NUM_RESAMPLES // _CHUNK)
    ]
    low, high = np.quantile(np.concatenate(found), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(summed(times[None])[0]), float(low), float(high), len(judged))


def cohen_kappas(
    votes: Sequence[Vote], at_least: int = _LEAST_SHARED, most_raters: int = _MOST_RATERS
) -> list[PairKappa]:
    """Cohen's kappa of every two of the busiest raters that share ``at_least`` comparisons.

    The interval is that of Fleiss, Cohen and Everitt 1969. Pairs that gave one outcome only are
    left out: chance would agree as well.
    """
    counted = [vote for vote in votes if vote.outcome != "skip"]
    busiest = Counter(vote.rater for vote in counted).most_common(most_raters)
    kept = {rater for rater, _ in busiest}
    judged: dict[str, dict[str, int]] = {}
    for vote in counted:
        if vote.rater in kept:
            place = OUTCOMES.index(vote.outcome)
            judged.setdefault(vote.comparison, {})[vote.rater] = place
    tables: dict[tuple[str, str], NDArray[np.float64]] = {}
    for by_rater in judged.values():
        for pair in combinations(sorted(by_rater), 2):
            table = tables.setdefault(pair, np.zeros((len(OUTCOMES), len(OUTCOMES))))
            table[by_rater[pair[0]], by_rater[pair[1]]] += 1
    found = [
        PairKappa(*pair, kappa)
        for pair, table in tables.items()
        if table.sum() >= at_least and (kappa := cohen_kappa(table)) is not None
    ]
    return sorted(found, key=lambda pair: (-pair.kappa.n, pair.rater, pair.other))


def cohen_kappa(table: NDArray[np.float64]) -> Estimate | None:
    """Cohen 1960, of a square table of how often one rater said the row and the other the column.

    None where both gave one and the same value throughout.
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
    spread = (p * np.where(on_diagonal, (1 - weight) ** 2, weight**2)).sum()
    variance = (spread - (kappa - chance * (1 - kappa)) ** 2) / (n * (1 - chance) ** 2)
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * np.sqrt(max(variance, 0.0))
    low, high = max(-1.0, kappa - half), min(1.0, kappa + half)
    return Estimate(float(kappa), float(low), float(high), int(n))
