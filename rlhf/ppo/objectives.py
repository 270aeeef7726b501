"""The formulas of PPO: tensors in, tensors out. Masks are boolean and True counts."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PerToken = Float[Tensor, "batch response"]
PerResponse = Float[Tensor, " batch"]
Mask = Bool[Tensor, "batch response"]
Scalar = Float[Tensor, ""]
Number = float | int

_MAX_LOG_RATIO = 20.0
"""exp of more is no ratio that anybody learns from, and overflows in the gradient."""


@dataclass(frozen=True, slots=True)
class Advantages:
    """What the policy and the value learn from."""

    advantages: PerToken
    returns: PerToken


def kl_penalized_rewards(
    scores: PerResponse, logprobs: PerToken, ref_logprobs: PerToken, mask: Mask, *, kl_coef: Number
) -> PerToken:
    """``-kl_coef * (log pi - log pi_ref)`` on every token, plus the score on the last that counts.

    Ziegler et al. 2019, eq. 2, spread over tokens. A token's advantage so holds the KL that follows
    it, and the optimum is ``pi_ref * exp(score / kl_coef)`` over whole responses; an estimate of KL
    in the loss, token by token, would forget what a token leads to. A row where nothing counts has
    no reward.
    """
    rewards = (-kl_coef * (logprobs - ref_logprobs)).where(mask, 0.0)
    to_come = mask.flip(1).cumsum(1).flip(1)
    return rewards + scores.unsqueeze(1).where(mask & (to_come == 1), 0.0)


def gae(
    rewards: PerToken,
    values: PerToken,
    mask: Mask,
    *,
    gamma: Number,
    lam: Number,
    lam_value: Number | None = None,
) -> Advantages:
    """Generalized advantage estimation (Schulman et al. 2016, eq. 16) over the slots that count.

    A slot that does not count is skipped wherever it lies, as if it had been cut out; there
    advantages and returns are 0. ``lam_value`` is the lambda of the returns where it differs
    (decoupled GAE, Yuan et al. 2025).
    """
    advantages = _accumulate(rewards, values, mask, gamma, lam)
    towards = advantages
    if lam_value is not None and lam_value != lam:
        towards = _accumulate(rewards, values, mask, gamma, lam_value)
    return Advantages(advantages, (towards + values).where(mask, 0.0))


def _accumulate(
    rewards: PerToken, values: PerToken, mask: Mask, gamma: Number, lam: Number
) -> PerToken:
    """Sums of ``(gamma * lam) ** k`` times the k-th next temporal difference, from the right."""
    advantage = next_value = rewards.new_zeros(len(rewards))
    columns: list[Tensor] = []
    for t in reversed(range(rewards.shape[1])):
        counts = mask[:, t]
        difference = rewards[:, t] + gamma * next_value - values[:, t]
        advantage = (difference + gamma * lam * advantage).where(counts, advantage)
        next_value = values[:, t].where(counts, next_value)
        columns.append(advantage.where(counts, 0.0))
    return torch.stack(columns[::-1], dim=1)


def masked_mean(x: PerToken, mask: Mask, *, num_tokens: int | None = None) -> Scalar:
    """Mean of ``x`` over the tokens that count; 0 where none does.

    ``num_tokens`` replaces their number where the batch is a piece of a larger one, so that the
    pieces add up to the mean over the whole.
    """
    count = mask.sum().clamp(min=1) if num_tokens is None else num_tokens
    return x.where(mask, 0.0).sum() / count


def whiten(x: PerToken, mask: Mask) -> PerToken:
    """``x`` with mean 0 and variance 1 over the tokens that count, and 0 elsewhere.

    Where all of them are equal they become 0.
    """
    centred = x - masked_mean(x, mask)
    scale = (masked_mean(centred.square(), mask) + 1e-8).rsqrt()
    return (centred * scale).where(mask, 0.0)


def probability_ratio(logprobs: PerToken, old_logprobs: PerToken) -> PerToken:
    """Pi / pi_old, finite whatever the logprobs."""
    return (logprobs - old_logprobs).clamp(-_MAX_LOG_RATIO, _MAX_LOG_RATIO).exp()


def truncated_importance_weights(
    logprobs: PerToken, sampler_logprobs: PerToken, mask: Mask, *, cap: Number
) -> PerToken:
    """``min(pi / pi_sampler, cap)`` on every token that counts, and 0 elsewhere.

    What another engine or another precision sampled is off-policy; so weighted, a token teaches
    what the trainer's own would (Yao et al. 2025, "Your efficient RL framework secretly brings you
    off-policy RL training"). That the tokens before it were drawn by the sampler too is not made up
    for: over responses a bias is left, which shrinks with the distance of the two.
    """
    ratio = probability_ratio(logprobs.where(mask, 0.0), sampler_logprobs.where(mask, 0.0))
    return ratio.clamp(max=cap).where(mask, 0.0)


def clipped_policy_loss(
    logprobs: PerToken,
    old_logprobs: PerToken,
    advantages: PerToken,
    mask: Mask,
    *,
    clip_range: Number,
    clip_range_high: Number | None = None,
    dual_clip: Number | None = None,
    weights: PerToken | None = None,
    num_tokens: int | None = None,
) -> Scalar:
    """The clipped surrogate, negated so that smaller is better. Schulman et al. 2017, eq. 7.

    ``clip_range_high`` bounds the ratio from above where it differs (Yu et al. 2025, eq. 10);
    ``dual_clip`` bounds the loss of a bad action at ``-dual_clip * advantage`` (Ye et al. 2020,
    eq. 5); ``weights`` are those of :func:`truncated_importance_weights`; for ``num_tokens`` see
    :func:`masked_mean`.
    """
    # padding is cut off before it is multiplied: backward would make 0 * NaN of it
    advantages = advantages.where(mask, 0.0)
    ratio = probability_ratio(logprobs.where(mask, 0.0), old_logprobs.where(mask, 0.0))
    high = clip_range if clip_range_high is None else clip_range_high
    surrogate = torch.minimum(
        ratio * advantages, ratio.clamp(1 - clip_range, 1 + high) * advantages
    )
    if dual_clip is not None:
        bounded = torch.maximum(surrogate, dual_clip * advantages)
        surrogate = bounded.where(advantages < 0, surrogate)
    surrogate = surrogate if weights is None else surrogate * weights
    return -masked_mean(surrogate, mask, num_tokens=num_tokens)


def clip_fraction(
    logprobs: PerToken,
    old_logprobs: PerToken,
    mask: Mask,
    *,
    clip_range: Number,
    clip_range_high: Number | None = None,
) -> Scalar:
    """Share of the tokens whose probability ratio is outside of :func:`clipped_policy_loss`'s."""
    ratio = probability_ratio(logprobs, old_logprobs)
    above = clip_range_high if clip_range_high is not None else clip_range
    return masked_mean(((ratio < 1 - clip_range) | (ratio > 1 + above)).float(), mask)


def clipped_value_loss(
    values: PerToken,
    old_values: PerToken,
    returns: PerToken,
    mask: Mask,
    *,
    clip_range: Number | None,
    num_tokens: int | None = None,
) -> Scalar:
    """Half the squared error, or that of the value clipped around the old one if it is larger.

    Schulman et al. 2016 with the clipping of OpenAI's baselines; ``clip_range`` None does not clip.
    """
    values, old_values, returns = (x.where(mask, 0.0) for x in (values, old_values, returns))
    error = (values - returns).square()
    if clip_range is not None:
        clipped = torch.clamp(values, old_values - clip_range, old_values + clip_range)
        error = torch.maximum(error, (clipped - returns).square())
    return 0.5 * masked_mean(error, mask, num_tokens=num_tokens)


def overlong_penalty(
    lengths: Int[Tensor, " batch"],
    finished: Bool[Tensor, " batch"],
    *,
    max_new_tokens: int,
    buffer: int,
) -> PerResponse:
    """What of the penalty for being cut off each response bears, from 0 to 1.

    All of it where it was cut off; of the others those that end within the last ``buffer`` tokens
    bear it in proportion (Yu et al. 2025, eq. 13).
    """
    into = (lengths - (max_new_tokens - buffer)).clamp(min=0) / max(buffer, 1)
    return torch.where(finished, into, 1.0)


def approximate_kl(logprobs: PerToken, old_logprobs: PerToken, mask: Mask) -> Scalar:
    """k3, in nats per token: how far a policy is from the one that sampled. Schulman 2020."""
    ratio = probability_ratio(logprobs, old_logprobs)
    return masked_mean(ratio - 1 - ratio.log(), mask)


def adapted_kl_coef(
    kl_coef: Number, kl: Number, *, target: Number, horizon: Number, num_responses: int
) -> Number:
    """``kl_coef`` moved towards what holds the KL per response at ``target``.

    Ziegler et al. 2019, section 2.2: the proportional error is clipped at ±0.2.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return kl_coef * (1 + error * num_responses / horizon)


def explained_variance(values: PerToken, returns: PerToken, mask: Mask) -> Scalar:
    """1 - Var(returns - values) / Var(returns): 1 for a perfect value, 0 for a constant one."""
    left = returns - values
    unexplained = masked_mean((left - masked_mean(left, mask)).square(), mask)
    total = masked_mean((returns - masked_mean(returns, mask)).square(), mask)
    return 1 - unexplained / total.clamp(min=1e-8)
