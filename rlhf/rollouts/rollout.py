"""What one pass of PPO learns from: responses, and what every role says about them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rlhf.model.scoring import Sequences
from rlhf.ppo.objectives import (
    Advantages,
    gae,
    kl_penalized_rewards,
    truncated_importance_weights,
    whiten,
)

PerToken = Float[Tensor, "batch response"]
PerResponse = Float[Tensor, " batch"]

_EVERYTHING = slice(None)


@dataclass(frozen=True, slots=True)
class Rollout:
    """A batch of responses. All per-token tensors are (batch, response)."""

    sequences: Sequences
    finished: Bool[Tensor, " batch"]
    """Whether the response ended with a stop token before it was cut off."""
    scores: PerResponse
    """As PPO uses them: weighted, normalised, clipped, and less the penalty for being cut off."""
    logprobs: PerToken
    """Of the policy before it learns from this, as the trainer computes them."""
    ref_logprobs: PerToken
    entropy: PerToken
    values: PerToken
    sampler_logprobs: PerToken | None = None
    """Of the policy as its sampler computed them, where that was another computation."""

    @property
    def mask(self) -> Bool[Tensor, "batch response"]:
        """Which response tokens exist."""
        return self.sequences.response_mask

    @property
    def kl(self) -> PerResponse:
        """k1: the sum of log pi - log pi_ref over each response; its mean estimates the KL."""
        return (self.logprobs - self.ref_logprobs).where(self.mask, 0.0).sum(dim=1)

    @property
    def k3(self) -> PerResponse:
        """k3 (Schulman 2020): never negative and less noisy than k1, for logging only."""
        ratio = self.ref_logprobs - self.logprobs
        return (ratio.exp() - 1 - ratio).where(self.mask, 0.0).sum(dim=1)

    def weights(self, cap: float | None) -> PerToken | None:
        """What each token's policy loss is multiplied by; None where the sampler is exact."""
        if cap is None or self.sampler_logprobs is None:
            return None
        return truncated_importance_weights(
            self.logprobs, self.sampler_logprobs, self.mask, cap=cap
        )

    def advantages(
        self, *, kl_coef: float, gamma: float, lam: float, lam_value: float, whitened: bool
    ) -> Advantages:
        """Advantages and returns of every token, whitened over the whole rollout if asked for."""
        rewards = kl_penalized_rewards(
            self.scores, self.logprobs, self.ref_logprobs, self.mask, kl_coef=kl_coef
        )
        result = gae(rewards, self.values, self.mask, gamma=gamma, lam=lam, lam_value=lam_value)
        if not whitened:
            return result
        return replace(result, advantages=whiten(result.advantages, self.mask))


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """A piece of an optimizer step: what is learnt, on which tokens."""

    sequences: Sequences
    old_logprobs: PerToken
    old_values: PerToken
    advantages: PerToken
    returns: PerToken
    num_tokens: int
    """Response tokens in the whole optimizer step, over which its losses are means."""
    weights: PerToken | None = None
    """Of each token in the policy's loss; None for 1."""
    trains_policy: bool = True
    """False while only the value learns."""
    is_first: bool = False
    """Whether the policy has not moved since it sampled this."""

    @property
    def mask(self) -> Bool[Tensor, "batch response"]:
        """Which response tokens exist."""
        return self.sequences.response_mask


def micro_batches(
    rollout: Rollout,
    advantages: Advantages,
    *,
    num_mini_batches: int,
    micro_batch_size: int,
    order: Sequence[int],
    is_cap: float | None = None,
    share: slice = _EVERYTHING,
) -> Iterator[MicroBatch]:
    """One pass over the rollout in ``order``: optimizer steps of equal size, in pieces.

    Inside a step, rows of similar length share a piece; a piece is no wider than its longest row.
    ``is_cap`` bounds the weights of tokens that another computation sampled (None: they have none).
    ``share`` is what this process learns of a step's rows, by length.
    """
    size = len(order) // num_mini_batches
    weights = rollout.weights(is_cap)
    lengths: list[int] = rollout.sequences.mask.sum(dim=1).tolist()
    for start in range(0, size * num_mini_batches, size):
        step = sorted(order[start : start + size], key=lengths.__getitem__)
        num_tokens = int(rollout.mask[step].sum())
        own = step[share]
        for piece in range(0, len(own), micro_batch_size):
            rows = torch.tensor(own[piece : piece + micro_batch_size], device=rollout.mask.device)
            taken = select(rollout.sequences, rows)
            width = taken.response_mask.shape[1]
            yield MicroBatch(
                sequences=taken,
                old_logprobs=rollout.logprobs[rows, :width],
                old_values=rollout.values[rows, :width],
                advantages=advantages.advantages[rows, :width],
                returns=advantages.returns[rows, :width],
                num_tokens=num_tokens,
                weights=None if weights is None else weights[rows, :width],
            )


def select(batch: Sequences, rows: Tensor) -> Sequences:
    """Some rows of ``batch``, without the padding that only the others needed."""
    width = int(batch.mask[rows].sum(dim=1).max())
    longest = max(1, int(batch.response_mask[rows].sum(dim=1).max()))
    return Sequences(
        batch.ids[rows, :width],
        batch.mask[rows, :width],
        batch.where[rows, :longest].clamp(max=width - 1),
        batch.response_mask[rows, :longest],
    )
