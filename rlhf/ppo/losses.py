"""The pieces of PPO's optimizer steps, and their losses by the knobs of a run."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from rlhf.config import PPOKnobs
from rlhf.model.scoring import Sequences
from rlhf.ppo.objectives import (
    Advantages,
    approximate_kl,
    clip_fraction,
    clipped_policy_loss,
    clipped_value_loss,
    probability_ratio,
)
from rlhf.rollouts.rollout import PerToken, Rollout, select

_EVERYTHING = slice(None)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """A piece of an optimizer step: what is learnt, on which tokens."""

    sequences: Sequences
    mask: Bool[Tensor, "batch response"]
    """Which response tokens are learnt from."""
    old_logprobs: PerToken
    old_values: PerToken
    advantages: PerToken
    returns: PerToken
    num_tokens: int
    """Those that are learnt from in the whole optimizer step, over which its losses are means."""
    weights: PerToken | None = None
    """Of each token in the policy's loss; None for 1."""
    trains_policy: bool = True
    """False while only the value learns."""
    is_first: bool = False
    """Whether the policy has not moved since it sampled this."""


def micro_batches(
    rollout: Rollout,
    advantages: Advantages,
    *,
    num_mini_batches: int,
    micro_batch_size: int,
    order: Sequence[int],
    weight_cap: float | None = None,
    share: slice = _EVERYTHING,
) -> Iterator[MicroBatch]:
    """One pass over the rollout in ``order``: optimizer steps of equal size, in pieces.

    Inside a step, rows of similar length share a piece; a piece is no wider than its longest row.
    ``weight_cap`` bounds the weights of tokens that another computation sampled; None gives none.
    ``share`` is what this process learns of a step's rows, by length.
    """
    assert rollout.values is not None
    size = len(order) // num_mini_batches
    weights, learnt = rollout.weights(weight_cap), rollout.learnt
    lengths: list[int] = rollout.sequences.mask.sum(dim=1).tolist()
    for start in range(0, size * num_mini_batches, size):
        step = sorted(order[start : start + size], key=lengths.__getitem__)
        num_tokens = max(1, int(learnt[step].sum()))
        own = step[share]
        for piece in range(0, len(own), micro_batch_size):
            rows = torch.tensor(own[piece : piece + micro_batch_size], device=rollout.mask.device)
            taken = select(rollout.sequences, rows)
            width = taken.response_mask.shape[1]
            yield MicroBatch(
                sequences=taken,
                mask=learnt[rows, :width],
                old_logprobs=rollout.logprobs[rows, :width],
                old_values=rollout.values[rows, :width],
                advantages=advantages.advantages[rows, :width],
                returns=advantages.returns[rows, :width],
                num_tokens=num_tokens,
                weights=None if weights is None else weights[rows, :width],
            )


def policy_loss(new: PerToken, inputs: MicroBatch, knobs: PPOKnobs) -> Tensor:
    """The clipped surrogate of logprobs ``new``."""
    return clipped_policy_loss(
        new,
        inputs.old_logprobs,
        inputs.advantages,
        inputs.mask,
        clip_range=knobs.clip_range,
        clip_range_high=knobs.clip_range_high,
        dual_clip=knobs.dual_clip,
        weights=inputs.weights,
        num_tokens=inputs.num_tokens,
    )


def value_loss(values: PerToken, inputs: MicroBatch, knobs: PPOKnobs) -> Tensor:
    """The clipped squared error of ``values``, weighted."""
    return knobs.vf_coef * clipped_value_loss(
        values,
        inputs.old_values,
        inputs.returns,
        inputs.mask,
        clip_range=knobs.clip_range_value,
        num_tokens=inputs.num_tokens,
    )


def update_metrics(new: PerToken, inputs: MicroBatch, knobs: PPOKnobs) -> dict[str, Tensor]:
    """How far ``new`` has moved from the logprobs that were sampled, on this micro-batch."""
    old, mask = inputs.old_logprobs, inputs.mask
    log_ratio = probability_ratio(new, old).log().where(mask, 0.0)
    largest = log_ratio.abs().max().exp()
    seen = {
        "policy/approxkl": approximate_kl(new, old, mask),
        "policy/clipfrac": clip_fraction(
            new, old, mask, clip_range=knobs.clip_range, clip_range_high=knobs.clip_range_high
        ),
        "policy/max_ratio": largest,
    }
    return seen | ({"policy/first_ratio": largest} if inputs.is_first else {})
