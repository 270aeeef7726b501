"""The units in which scores are counted, and the value that has to follow them."""

import logging
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from rlhf import processes
from rlhf.model.heads import ScoreHead

_log = logging.getLogger(__name__)
_NO_SPREAD = 1e-6
"""Of the mean, or of 1: what is less is rounding."""


@dataclass(slots=True)
class RewardNormaliser:
    """Mean and deviation of the policy's first scores, in which all later ones are counted.

    They are those of the first ``num_needed`` responses that were judged; before there are as many,
    of those so far. Then they are frozen: by a running deviation a policy that converges would see
    its rewards grow and the price of KL vanish. Scores that are all the same have no deviation:
    they are divided by 1, and the next ``num_needed`` are fitted instead.
    """

    kind: Literal["frozen", "none"]
    """none: scores stay as they are."""
    num_needed: int
    mean: float | None = None
    """None before the first score."""
    std: float = 1.0
    is_frozen: bool = False
    scores: list[float] = field(default_factory=list[float])
    """What is fitted, until it is frozen."""

    def fit(self, raw: Tensor) -> bool:
        """Take in scores, NaN where a response is not judged; whether the units are others now."""
        judged: list[float] = raw[~raw.isnan()].tolist()
        if self.is_frozen or not judged:
            return False
        if self.kind == "none":
            self.mean, self.is_frozen = 0.0, True
            return True
        self.scores += judged
        fitted = torch.tensor(self.scores)
        mean, std = fitted.mean().item(), fitted.std(unbiased=False).item()
        has_spread = std > _NO_SPREAD * max(1.0, abs(mean))
        self.mean, self.std = mean, std if has_spread else 1.0
        if len(self.scores) >= self.num_needed:
            if not has_spread and processes.is_first():
                _log.warning(
                    "%d responses in a row have the same score (%.4g), so nothing tells a good one "
                    "from a bad one; until scores differ they are divided by 1. See that the "
                    "reward can tell responses apart, or raise temperature",
                    len(self.scores),
                    mean,
                )
            self.is_frozen, self.scores = has_spread, []
        return True

    def apply(self, raw: Tensor) -> Tensor:
        """``raw`` in these units; as it is where nothing was fitted."""
        return raw if self.mean is None else (raw - self.mean) / self.std


@dataclass(frozen=True, slots=True)
class Conversion:
    """Numbers counted from ``mean`` in steps of ``std``, counted in the units of ``to`` instead."""

    mean: float
    std: float
    to: RewardNormaliser

    def of(self, numbers: Tensor) -> Tensor:
        """``numbers`` in the new units."""
        assert self.to.mean is not None
        return (numbers * self.std + (self.mean - self.to.mean)) / self.to.std

    @torch.no_grad()
    def rescale_head(self, head: ScoreHead) -> None:
        """Let a head give in the new units what it gives in the old ones."""
        assert self.to.mean is not None
        head.weight.mul_(self.std).div_(self.to.std)
        head.bias.mul_(self.std).add_(self.mean - self.to.mean).div_(self.to.std)
