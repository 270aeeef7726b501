"""A world of 85 answers of one to three tokens, whose best policy is known."""

import functools

import torch
from torch import Tensor

from tests import oracles

NUM_WORDS, LONGEST, KL_COEF = 4, 3, 0.5
NAN = float("nan")


class Tree:
    """85 answers of one to three tokens, each with a score, and logits that are free per prefix."""

    def __init__(self, seed: int) -> None:
        random = torch.Generator().manual_seed(seed)
        self.answers = oracles.answers_of_tree(NUM_WORDS, LONGEST)
        self.prefixes = sorted({y[:t] for y in self.answers for t in range(len(y))})
        number = {prefix: i for i, prefix in enumerate(self.prefixes)}
        shape = (len(self.answers), LONGEST)
        self.mask = torch.zeros(shape, dtype=torch.bool)
        self.states, self.tokens = (torch.zeros(shape, dtype=torch.long) for _ in range(2))
        for i, answer in enumerate(self.answers):
            for t, token in enumerate(answer):
                self.mask[i, t], self.tokens[i, t] = True, token
                self.states[i, t] = number[answer[:t]]
        self.scores = torch.randn(len(self.answers), generator=random, dtype=torch.float64)
        size = (len(self.prefixes), NUM_WORDS + 1)
        self.reference = torch.randn(size, generator=random, dtype=torch.float64)

    def logprobs(self, logits: Tensor) -> Tensor:
        """(answer, token), NaN where an answer has ended."""
        taken = logits.log_softmax(-1)[self.states, self.tokens]
        return taken.where(self.mask, NAN)

    def chances(self, logits: Tensor) -> Tensor:
        return self.logprobs(logits).where(self.mask, 0.0).sum(dim=1).exp()

    def named(self, chances: Tensor) -> dict[tuple[int, ...], float]:
        return dict(zip(self.answers, chances.tolist(), strict=True))

    @functools.cached_property
    def best(self) -> dict[tuple[int, ...], float]:
        reference = self.named(self.chances(self.reference))
        return oracles.best_policy(reference, self.named(self.scores), KL_COEF)

    def distance(self, logits: Tensor) -> float:
        return oracles.total_variation(self.named(self.chances(logits.detach())), self.best)
