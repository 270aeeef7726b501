"""The losses of one micro-batch, by the arguments of a run."""

from torch import Tensor

from rlhf.ppo.arguments import PPOArguments
from rlhf.ppo.objectives import (
    approximate_kl,
    clip_fraction,
    clipped_policy_loss,
    clipped_value_loss,
    k2_loss,
    probability_ratio,
)
from rlhf.rollouts.rollout import MicroBatch, PerToken


def policy_loss(new: PerToken, inputs: MicroBatch, args: PPOArguments) -> Tensor:
    """The clipped surrogate of logprobs ``new``, with the KL where it is placed in the loss."""
    loss = clipped_policy_loss(
        new,
        inputs.old_logprobs,
        inputs.advantages,
        inputs.mask,
        clip_range=args.clip_range,
        clip_range_high=args.clip_range_high,
        dual_clip=args.dual_clip,
        weights=inputs.weights,
        num_tokens=inputs.num_tokens,
    )
    if not inputs.kl_weight:
        return loss
    kl = k2_loss(
        new,
        inputs.ref_logprobs,
        inputs.mask,
        weights=inputs.weights,
        num_tokens=inputs.num_tokens,
    )
    return loss + inputs.kl_weight * kl


def value_loss(values: PerToken, inputs: MicroBatch, args: PPOArguments) -> Tensor:
    """The clipped squared error of ``values``, weighted."""
    return args.vf_coef * clipped_value_loss(
        values,
        inputs.old_values,
        inputs.returns,
        inputs.mask,
        clip_range=args.clip_range_value,
        num_tokens=inputs.num_tokens,
    )


def update_metrics(new: PerToken, inputs: MicroBatch, args: PPOArguments) -> dict[str, Tensor]:
    """How far ``new`` has moved from the logprobs that were sampled, on this micro-batch."""
    old, mask = inputs.old_logprobs, inputs.mask
    log_ratio = probability_ratio(new, old).log().where(mask, 0.0)
    largest = log_ratio.abs().max().exp()
    seen = {
        "policy/approxkl": approximate_kl(new, old, mask),
        "policy/clipfrac": clip_fraction(
            new, old, mask, clip_range=args.clip_range, clip_range_high=args.clip_range_high
        ),
        "policy/max_ratio": largest,
    }
    return seen | ({"policy/first_ratio": largest} if inputs.is_first else {})
