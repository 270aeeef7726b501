"""The price of KL on answers of several tokens, in a world whose optimum is known."""

import pytest
import torch
from torch.testing import assert_close

from rlhf.model.scoring import Sequences
from rlhf.ppo.objectives import (
    clipped_policy_loss,
    clipped_value_loss,
    gae,
    kl_penalized_rewards,
    whiten,
)
from rlhf.rollouts.rollout import Rollout
from tests import oracles
from tests.trees import KL_COEF, NAN, Tree


def gradient_of_the_objective(tree, logits):
    """Of E[score] - kl_coef * KL over all answers."""
    logits = logits.detach().requires_grad_()
    chances, reference = tree.chances(logits), tree.chances(tree.reference)
    kl = (chances * (chances / reference).log()).sum()
    [gradient] = torch.autograd.grad((chances * tree.scores).sum() - KL_COEF * kl, logits)
    return gradient


def expected_gradient(tree, logits, values, lam, gap):
    """Of the loss on one answer, in the mean over answers as the policy draws them."""
    logits = logits.detach().requires_grad_()
    new, ref = tree.logprobs(logits), tree.logprobs(tree.reference)
    mask = tree.mask
    values = values[tree.states].where(mask, NAN)
    if gap:  # a slot between the first token and the second that does not count
        hole = torch.full_like(ref[:, :1], NAN)
        new, ref, values = (torch.cat([x[:, :1], hole, x[:, 1:]], 1) for x in (new, ref, values))
        mask = torch.cat([mask[:, :1], hole > 0, mask[:, 1:]], 1)
    old = new.detach()
    rewards = kl_penalized_rewards(tree.scores, old, ref, mask, kl_coef=KL_COEF)
    advantages = gae(rewards, values, mask, gamma=1.0, lam=lam).advantages
    drawn = tree.chances(logits).detach().unsqueeze(1).expand_as(new)
    loss = clipped_policy_loss(
        new, old, advantages, mask, clip_range=0.2, dual_clip=3.0, weights=drawn, num_tokens=1
    )
    [gradient] = torch.autograd.grad(-loss, logits)
    return gradient


def exact_values(tree, logits):
    """Of each prefix: the expected score less the price of the KL that follows."""
    chances, by_token = tree.chances(logits), tree.logprobs(logits)
    price = by_token - tree.logprobs(tree.reference)
    values = torch.zeros(len(tree.prefixes), dtype=torch.float64)
    for number, prefix in enumerate(tree.prefixes):
        under = [i for i, y in enumerate(tree.answers) if y[: len(prefix)] == prefix]
        to_come = tree.scores[under] - KL_COEF * price[under, len(prefix) :].nansum(dim=1)
        values[number] = (chances[under] * to_come).sum() / chances[under].sum()
    return values


@pytest.mark.parametrize("gap", [False, True])
def test_the_gradient_is_that_of_the_score_less_the_kl_of_whole_answers(gap):
    tree = Tree(0)
    logits = tree.reference + torch.randn_like(tree.reference)
    want = gradient_of_the_objective(tree, logits)
    anything = torch.randn(len(tree.prefixes), dtype=torch.float64)
    assert want.abs().max() > 0.01
    # with lambda 1 whatever the value; below it with the right one
    assert_close(expected_gradient(tree, logits, anything, 1.0, gap), want, atol=1e-9, rtol=0)
    right = exact_values(tree, logits)
    assert_close(expected_gradient(tree, logits, right, 0.7, gap), want, atol=1e-9, rtol=0)


def test_the_kl_that_is_measured_is_that_of_whole_answers():
    tree = Tree(0)
    logits = tree.reference + torch.randn_like(tree.reference)
    nothing = torch.zeros(tree.mask.shape, dtype=torch.float64)
    rollout = Rollout(
        sequences=Sequences(tree.tokens, tree.mask, tree.tokens, tree.mask),
        finished=tree.mask[:, 0],
        scores=tree.scores,
        logprobs=tree.logprobs(logits),
        ref_logprobs=tree.logprobs(tree.reference),
        entropy=nothing,
        values=nothing,
    )
    chances = tree.chances(logits)
    want = (chances * (chances / tree.chances(tree.reference)).log()).sum()
    assert_close((chances * rollout.kl).sum(), want)
    assert_close((chances * rollout.k3).sum(), want)


def policy_after_ppo(tree, seed, num_rollouts=150, size=256):
    """Two passes over each rollout, a value of its own, defaults elsewhere."""
    random = torch.Generator().manual_seed(seed)
    logits = tree.reference.clone().requires_grad_()
    values = torch.zeros(len(tree.prefixes), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam(
        [{"params": [logits], "lr": 0.02}, {"params": [values], "lr": 0.05}]
    )
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, num_rollouts)
    ref = tree.logprobs(tree.reference)
    for _ in range(num_rollouts):
        drawn = tree.chances(logits.detach()).multinomial(size, True, generator=random)
        mask, states = tree.mask[drawn], tree.states[drawn]
        old, before = tree.logprobs(logits.detach())[drawn], values.detach()[states]
        rewards = kl_penalized_rewards(tree.scores[drawn], old, ref[drawn], mask, kl_coef=KL_COEF)
        learnt = gae(rewards, before, mask, gamma=1.0, lam=0.95, lam_value=1.0)
        advantages = whiten(learnt.advantages, mask)
        for _ in range(2):
            policy = clipped_policy_loss(
                tree.logprobs(logits)[drawn], old, advantages, mask, clip_range=0.2, dual_clip=3.0
            )
            value = clipped_value_loss(values[states], before, learnt.returns, mask, clip_range=0.2)
            optimizer.zero_grad()
            (policy + value).backward()
            optimizer.step()
        decay.step()
    return logits


@pytest.mark.parametrize("seed", range(3))
def test_ppo_reaches_the_optimum_of_a_tree_of_answers(seed):
    tree = Tree(seed)
    logits = dict(zip(tree.prefixes, tree.reference.tolist(), strict=True))
    by_hand = {y: oracles.chance(y, logits) for y in tree.answers}
    assert tree.named(tree.chances(tree.reference)) == pytest.approx(by_hand)
    token_by_token = oracles.policy_of_token_by_token_kl(logits, tree.named(tree.scores), KL_COEF)
    # neither staying nor a KL that forgets what a token leads to would do
    assert oracles.total_variation(by_hand, tree.best) > 0.2
    assert oracles.total_variation(token_by_token, tree.best) > 0.2
    assert tree.distance(policy_after_ppo(tree, seed)) < 0.04
