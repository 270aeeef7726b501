"""How good each rater is: by the others, by gold, by the clock, and by Dawid and Skene's model."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

import numpy as np
from numpy.typing import NDArray

from rlhf.evaluate.agreement import OUTCOMES
from rlhf.evaluate.intervals import Estimate, wilson
from rlhf.records import Outcome, Vote

TOO_FAST = 2.0
"""Seconds; nobody reads two responses in less."""

_Floats = NDArray[np.float64]
_TOLERANCE = 1e-8
_MOST_ROUNDS = 200


@dataclass(frozen=True, slots=True)
class RaterQuality:
    """What is known of one rater; None where there is nothing to go by."""

    rater: str
    votes: int
    """Without skips."""
    skips: int
    with_majority: Estimate | None
    """How often the vote is what most of the others said, where they have one favourite."""
    left: Estimate | None
    """Share of the left side among votes for one side; far from a half is a habit."""
    median_seconds: float | None
    """From being shown to answering."""
    too_fast: float | None
    """Share of timed answers, skips too, that took less than :data:`TOO_FAST`."""
    skip_share: float
    gold: Estimate | None
    """Share of right answers where the right one is known."""
    accuracy: float | None
    """Expected share of right votes by Dawid and Skene's model of what several judged."""


def rater_qualities(
    votes: Sequence[Vote], gold: Mapping[str, Outcome] | None = None
) -> tuple[RaterQuality, ...]:
    """Every rater of ``votes``, the busiest first; ``gold`` has right outcomes by comparison."""
    by_rater: defaultdict[str, list[Vote]] = defaultdict(list)
    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for vote in votes:
        by_rater[vote.rater].append(vote)
        if vote.outcome != "skip":
            outcomes[vote.comparison][vote.outcome] += 1
    several = [vote for vote in votes if outcomes[vote.comparison].total() > 1]
    accuracy = dawid_skene(several).accuracy
    found = [
        _quality(rater, given, outcomes, gold or {}, accuracy.get(rater))
        for rater, given in by_rater.items()
    ]
    return tuple(sorted(found, key=lambda quality: (-quality.votes, quality.rater)))


def _quality(
    rater: str,
    given: Sequence[Vote],
    outcomes: Mapping[str, Counter[str]],
    gold: Mapping[str, Outcome],
    accuracy: float | None,
) -> RaterQuality:
    votes = [vote for vote in given if vote.outcome != "skip"]
    hits = [
        vote.outcome == favourite
        for vote in votes
        if (favourite := _favourite_of_others(outcomes[vote.comparison], vote.outcome)) is not None
    ]
    left = [(v.outcome == "a") == (v.a_side == "left") for v in votes if v.outcome in ("a", "b")]
    seconds = [spent for vote in given if (spent := _seconds(vote)) is not None]
    known = [vote.outcome == gold[vote.comparison] for vote in votes if vote.comparison in gold]
    return RaterQuality(
        rater=rater,
        votes=len(votes),
        skips=len(given) - len(votes),
        with_majority=_share(hits),
        left=_share(left),
        median_seconds=median(seconds) if seconds else None,
        too_fast=sum(s < TOO_FAST for s in seconds) / len(seconds) if seconds else None,
        skip_share=1 - len(votes) / len(given),
        gold=_share(known),
        accuracy=accuracy,
    )


def _favourite_of_others(outcomes: Counter[str], own: str) -> str | None:
    """What most said, this one vote apart; None if nobody else voted or two outcomes are level."""
    others = outcomes - Counter([own])
    ranked = others.most_common(2)
    if not ranked or (len(ranked) == 2 and ranked[0][1] == ranked[1][1]):
        return None
    return ranked[0][0]


def _share(hits: Sequence[bool]) -> Estimate | None:
    if not hits:
        return None
    share = sum(hits) / len(hits)
    return Estimate(share, *wilson(share, len(hits)), len(hits))


def _seconds(vote: Vote) -> float | None:
    if not vote.shown_at or not vote.answered_at:
        return None
    spent = datetime.fromisoformat(vote.answered_at) - datetime.fromisoformat(vote.shown_at)
    return max(0.0, spent.total_seconds())


@dataclass(frozen=True, slots=True)
class DawidSkene:
    """What the votes most likely mean if each rater errs in ways of his own."""

    outcomes: Mapping[str, Mapping[str, float]]
    """For each comparison, the chance that each outcome is the right one."""
    shares: Mapping[str, float]
    """Of each outcome among the right ones."""
    accuracy: Mapping[str, float]
    """For each rater, the expected share of right votes."""
    log_likelihood: float
    rounds: int


def dawid_skene(votes: Sequence[Vote]) -> DawidSkene:
    """Dawid and Skene 1979, eq. 2.3 to 2.5, from the shares of votes as a start.

    Stops where a round adds less than a 1e-8th of the log-likelihood, after 200 rounds at most.
    """
    counted = [vote for vote in votes if vote.outcome != "skip"]
    comparisons = {name: i for i, name in enumerate(dict.fromkeys(v.comparison for v in counted))}
    raters = {name: i for i, name in enumerate(dict.fromkeys(v.rater for v in counted))}
    item = np.asarray([comparisons[v.comparison] for v in counted], dtype=np.int64)
    rater = np.asarray([raters[v.rater] for v in counted], dtype=np.int64)
    label = np.asarray([OUTCOMES.index(v.outcome) for v in counted], dtype=np.int64)
    size = len(OUTCOMES)
    right = np.zeros((len(comparisons), size))
    np.add.at(right, (item, label), 1.0)
    right /= right.sum(axis=1, keepdims=True)
    before, now, rounds = -np.inf, -np.inf, 0
    shares = np.full(size, 1 / size)
    while len(counted) and rounds < _MOST_ROUNDS:
        shares, errors = right.mean(axis=0), _errors(right[item], rater, label, len(raters))
        right, now = _posterior(shares, errors[rater, label], item, len(comparisons))
        rounds += 1
        if now - before <= _TOLERANCE * abs(now):
            break
        before = now
    hits = np.bincount(rater, right[item, label], minlength=len(raters)) / np.maximum(
        np.bincount(rater, minlength=len(raters)), 1
    )
    return DawidSkene(
        outcomes={
            name: dict(zip(OUTCOMES, row, strict=True))
            for name, row in zip(comparisons, right.tolist(), strict=True)
        },
        shares=dict(zip(OUTCOMES, shares.tolist(), strict=True)),
        accuracy=dict(zip(raters, hits.tolist(), strict=True)),
        log_likelihood=float(now) if counted else 0.0,
        rounds=rounds,
    )


def _errors(
    right: _Floats, rater: NDArray[np.int64], label: NDArray[np.int64], num_raters: int
) -> _Floats:
    """Eq. 2.3: per rater and label given, its chance under each right outcome; 0 where unseen."""
    size = right.shape[1]
    given = np.zeros((num_raters, size, size))
    np.add.at(given, (rater, label), right)
    seen = given.sum(axis=1, keepdims=True)
    return np.divide(given, seen, out=np.zeros_like(given), where=seen > 0)


def _posterior(
    shares: _Floats, chances: _Floats, item: NDArray[np.int64], num_items: int
) -> tuple[_Floats, float]:
    """Eq. 2.5, and the log-likelihood; in logs, because a product of many chances is 0."""
    with np.errstate(divide="ignore"):  # what was never seen has no chance
        logs, prior = np.log(chances), np.log(shares)
    joint = np.tile(prior, (num_items, 1))
    np.add.at(joint, item, logs)
    most = joint.max(axis=1, keepdims=True)
    scaled = np.exp(joint - most)
    total = scaled.sum(axis=1, keepdims=True)
    return scaled / total, float((np.log(total) + most).sum())
