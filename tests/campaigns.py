"""Simulated campaigns whose truth is known, for the leaderboard's tests; simulated, not people."""

import numpy as np

from rlhf.records import Comparison, Prompt, Response, Vote

POLICIES = ("base", "dpo", "ppo", "sft")
STRENGTHS = np.array([0.0, 0.8, 1.2, 0.4])
LEFT = 0.25
"""Logits that standing on the left is worth."""
TIES = 0.15
RATER_SD = 0.6
"""Logits by which raters differ in their liking of a policy."""


def pair_up(policies=POLICIES, prompts=2):
    """Comparisons of every two policies on a few prompts, with responses of varied length."""
    return [
        Comparison(
            Prompt.from_text(f"prompt {prompt}"),
            Response("x" * (5 + (7 * prompt + 3 * i) % 11), policies[i]),
            Response("y" * (5 + (4 * prompt + 5 * j) % 13), policies[j]),
        )
        for prompt in range(prompts)
        for i in range(len(policies))
        for j in range(i)
    ]


def chance(logits):
    return 1 / (1 + np.exp(-logits))


def campaign(comparisons, seed, *, raters=20, votes=40, left=LEFT, sizes=None):
    """Votes by raters with tastes of their own, sides drawn per vote, a share of them ties."""
    draw = np.random.default_rng(seed)
    place = {name: index for index, name in enumerate(POLICIES)}
    pairs = [(place[c.response_a.policy], place[c.response_b.policy]) for c in comparisons]
    found = []
    for rater in range(raters):
        taste = STRENGTHS + draw.normal(0, RATER_SD, len(POLICIES))
        given = votes if sizes is None else sizes[rater]
        for which in draw.integers(len(comparisons), size=given):
            a, b = pairs[which]
            a_left = draw.random() < 0.5
            logits = taste[a] - taste[b] + (left if a_left else -left)
            outcome = "a" if draw.random() < chance(logits) else "b"
            if draw.random() < TIES:
                outcome = "tie"
            side = "left" if a_left else "right"
            found.append(Vote(comparisons[which].id, f"rater {rater}", outcome, side))
    return found


def truth(left=LEFT):
    """Strengths about their mean, and the logits of the left side, of infinitely many raters.

    What one such campaign estimates: the model's fit to the expected votes. It is smaller than
    what each rater feels, because raters disagree and ties count half. Newton's method.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    size = len(POLICIES)
    rows, expected = [], []
    for i in range(size):
        for j in range(size):
            if i != j:
                row = np.zeros(size + 1)
                row[i], row[j], row[size] = 1, -1, 1
                logits = STRENGTHS[i] - STRENGTHS[j] + left + np.sqrt(2) * RATER_SD * nodes
                wins = (chance(logits) * weights).sum() / weights.sum()
                rows.append(row)
                expected.append((1 - TIES) * wins + TIES / 2)
    x, y = np.array(rows), np.array(expected)
    beta = np.zeros(size + 1)
    for _ in range(50):
        p = chance(x @ beta)
        hessian = (x * (p * (1 - p))[:, None]).T @ x
        beta += np.linalg.pinv(hessian) @ (x.T @ (y - p))
    return beta[:size] - beta[:size].mean(), beta[size]


def coverage(board_of, campaigns, **options):
    """How often the intervals of strength, difference and side hold the truth."""
    comparisons = pair_up()
    strengths, left = truth(options.get("left", LEFT))
    true = dict(zip(POLICIES, strengths, strict=True))
    hits = {"strength": [], "at equal length": [], "difference": [], "left": []}
    for seed in range(campaigns):
        board = board_of(comparisons, campaign(comparisons, seed, **options))

        def holds(estimate, value):
            return estimate.low <= value <= estimate.high

        for standing in board.standings:
            hits["strength"].append(holds(standing.strength, true[standing.policy]))
            hits["at equal length"].append(holds(standing.at_equal_length, true[standing.policy]))
        for gap in board.differences:
            hits["difference"].append(holds(gap.logits, true[gap.better] - true[gap.worse]))
        hits["left"].append(holds(board.left_wins, chance(left)))
    return {name: float(np.mean(held)) for name, held in hits.items()}
