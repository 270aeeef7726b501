"""What the best of n responses is worth, told from the same N responses for every n up to N."""

import math
from collections.abc import Sequence


def best_of(n: int, ranked: Sequence[float]) -> float:
    """The mean over all draws of ``n`` of the given, without repetition, of the best one's value.

    ``ranked`` has the worst first; it need not rise, where something else decided on the ranks. The
    best of n is the one of rank r in C(r - 1, n - 1) of C(N, n) draws, so the mean is unbiased for
    n fresh responses (Nakano et al. 2021, appendix I).
    """
    draws = math.comb(len(ranked), n)
    return sum(math.comb(r, n - 1) / draws * value for r, value in enumerate(ranked))


def kl_of_best(n: int) -> float:
    """KL in nats of the best of n from the policy that drew them, if no two are alike.

    With likely repetitions it is less (Beirami et al. 2024).
    """
    return math.log(n) - (n - 1) / n
