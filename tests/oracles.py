"""The papers, slowly and literally, in plain Python. Imports nothing of ours."""

import math


def gae(rewards, values, gamma, lam):
    """Schulman et al. 2016, eq. 16: a finite sum of discounted temporal differences."""
    n = len(rewards)
    following = [*values[1:], 0.0]
    deltas = [rewards[t] + gamma * following[t] - values[t] for t in range(n)]
    return [sum((gamma * lam) ** k * deltas[t + k] for k in range(n - t)) for t in range(n)]


def rewards_to_go(rewards, gamma):
    return [sum(gamma**k * r for k, r in enumerate(rewards[t:])) for t in range(len(rewards))]


def kl_penalized_rewards(score, logprobs, ref_logprobs, kl_coef):
    rewards = [-kl_coef * (a - b) for a, b in zip(logprobs, ref_logprobs, strict=True)]
    if rewards:
        rewards[-1] += score
    return rewards


def mean(xs):
    return math.fsum(xs) / len(xs) if xs else 0.0


def whiten(xs):
    mu = mean(xs)
    variance = mean([(x - mu) ** 2 for x in xs])
    return [(x - mu) / math.sqrt(variance + 1e-8) for x in xs]


def clipped_policy_loss(logprobs, old_logprobs, advantages, low, high, dual_clip=None):
    """Schulman et al. 2017, eq. 7, token by token, case by case."""
    losses = []
    for new, old, advantage in zip(logprobs, old_logprobs, advantages, strict=True):
        ratio = math.exp(new - old)
        if advantage >= 0:
            objective = min(ratio, 1 + high) * advantage
        else:
            objective = max(ratio, 1 - low) * advantage
            if dual_clip is not None:
                objective = max(objective, dual_clip * advantage)
        losses.append(-objective)
    return mean(losses)


def truncated_importance_weights(logprobs, sampler_logprobs, cap):
    """Yao et al. 2025: the ratio of two probabilities, or the cap where it is larger."""
    pairs = zip(logprobs, sampler_logprobs, strict=True)
    return [min(math.exp(ours) / math.exp(theirs), cap) for ours, theirs in pairs]


def clipped_value_loss(values, old_values, returns, clip_range):
    losses = []
    for value, old, target in zip(values, old_values, returns, strict=True):
        moved = max(-clip_range, min(clip_range, value - old))
        losses.append(max((value - target) ** 2, (old + moved - target) ** 2) / 2)
    return mean(losses)
