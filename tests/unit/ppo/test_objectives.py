import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from rlhf.ppo.objectives import (
    adapted_kl_coef,
    approximate_kl,
    clip_fraction,
    clipped_policy_loss,
    clipped_value_loss,
    explained_variance,
    gae,
    kl_penalized_rewards,
    masked_mean,
    overlong_penalty,
    truncated_importance_weights,
    whiten,
)
from tests import oracles

NAN = float("nan")


def row(*numbers):
    return torch.tensor([numbers], dtype=torch.float64)


def mask(*counts):
    return torch.tensor([counts], dtype=torch.bool)


def kept(x, where):
    return [float(v) for v, m in zip(x[0], where[0], strict=True) if m]


number = st.floats(-3, 3, width=32)
unit = st.floats(0, 1, width=32)


@st.composite
def episodes(draw, columns=2, at_least=1):
    """Rows of numbers with a mask that keeps at least so many slots; the others hold NaN."""
    width = draw(st.integers(at_least, 7))
    where = draw(st.lists(st.booleans(), min_size=width, max_size=width))
    for i in range(at_least):
        where[i] = True
    where = draw(st.permutations(where))
    rows = [row(*(draw(number) if keep else NAN for keep in where)) for _ in range(columns)]
    return mask(*where), *rows


def test_score_lands_on_the_last_token_that_counts():
    rewards = kl_penalized_rewards(
        torch.tensor([2.0], dtype=torch.float64),
        row(-1.0, -2.0, 9.0),
        row(-1.5, -1.5, 9.0),
        mask(1, 1, 0),
        kl_coef=0.1,
    )
    # -0.1 * (-1.0 + 1.5) = -0.05 ; -0.1 * (-2.0 + 1.5) + 2.0 = 2.05
    assert_close(rewards, row(-0.05, 2.05, 0.0))


@given(episodes(at_least=0), number, unit)
def test_rewards_agree_with_the_paper_whatever_the_padding_holds(episode, score, kl_coef):
    where, logprobs, ref = episode
    scores = torch.tensor([score], dtype=torch.float64)
    rewards = kl_penalized_rewards(scores, logprobs, ref, where, kl_coef=kl_coef)
    want = oracles.kl_penalized_rewards(score, kept(logprobs, where), kept(ref, where), kl_coef)
    assert kept(rewards, where) == pytest.approx(want, abs=1e-9)
    assert not rewards[~where].any()


def test_gae_by_hand():
    both = gae(row(0, 0, 1, 0), row(0, 1, 2, 3), mask(1, 1, 1, 1), gamma=0.5, lam=0.0)
    assert_close(both.advantages, row(0.5, 0, 0.5, -3))
    last = row(0, 0, 0, 1)
    returns = gae(last, last, mask(1, 1, 1, 1), gamma=0.9, lam=0.95).returns
    # from the left: 0.9 * (1 - 0.855 * 0 ...), worked out in the paper's order
    assert_close(returns, row(0.657923, 0.7695, 0.9, 1), atol=1e-6, rtol=0)  # rounded by hand


def test_a_gap_equals_the_gap_removed_and_an_empty_row_is_fine():
    rewards = torch.tensor([[1.0, NAN, 2.0], [NAN, NAN, NAN]])
    values = torch.tensor([[0.5, 999.0, -1.0], [1.0, 1.0, 1.0]])
    where = torch.tensor([[True, False, True], [False, False, False]])
    result = gae(rewards, values, where, gamma=0.9, lam=0.8)
    short = gae(
        torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, -1.0]]), mask(1, 1), gamma=0.9, lam=0.8
    )
    assert_close(result.advantages[0, [0, 2]], short.advantages[0])
    assert not result.advantages[1].any()
    assert not result.returns[1].any()


@given(episodes(), unit, unit, unit)
def test_gae_agrees_with_the_paper_and_skips_what_does_not_count(episode, gamma, lam, lam_value):
    where, rewards, values = episode
    result = gae(rewards, values, where, gamma=gamma, lam=lam, lam_value=lam_value)
    r, v = kept(rewards, where), kept(values, where)
    assert kept(result.advantages, where) == pytest.approx(oracles.gae(r, v, gamma, lam), abs=1e-9)
    towards = [a + b for a, b in zip(oracles.gae(r, v, gamma, lam_value), v, strict=True)]
    assert kept(result.returns, where) == pytest.approx(towards, abs=1e-9)


@given(episodes(), unit)
def test_with_lambda_one_returns_are_rewards_to_go(episode, gamma):
    where, rewards, values = episode
    returns = gae(rewards, values, where, gamma=gamma, lam=1.0).returns
    want = oracles.rewards_to_go(kept(rewards, where), gamma)
    assert kept(returns, where) == pytest.approx(want, abs=1e-9)


def test_the_mean_counts_only_what_counts():
    assert masked_mean(row(1, NAN, 3), mask(1, 0, 1)) == 2
    assert masked_mean(row(NAN, NAN), mask(0, 0)) == 0


@given(episodes(columns=1, at_least=2))
def test_the_means_of_pieces_add_up_to_the_mean_of_the_whole(episode):
    where, x = episode
    n = int(where.sum())
    pieces = sum(
        masked_mean(x[:, i : i + 1], where[:, i : i + 1], num_tokens=n) for i in range(x.shape[1])
    )
    assert float(pieces) == pytest.approx(oracles.mean(kept(x, where)), abs=1e-9)
    assert float(masked_mean(x, where)) == pytest.approx(float(pieces), abs=1e-9)


def test_whitening_by_hand():
    # mean 2, population variance 1
    assert_close(whiten(row(1, 99, 3), mask(1, 0, 1)), row(-1, 0, 1), atol=1e-7, rtol=0)  # epsilon


@given(episodes(columns=1))
def test_whitening_agrees_with_the_definition(episode):
    where, x = episode
    white = whiten(x, where)
    assert kept(white, where) == pytest.approx(oracles.whiten(kept(x, where)), abs=1e-6)
    assert not white[~where].any()


def test_policy_loss_by_hand():
    def loss(log_ratio, advantage, **more):
        return float(
            clipped_policy_loss(
                row(log_ratio), row(0.0), row(advantage), mask(1), clip_range=0.2, **more
            )
        )

    assert loss(1, 1) == pytest.approx(-1.2)
    assert loss(-1, 1) == pytest.approx(-0.36788, abs=1e-5)
    assert loss(2, -1, dual_clip=3.0) == pytest.approx(3.0)
    assert loss(2, -1) == pytest.approx(math.e**2)
    assert loss(1, 1, clip_range_high=0.28) == pytest.approx(-1.28)
    assert loss(500, 1) == pytest.approx(-1.2)


@given(episodes(columns=3), st.floats(0.05, 0.5), st.floats(0.05, 0.5), st.floats(1.1, 4))
def test_policy_loss_agrees_with_the_paper_case_by_case(episode, low, high, dual):
    where, new, old, advantages = episode
    new_, old_, good = (kept(x, where) for x in (new, old, advantages))
    loss = clipped_policy_loss(
        new, old, advantages, where, clip_range=low, clip_range_high=high, dual_clip=dual
    )
    assert float(loss) == pytest.approx(
        oracles.clipped_policy_loss(new_, old_, good, low, high, dual), rel=1e-9, abs=1e-9
    )


@given(episodes(columns=2))
def test_unchanged_weights_give_minus_the_mean_advantage_and_no_gradient_off_the_mask(episode):
    where, logprobs, advantages = episode
    new = logprobs.clone().requires_grad_()
    loss = clipped_policy_loss(new, new.detach(), advantages, where, clip_range=0.2)
    assert float(loss.detach()) == pytest.approx(-oracles.mean(kept(advantages, where)), abs=1e-9)
    [gradient] = torch.autograd.grad(loss, new)
    assert not gradient[~where].any()
    want = [-a / int(where.sum()) for a in kept(advantages, where)]
    assert kept(gradient, where) == pytest.approx(want, abs=1e-9)


def test_value_loss_by_hand():
    loss = clipped_value_loss(row(2.0), row(1.0), row(3.0), mask(1), clip_range=0.2)
    assert float(loss) == pytest.approx(0.5 * max(1, 3.24))
    assert float(
        clipped_value_loss(row(2.0), row(1.0), row(3.0), mask(1), clip_range=None)
    ) == pytest.approx(0.5)


@given(episodes(columns=3), st.floats(0.05, 1))
def test_value_loss_agrees_with_the_definition(episode, clip_range):
    where, values, old, returns = episode
    now, before, target = (kept(x, where) for x in (values, old, returns))
    loss = clipped_value_loss(values, old, returns, where, clip_range=clip_range)
    assert float(loss) == pytest.approx(
        oracles.clipped_value_loss(now, before, target, clip_range), rel=1e-9, abs=1e-9
    )


@given(episodes(columns=2), st.floats(0.05, 1))
def test_clipping_never_lowers_the_value_loss(episode, clip_range):
    where, values, returns = episode
    old = torch.zeros_like(values)
    clipped = clipped_value_loss(values, old, returns, where, clip_range=clip_range)
    assert clipped >= clipped_value_loss(values, old, returns, where, clip_range=None)


def test_the_kl_coefficient_moves_towards_the_target():
    def adapted(kl):
        return adapted_kl_coef(0.2, kl, target=6, horizon=10000, num_responses=64)

    assert adapted(12) == pytest.approx(0.200256)
    assert adapted(3) == pytest.approx(0.199744)
    assert adapted(6) == 0.2


@given(st.floats(0.01, 1), st.floats(0, 100), st.floats(0.1, 50), st.integers(1, 512))
def test_a_step_of_the_kl_coefficient_is_bounded_and_has_the_sign_of_the_error(coef, kl, target, n):
    new = adapted_kl_coef(coef, kl, target=target, horizon=10000, num_responses=n)
    assert abs(new - coef) <= coef * 0.2 * n / 10000 + 1e-12
    assert (new - coef) * (kl - target) >= 0


def test_explained_variance_by_hand():
    returns, where = row(1, 2, 3, NAN), mask(1, 1, 1, 0)
    assert explained_variance(returns, returns, where) == 1
    assert explained_variance(row(2, 2, 2, 0), returns, where) == 0
    # residuals -1, 0, 1 + ... : values reversed leave four times the variance
    assert float(explained_variance(row(3, 2, 1, 0), returns, where)) == pytest.approx(-3)


@given(episodes(columns=2, at_least=2), number)
def test_a_constant_shift_of_the_values_explains_as_much(episode, shift):
    where, values, returns = episode
    if len(set(kept(returns, where))) < 2 or torch.std(returns[where]) < 1e-2:
        return
    assert float(explained_variance(values + shift, returns, where)) == pytest.approx(
        float(explained_variance(values, returns, where)), abs=1e-6
    )


def test_a_response_bears_the_penalty_by_how_far_it_runs_into_the_buffer():
    lengths = torch.tensor([3, 6, 8, 10, 10])
    finished = torch.tensor([True, True, True, True, False])
    found = overlong_penalty(lengths, finished, max_new_tokens=10, buffer=4)
    assert found.tolist() == [0, 0, 0.5, 1, 1]
    hard = overlong_penalty(lengths, finished, max_new_tokens=10, buffer=0)
    assert hard.tolist() == [0, 0, 0, 0, 1]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=8), st.integers(0, 20))
def test_longer_responses_bear_no_less(lengths, buffer):
    ends = torch.tensor(sorted(lengths))
    found = overlong_penalty(ends, ends < 20, max_new_tokens=20, buffer=buffer)
    assert ((found >= 0) & (found <= 1)).all()
    assert (found.diff() >= 0).all()


def test_importance_weights_by_hand():
    weights = truncated_importance_weights(
        row(math.log(0.5), math.log(0.1), math.log(0.9), NAN),
        row(math.log(0.4), math.log(0.2), math.log(0.1), 3.0),
        mask(1, 1, 1, 0),
        cap=2.0,
    )
    assert_close(weights, row(1.25, 0.5, 2.0, 0.0))  # .5 / .4, .1 / .2, and 9 is cut


@given(episodes(), st.floats(1, 5, width=32))
def test_importance_weights_agree_with_the_paper_whatever_the_padding_holds(episode, cap):
    where, ours, theirs = episode
    weights = truncated_importance_weights(ours, theirs, where, cap=cap)
    want = oracles.truncated_importance_weights(kept(ours, where), kept(theirs, where), cap)
    assert kept(weights, where) == pytest.approx(want, rel=1e-6)
    assert (weights[~where] == 0).all()


@given(st.lists(st.tuples(*[st.floats(0.0625, 1)] * 2, number), min_size=2, max_size=6))
def test_a_weighted_mean_over_the_sampler_is_the_trainers_where_the_cap_cuts_nothing(tokens):
    chances, others, worth = (row(*column) for column in zip(*tokens, strict=True))
    pi, sampler = chances / chances.sum(), others / others.sum()
    where = torch.ones_like(pi, dtype=torch.bool)
    weights = truncated_importance_weights(pi.log(), sampler.log(), where, cap=1e6)
    assert_close((sampler * weights * worth).sum(), (pi * worth).sum())
    cut = truncated_importance_weights(pi.log(), sampler.log(), where, cap=1.0)
    assert (cut <= weights).all()
    assert float((sampler * cut).sum()) <= 1 + 1e-9


@given(episodes(columns=4), st.floats(0.1, 1), st.sampled_from([None, 3.0]))
def test_a_weight_multiplies_the_loss_of_its_token_and_no_other(episode, clip, dual):
    where, logprobs, old, advantages, draws = episode
    weights = draws.abs()
    keys: dict[str, Any] = {"clip_range": clip, "dual_clip": dual, "num_tokens": 1}
    weighted = clipped_policy_loss(logprobs, old, advantages, where, weights=weights, **keys)
    # a positive factor may be taken into the advantage
    inside = clipped_policy_loss(logprobs, old, advantages * weights, where, **keys)
    assert_close(weighted, inside)


def test_the_share_that_is_clipped_knows_both_bounds():
    old = row(0.0, 0.0, 0.0, 0.0, 0.0)
    ratios = torch.tensor([[1.25, 1.25, 1.0, 0.9, 9.0]])
    there = mask(1, 1, 1, 1, 0)
    new = ratios.log().to(old)
    assert clip_fraction(new, old, there, clip_range=0.2, clip_range_high=0.28) == 0
    assert clip_fraction(new, old, there, clip_range=0.2) == 0.5
    assert clip_fraction(new, old, there, clip_range=0.05, clip_range_high=0.28) == 0.25


def test_how_far_a_policy_has_gone_is_a_number_however_far_it_is():
    # exp(1) - 1 - 1 and exp(0) - 1 - 0, over two tokens
    near = approximate_kl(row(1.0, 0.0, 5.0), row(0.0, 0.0, 0.0), mask(1, 1, 0))
    assert_close(near, torch.tensor((math.e - 2) / 2, dtype=torch.float64))
    far = approximate_kl(row(200.0), row(-200.0), mask(1))
    assert far.isfinite()
    assert far > 1e6
