"""What raters gave to single responses: each policy's mean by measure, agreement, severe raters."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean, median

from rlhf.evaluate.agreement import count_values, krippendorff_alpha
from rlhf.evaluate.intervals import Estimate, Members, mean, proportion


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
    """Own score minus the mean of the others' on the same response, by which other raters judged
    it; None without any."""
    apart: float | None
    """Mean of that difference without its sign."""
    median_seconds: float | None


def measures(scores: Sequence[Score], values: Sequence[float]) -> tuple[Measure, ...]:
    """Every measure in ``scores``, in the order of its first; ``values`` are all there can be.

    Values from 0 to 1 are shares, and their intervals stay between.
    """
    by_measure = _grouped(scores, lambda one: one.measure)
    average = proportion if set(values) <= {0, 0.5, 1} else mean
    return tuple(
        Measure(
            str(name),
            tuple(
                sorted(
                    (
                        _standing(str(policy), own, average)
                        for policy, own in _grouped(given, lambda one: one.policy).items()
                    ),
                    key=lambda one: (-one.mean.value, one.policy),
                )
            ),
            krippendorff_alpha(count_values(((s.item, s.value) for s in given), values), "ordinal"),
        )
        for name, given in by_measure.items()
    )


def _standing(
    policy: str, own: Sequence[Score], average: Callable[[Sequence[float], Members], Estimate]
) -> Standing:
    raters = len({one.rater for one in own})
    values = [one.value for one in own]
    if raters == 1:
        return Standing(policy, Estimate(fmean(values), -inf, inf, len(values)), 1)
    return Standing(policy, average(values, [(one.rater,) for one in own]), raters)


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
