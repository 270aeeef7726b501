"""Which policy people prefer: a board with intervals that know that raters repeat themselves.

Bradley-Terry on votes: the logit of the left response winning is the difference of two strengths
plus the advantage of standing on the left. A tie and "both bad" are half a win for each side.
Raters are the clusters (see :mod:`rlhf.evaluate.bradley_terry`).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from rlhf.evaluate.bradley_terry import Fit, Matrix, Vector, Votes, fit
from rlhf.evaluate.duels import Duels, duels_of
from rlhf.evaluate.intervals import LEVEL, Estimate, proportion
from rlhf.records import Comparison, Vote

PRELIMINARY = 10
"""Below this many raters a board is called preliminary."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One policy on the board."""

    policy: str
    rank: int
    """1 + the number of policies that are surely better; policies of one rank are one group."""
    strength: Estimate
    """In logits, relative to the mean of all policies."""
    at_equal_length: Estimate | None
    """The same if both responses were equally long."""
    win_share: float
    """Of its votes, a tie counting half."""
    both_bad: Estimate
    """Share of its votes that found both responses bad."""
    votes: int


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one policy is ahead of another."""

    better: str
    worse: str
    logits: Estimate
    """For this pair alone; ``p`` knows that there are more."""
    p: float
    """Adjusted for all pairs by Holm's method."""
    sure: bool
    """Whether ``p`` is below 5 %."""


NoteKind = Literal[
    "none",  # no vote is between two named policies
    "unnamed",  # ``count`` votes are not between two named policies, and left out
    "unlinked",  # the policies ``names`` are left out: no vote links them to the rest
    "sides",  # each policy kept to one side, which cannot be told from strength
    "equal_lengths",  # all responses are equally long, so length is not controlled for
    "length",  # the effect of length cannot be told from that of the policies
    "one_rater",  # nothing is known of how raters differ: no intervals
    "preliminary",  # there are ``raters`` raters, ``wanted`` are wanted
    "half_votes",  # see `Leaderboard.half_votes`
]


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a reader of a board must know; whoever shows it finds the words."""

    kind: NoteKind
    values: Mapping[str, int | str] = field(default_factory=dict[str, int | str])


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """What the votes say about the policies; empty, with a note, where they say nothing."""

    standings: tuple[Standing, ...] = ()
    """The strongest first."""
    differences: tuple[Difference, ...] = ()
    shares: tuple[tuple[float | None, ...], ...] = ()
    """Row against column, in the order of the standings: share of wins, a tie counting half."""
    counts: tuple[tuple[int, ...], ...] = ()
    """The votes behind ``shares``."""
    left_wins: Estimate | None = None
    """How often the left one of two equal responses wins: the position bias; 0.5 is none."""
    length_effect: Estimate | None = None
    """Logits per standard deviation of the relative difference in length."""
    both_bad: Estimate | None = None
    raters: int = 0
    votes: int = 0
    half_votes: bool = False
    """Half a vote was added for each side of every pair, because the votes alone do not bound
    every strength and its interval; strengths lean to the middle."""
    notes: tuple[Note, ...] = ()

    @property
    def preliminary(self) -> bool:
        """Whether there are too few raters to trust the intervals."""
        return self.raters < PRELIMINARY


def leaderboard(comparisons: Iterable[Comparison], votes: Sequence[Vote]) -> Leaderboard:
    """The board of the policies in ``comparisons``, which hold all that the votes are about.

    Two policies are told apart where Holm's test over all pairs finds them different at 5 %. A
    policy's rank is one more than the number of policies that are so told to be better.
    """
    duels = duels_of(comparisons, votes)
    counted = sum(vote.outcome != "skip" for vote in votes)
    notes: list[Note] = []
    if len(duels) < counted:
        notes.append(Note("unnamed", {"count": counted - len(duels)}))
    if not len(duels):
        return Leaderboard(notes=(Note("none"), *notes))
    group = duels.largest_group()
    if len(group) < len(duels.policies):
        others = [name for i, name in enumerate(duels.policies) if i not in group]
        notes.append(Note("unlinked", {"names": ", ".join(sorted(others))}))
        duels = duels.only(group)
    return _board(duels, notes)


def _board(duels: Duels, notes: list[Note]) -> Leaderboard:
    main = _fit(duels, sided=True)
    sided = main is not None
    if main is None:
        main = _fit(duels, sided=False)
        notes.append(Note("sides"))
    assert main is not None, "policies that votes link have strengths"
    controlled = _at_equal_length(duels, sided, notes)
    notes += _warnings(main)
    strengths = _strengths(main, len(duels.policies))
    order = np.argsort([-s.value for s in strengths], kind="stable").tolist()
    differences = _differences(main, [duels.policies[i] for i in order], order)
    shares, counts = _matrix(duels, order)
    return Leaderboard(
        standings=_standings(duels, order, differences, main, controlled),
        differences=differences,
        shares=shares,
        counts=counts,
        left_wins=_chance(main.estimate(_unit(main, len(order) - 1))) if sided else None,
        length_effect=controlled.estimate(_unit(controlled, -1)) if controlled else None,
        both_bad=_rate(duels, np.ones(len(duels), dtype=bool)),
        raters=main.num_raters,
        votes=len(duels),
        half_votes=main.half_votes,
        notes=tuple(notes),
    )


def _fit(duels: Duels, *, sided: bool, longer: Vector | None = None) -> Fit | None:
    """The fit; half-votes, if need be, go to each pair that was judged, once on either side."""
    pairs = np.unique(np.column_stack([duels.left, duels.right]), axis=0)
    left, right = np.unique(np.vstack([pairs, pairs[:, ::-1]]), axis=0).T
    size = len(duels.policies)
    x = _design(duels.left, duels.right, size, sided=sided, longer=longer)
    equal = None if longer is None else np.zeros(len(left))
    spare = _design(left, right, size, sided=sided, longer=equal)
    return fit(Votes(x, duels.share, duels.raters), spare)


def _design(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    size: int,
    *,
    sided: bool,
    longer: Vector | None,
) -> Matrix:
    """A column for each policy but the last, +1 where it is on the left and -1 on the right.

    Then a column of ones for standing on the left, then one for being longer.
    """
    rows = np.arange(len(left))
    x = np.zeros((len(left), size + 1))
    x[rows, left] = 1
    x[rows, right] = -1
    x[:, -1] = 1
    kept = [*range(size - 1), size] if sided else list(range(size - 1))
    return x[:, kept] if longer is None else np.column_stack([x[:, kept], longer])


def _at_equal_length(duels: Duels, sided: bool, notes: list[Note]) -> Fit | None:
    """The fit with length as one more column, at the end."""
    spread = duels.longer.std()
    if spread < 1e-9:
        notes.append(Note("equal_lengths"))
        return None
    found = _fit(duels, sided=sided, longer=duels.longer / spread)
    if found is None:
        notes.append(Note("length"))
    return found


def _warnings(main: Fit) -> list[Note]:
    found: list[Note] = []
    if main.num_raters == 1:
        found.append(Note("one_rater"))
    elif main.num_raters < PRELIMINARY:
        found.append(Note("preliminary", {"raters": main.num_raters, "wanted": PRELIMINARY}))
    if main.half_votes:
        found.append(Note("half_votes"))
    return found


def _unit(fitted: Fit, index: int) -> Vector:
    return np.eye(len(fitted.coefficients))[index]


def _contrasts(fitted: Fit, num_policies: int) -> Matrix:
    """A row per policy: the coefficients that make its strength; the last one's is 0."""
    found = np.zeros((num_policies, len(fitted.coefficients)))
    found[:-1, : num_policies - 1] = np.eye(num_policies - 1)
    return found


def _strengths(fitted: Fit, num_policies: int) -> list[Estimate]:
    contrasts = _contrasts(fitted, num_policies)
    return [fitted.estimate(row - contrasts.mean(axis=0)) for row in contrasts]


def _differences(fitted: Fit, names: list[str], order: list[int]) -> tuple[Difference, ...]:
    """Of every pair, the better one first; ``names`` and ``order`` are from the best down."""
    contrasts = _contrasts(fitted, len(order))[order]
    pairs = list(combinations(range(len(order)), 2))
    rows = [contrasts[i] - contrasts[j] for i, j in pairs]
    adjusted = holm([fitted.p_value(row) for row in rows])
    return tuple(
        Difference(names[i], names[j], fitted.estimate(row), p, p < 1 - LEVEL)
        for (i, j), row, p in zip(pairs, rows, adjusted, strict=True)
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p value, adjusted for there being so many. Holm 1979."""
    adjusted = [0.0] * len(p_values)
    most = 0.0
    for before, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        most = max(most, min(1.0, (len(p_values) - before) * p_values[index]))
        adjusted[index] = most
    return adjusted


def _standings(
    duels: Duels,
    order: list[int],
    differences: tuple[Difference, ...],
    main: Fit,
    controlled: Fit | None,
) -> tuple[Standing, ...]:
    better: defaultdict[str, int] = defaultdict(int)
    for difference in differences:
        better[difference.worse] += difference.sure
    strengths = _strengths(main, len(order))
    at_equal_length = controlled and _strengths(controlled, len(order))
    found: list[Standing] = []
    for index in order:
        name = duels.policies[index]
        on_left, on_right = duels.left == index, duels.right == index
        wins = duels.share[on_left].sum() + (1 - duels.share[on_right]).sum()
        votes = int(on_left.sum() + on_right.sum())
        found.append(
            Standing(
                policy=name,
                rank=1 + better[name],
                strength=strengths[index],
                at_equal_length=at_equal_length[index] if at_equal_length else None,
                win_share=float(wins / votes),
                both_bad=_rate(duels, on_left | on_right),
                votes=votes,
            )
        )
    return tuple(found)


def _rate(duels: Duels, rows: NDArray[np.bool_]) -> Estimate:
    """How often both were bad, with an interval clustered by rater."""
    members = [(rater,) for rater in duels.raters[rows].tolist()]
    return proportion(duels.both_bad[rows].astype(float).tolist(), members)


def _matrix(
    duels: Duels, order: list[int]
) -> tuple[tuple[tuple[float | None, ...], ...], tuple[tuple[int, ...], ...]]:
    size = len(order)
    wins, counts = np.zeros((size, size)), np.zeros((size, size), dtype=np.int64)
    np.add.at(wins, (duels.left, duels.right), duels.share)
    np.add.at(wins, (duels.right, duels.left), 1 - duels.share)
    np.add.at(counts, (duels.left, duels.right), 1)
    counts = counts + counts.T
    ordered = np.ix_(order, order)
    rows = list(zip(wins[ordered].tolist(), counts[ordered].tolist(), strict=True))
    shares = tuple(
        tuple(win / n if n else None for win, n in zip(*row, strict=True)) for row in rows
    )
    return shares, tuple(tuple(row[1]) for row in rows)


def _chance(logits: Estimate) -> Estimate:
    value, low, high = (float(expit(v)) for v in (logits.value, logits.low, logits.high))
    return Estimate(value, low, high, logits.n)
