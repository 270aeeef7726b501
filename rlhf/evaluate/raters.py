"""How good each rater is: by the others, by gold, by the clock, and by Dawid and Skene's model."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

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
    votes: Sequence[Vote], checks: Sequence[tuple[Vote, Outcome]] = ()
) -> tuple[RaterQuality, ...]:
    """Every rater of ``votes``, the busiest first.

    ``checks`` are further votes, on comparisons whose right outcome is known, with that outcome.
    """
    by_rater: defaultdict[str, list[Vote]] = defaultdict(list)
    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for vote in votes:
        by_rater[vote.rater].append(vote)
        if vote.outcome != "skip":
            outcomes[vote.comparison][vote.outcome] += 1
    known: defaultdict[str, list[bool]] = defaultdict(list)
    for vote, right in checks:
        if vote.outcome != "skip":
            known[vote.rater].append(vote.outcome == right)
    several = [vote for vote in votes if outcomes[vote.comparison].total() > 1]
    accuracy = dawid_skene(several).accuracy
    found = [
        _quality(rater, given, outcomes, known[rater], accuracy.get(rater))
        for rater, given in by_rater.items()
    ]
    return tuple(sorted(found, key=lambda quality: (-quality.votes, quality.rater)))


def _quality(
    rater: str,
    given: Sequence[Vote],
    outcomes: Mapping[str, Counter[str]],
    known: Sequence[bool],
    accuracy: float | None,
) -> RaterQuality:
    votes = [vote for vote in given if vote.outcome != "skip"]
    hits = [
        vote.outcome == favourite
        for vote in votes
        if (favourite := _favourite_of_others(outcomes[vote.comparison], vote.outcome)) is not None
    ]
    left = [(v.outcome == "a") == (v.a_side == "left") for v in votes if v.outcome in ("a", "b")]
    times = [seconds_between(vote.shown_at, vote.answered_at) for vote in given]
    seconds = [spent for spent in times if spent is not None]
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


def seconds_between(shown_at: str, answered_at: str) -> float | None:
    """Seconds between two moments in ISO 8601; None where one is not known."""
    if not shown_at or not answered_at:
        return None
    spent = datetime.fromisoformat(answered_at) - datetime.fromisoformat(shown_at)
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
    if not counted:
        return DawidSkene({}, {}, {}, 0.0, 0)
    item, comparisons = _numbered([vote.comparison for vote in counted])
    rater, raters = _numbered([vote.rater for vote in counted])
    label = np.asarray([OUTCOMES.index(v.outcome) for v in counted], dtype=np.int64)
    of_item, of_answer = _sums(item), _sums(rater * len(OUTCOMES) + label)
    given = np.asarray(of_item @ np.eye(len(OUTCOMES))[label], dtype=np.float64)
    right = given / given.sum(axis=1, keepdims=True)
    before, rounds = -np.inf, 0
    while True:
        rounds += 1
        shares, chances = right.mean(axis=0), _chances(of_answer @ right[item])
        right, now = _posterior(shares, of_item @ chances[rater, label])
        if rounds == _MOST_ROUNDS or now - before <= _TOLERANCE * abs(now):
            break
        before = now
    accuracy = np.bincount(rater, right[item, label]) / np.bincount(rater)
    return DawidSkene(
        outcomes={
            name: dict(zip(OUTCOMES, row, strict=True))
            for name, row in zip(comparisons, right.tolist(), strict=True)
        },
        shares=dict(zip(OUTCOMES, shares.tolist(), strict=True)),
        accuracy=dict(zip(raters, accuracy.tolist(), strict=True)),
        log_likelihood=now,
        rounds=rounds,
    )


def _numbered(names: Sequence[str]) -> tuple[NDArray[np.int64], list[str]]:
    """Each name as a number, and the names in the order of their numbers."""
    number: dict[str, int] = {}
    places = [number.setdefault(name, len(number)) for name in names]
    return np.asarray(places, dtype=np.int64), list(number)


def _sums(row: NDArray[np.int64]) -> csr_array:
    """What adds up the votes of each row when it is multiplied with one line per vote."""
    return csr_array((np.ones(len(row)), (row, np.arange(len(row)))))


def _chances(given: _Floats) -> _Floats:
    """Eq. 2.3 in logs: per rater and label given, its chance under each right outcome.

    ``given`` has a line per rater and label; what a rater had no occasion to say has chance 0.
    """
    size = given.shape[1]
    missing = -len(given) % size
    by_rater = np.pad(given, ((0, missing), (0, 0))).reshape(-1, size, size)
    seen = by_rater.sum(axis=1, keepdims=True)
    share = np.divide(by_rater, seen, out=np.zeros_like(by_rater), where=seen > 0)
    with np.errstate(divide="ignore"):
        return np.log(share)


def _posterior(shares: _Floats, logs: _Floats) -> tuple[_Floats, float]:
    """Eq. 2.5, and the log-likelihood; in logs, because a product of many chances is 0."""
    with np.errstate(divide="ignore"):
        joint = np.log(shares) + logs
    most = joint.max(axis=1, keepdims=True)
    scaled = np.exp(joint - most)
    total = scaled.sum(axis=1, keepdims=True)
    return scaled / total, float((np.log(total) + most).sum())
