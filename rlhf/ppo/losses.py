"""The losses of one micro-batch, by the arguments of a run."""

from torch import Tensor

from rlhf.ppo.arguments import PPOArguments
from rlhf.ppo.objectives import clipped_policy_loss, clipped_value_loss, masked_mean
from rlhf.rollouts.rollout import MicroBatch, PerToken


def policy_loss(new: PerToken, inputs: MicroBatch, args: PPOArguments) -> Tensor:
    """The clipped surrogate of logprobs ``new``."""
    return clipped_policy_loss(
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
    log_ratio = new - inputs.old_logprobs
    outside = (log_ratio.exp() - 1).abs() > args.clip_range
    largest = log_ratio.where(inputs.mask, 0.0).abs().max().exp()
    seen = {
        "policy/approxkl": masked_mean(log_ratio.exp() - 1 - log_ratio, inputs.mask),
        "policy/clipfrac": masked_mean(outside.float(), inputs.mask),
        "policy/max_ratio": largest,
    }
    return seen | ({"policy/first_ratio": largest} if inputs.is_first else {})
