"""What a reward may say, how several become one number, and in which units that is counted."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from rlhf.errors import RewardError
from rlhf.model.heads import ScoreHead
from rlhf.model.scoring import sequences
from rlhf.rollouts.distributed import Mean, Means
from rlhf.rollouts.normaliser import Conversion, RewardNormaliser
from rlhf.rollouts.rewards import CallableReward, Drawn, Rewards, distinct_names

NAN = math.nan
ROWS = [{"prompt": f"question {i}"} for i in range(3)]
DRAWN = Drawn(
    ROWS,
    [[1]] * 3,
    [[2]] * 3,
    ["a", "b", "c"],
    sequences([[1]] * 3, [[2]] * 3, pad_id=0, device=torch.device("cpu")),
)


def score(given, name="polite"):
    return CallableReward(name, lambda **_: given).score(DRAWN, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("judged", [None, NAN, np.float32("nan"), torch.tensor(NAN)])
def test_none_and_nan_say_that_a_response_is_not_judged(judged):
    assert_close(score([1, judged, True]), torch.tensor([1.0, NAN, 1.0]), equal_nan=True)


@pytest.mark.parametrize("given", [torch.tensor([1.0, 2.0, 3.0]), np.arange(1, 4), (1, 2, 3)])
def test_numbers_may_come_in_any_sequence(given):
    assert_close(score(given), torch.tensor([1.0, 2.0, 3.0]))


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e39, -2e15, 10**400, np.float64("inf")])
def test_what_fp32_cannot_train_on_stops_with_the_function_the_prompt_and_the_value(value):
    with pytest.raises(RewardError) as caught:
        score([0.0, value, 1.0])
    for part in ("'polite'", "'question 1'", repr(value), "between"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([1.0, 2.0], "2 numbers for 3 responses"),
        ([1.0] * 4, "4 numbers for 3 responses"),
        (None, "gave None; it must give a list"),
        (1.5, "gave 1.5; it must give a list"),
        (["1.0", 2.0, 3.0], "gave '1.0' for a response to 'question 0'"),
        ([1.0, [2.0], 3.0], r"gave \[2.0\] for a response to 'question 1'"),
        ([1.0, 2.0, 1j], "gave 1j for a response to 'question 2'"),
        ([torch.ones(2), 2.0, 3.0], "gave tensor"),
    ],
)
def test_what_is_no_number_for_each_response_is_refused(given, words):
    with pytest.raises(RewardError, match=f"reward 'polite' {words.removeprefix('gave ')}|{words}"):
        score(given)


def rewards(*weights: float) -> Rewards:
    return Rewards(None, [len] * len(weights), list(weights), "")  # type: ignore[arg-type,list-item]


def test_a_score_is_the_weighted_sum_of_the_rewards_that_judge_a_response():
    columns = [torch.tensor([1.0, NAN, 3.0, NAN]), torch.tensor([2.0, 4.0, NAN, NAN])]
    # .5 * 1 + 2 * 2, 2 * 4 alone, .5 * 3 alone, and nobody
    want = torch.tensor([4.5, 8.0, 1.5, NAN])
    assert_close(rewards(0.5, 2.0).combine(columns), want, equal_nan=True)


def test_a_reward_of_no_weight_judges_nothing():
    columns = [torch.tensor([1.0, NAN]), torch.tensor([7.0, 7.0])]
    assert_close(rewards(1.0, 0.0).combine(columns), torch.tensor([1.0, NAN]), equal_nan=True)


def test_no_two_rewards_share_a_name():
    def polite(**_):
        return [1.0]

    assert distinct_names(["runs/a/reward", polite]) == ["reward", "polite"]
    assert distinct_names(["runs/a/reward", "runs/b/reward"]) == ["a/reward", "b/reward"]
    assert distinct_names(["x/reward", "y/x/reward"]) == ["x/reward", "y/x/reward"]
    assert distinct_names(["runs/reward", "runs/reward"]) == ["reward", "reward (2)"]
    assert distinct_names([polite, polite, "runs/polite"]) == [
        "polite",
        "polite (2)",
        "runs/polite",
    ]
    names = distinct_names([polite, polite, "runs/polite", "polite", "other/polite (2)"])
    assert len(set(names)) == 5


def units(normaliser: RewardNormaliser) -> tuple[float | None, float]:
    return normaliser.mean, normaliser.std


def test_units_are_of_the_first_scores_that_were_judged_and_are_then_frozen():
    ours = RewardNormaliser("frozen", num_needed=4)
    assert ours.fit(torch.tensor([1.0, NAN, 3.0, NAN]))
    assert units(ours) == (2.0, 1.0)  # of two responses, until there are four
    assert not ours.is_frozen
    assert ours.fit(torch.tensor([NAN, 5.0, 7.0]))
    assert ours.mean == 4.0
    assert ours.std == pytest.approx(math.sqrt(5))  # of 1, 3, 5, 7
    assert ours.is_frozen
    assert not ours.fit(torch.tensor([100.0, 200.0]))
    assert_close(ours.apply(torch.tensor([4.0, NAN])), torch.tensor([0.0, NAN]), equal_nan=True)


@pytest.mark.parametrize("same", [0.0, 3.0, -1e6])
def test_scores_that_are_all_the_same_are_not_blown_up_and_are_fitted_again(same, caplog):
    ours = RewardNormaliser("frozen", num_needed=2)
    ours.fit(torch.full((2,), same))
    assert units(ours) == (same, 1.0)
    assert not ours.is_frozen
    assert_close(ours.apply(torch.tensor([same, same + 1])), torch.tensor([0.0, 1.0]))
    [said] = [r.message for r in caplog.records]
    assert "2 responses in a row have the same score" in said
    ours.fit(torch.tensor([0.0, 4.0]))
    assert units(ours) == (2.0, 2.0)  # of these alone: the others told nothing of the spread
    assert ours.is_frozen


def test_without_a_norm_scores_stay_as_they_are():
    ours = RewardNormaliser("none", num_needed=2)
    raw = torch.tensor([0.1, 1e6])
    assert torch.equal(ours.apply(raw), raw)
    ours.fit(raw)
    assert torch.equal(ours.apply(raw), raw)


def test_a_head_in_other_units_foretells_the_same_score():
    head, states = ScoreHead(4), torch.randn(5, 4)
    before = head(states) * 2.0 + 3.0  # counted from 3 in steps of 2
    to = RewardNormaliser("frozen", 2, mean=-1.0, std=0.5)
    change = Conversion(3.0, 2.0, to)
    after = change.of(head(states))
    change.rescale_head(head)
    assert_close(head(states), after)
    assert_close(after * 0.5 - 1.0, before)


def test_a_mean_of_means_is_the_mean_over_all():
    means = Means()
    means.add({"score": Mean.of(torch.tensor([0.0] * 16)), "seconds": 1.0})
    means.add({"score": Mean.of(torch.tensor([1.0, NAN])), "seconds": 3.0})
    means.add({"score": Mean.of(torch.tensor([NAN])), "nothing": Mean.of(torch.tensor([NAN]))})
    assert means.take(torch.device("cpu")) == {"score": 1 / 17, "seconds": 2.0}
    assert means.take(torch.device("cpu")) == {}
