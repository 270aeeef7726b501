"""Votes between two policies, as they stood on the screen, in columns."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rlhf.records import Comparison, Vote

_SHARE_OF_A = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}


@dataclass(frozen=True, slots=True)
class Duels:
    """Votes between two policies as they stood on the screen."""

    policies: tuple[str, ...]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    share: NDArray[np.float64]
    """The left one's share of the vote."""
    longer: NDArray[np.float64]
    """(left - right) / (left + right) of the numbers of characters."""
    both_bad: NDArray[np.bool_]
    raters: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.left)

    def only(self, policies: Iterable[int]) -> "Duels":
        """The votes between these policies, which are numbered anew."""
        kept = sorted(policies)
        number = np.full(len(self.policies), -1)
        number[kept] = range(len(kept))
        rows = (number[self.left] >= 0) & (number[self.right] >= 0)
        return Duels(
            tuple(self.policies[index] for index in kept),
            number[self.left[rows]],
            number[self.right[rows]],
            self.share[rows],
            self.longer[rows],
            self.both_bad[rows],
            self.raters[rows],
        )

    def largest_group(self) -> set[int]:
        """The policies that votes link to each other, of the group with the most votes."""
        size = len(self.policies)
        links = coo_array((np.ones(len(self)), (self.left, self.right)), shape=(size, size))
        _, label = connected_components(links, directed=False)
        votes = np.bincount(label[self.left])
        return {index for index in range(size) if label[index] == votes.argmax()}


def duels_of(comparisons: Iterable[Comparison], votes: Sequence[Vote]) -> Duels:
    """The votes that are between two named policies and not skips."""
    by_id = {comparison.id: comparison for comparison in comparisons}
    rows: list[tuple[str, str, float, float, bool, str]] = []
    for vote in votes:
        comparison = by_id[vote.comparison]
        a, b = comparison.response_a, comparison.response_b
        if vote.outcome == "skip" or not a.policy or not b.policy or a.policy == b.policy:
            continue
        share = _SHARE_OF_A[vote.outcome]
        if vote.a_side == "right":
            a, b, share = b, a, 1 - share
        total = len(a.text) + len(b.text)
        longer = (len(a.text) - len(b.text)) / total if total else 0.0
        rows.append((a.policy, b.policy, share, longer, vote.outcome == "both_bad", vote.rater))
    names = sorted({name for row in rows for name in row[:2]})
    place = {name: index for index, name in enumerate(names)}
    raters: dict[str, int] = {}
    return Duels(
        policies=tuple(names),
        left=np.asarray([place[row[0]] for row in rows], dtype=np.int64),
        right=np.asarray([place[row[1]] for row in rows], dtype=np.int64),
        share=np.asarray([row[2] for row in rows], dtype=np.float64),
        longer=np.asarray([row[3] for row in rows], dtype=np.float64),
        both_bad=np.asarray([row[4] for row in rows], dtype=np.bool_),
        raters=np.asarray([raters.setdefault(row[5], len(raters)) for row in rows], dtype=np.int64),
    )
