"""Which of two policies wins, and by how much, on the same prompts."""

from collections.abc import Hashable, Sequence

from rlhf.evaluate.intervals import Estimate, bootstrap_mean, proportion


def shares(scores: Sequence[float], others: Sequence[float]) -> list[float]:
    """For each row 1 where the first score is higher, 0.5 for a tie, 0 where it is lower."""
    return [(a > b) + (a == b) / 2 for a, b in zip(scores, others, strict=True)]


def win_rate(wins: Sequence[float], prompts: Sequence[Hashable] | None = None) -> Estimate:
    """How often a policy wins; ``wins`` is 1, 0.5 for a tie, or 0 (or a share of votes) per row.

    ``prompts`` names the prompt of each row where some have several; rows of one are dependent.
    """
    return proportion(wins, None if prompts is None else [(prompt,) for prompt in prompts])


def gain(
    scores: Sequence[float],
    others: Sequence[float],
    prompts: Sequence[Hashable] | None = None,
    seed: int = 0,
) -> Estimate:
    """Mean paired difference between two policies' scores, with a bootstrap over prompts."""
    differences = [a - b for a, b in zip(scores, others, strict=True)]
    return bootstrap_mean(differences, prompts, seed=seed)
