import random
import time
from math import inf, isinf, log
from typing import Any

import evalica
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.genmod.families import Binomial
from statsmodels.genmod.generalized_linear_model import GLM

from rlhf.evaluate.bradley_terry import Votes, fit, is_separated
from rlhf.evaluate.leaderboard import Note, holm, leaderboard
from rlhf.records import Comparison, Prompt, Response, Vote
from tests.campaigns import POLICIES, campaign, chance, coverage, pair_up, truth

TEXTS = {"base": "one", "dpo": "three", "ppo": "five", "sft": "seventeen"}


def comparison(a, b, prompt="hello", texts=TEXTS):
    return Comparison(
        Prompt.from_text(prompt), Response(texts.get(a, a), a), Response(texts.get(b, b), b)
    )


def cast(item, outcomes, raters=("ann", "bob", "cy"), left=lambda number: number % 2 == 0):
    """Votes on one comparison: an outcome each, raters and sides in turn."""
    return [
        Vote(item.id, raters[n % len(raters)], outcome, "left" if left(n) else "right")
        for n, outcome in enumerate(outcomes)
    ]


def kinds(board):
    return [note.kind for note in board.notes]


def test_two_policies_differ_by_the_log_odds_of_winning():
    item = comparison("ppo", "sft")
    # 30 of 40, and on either side 15 of 20: so no position bias
    outcomes = (["a"] * 6 + ["b"] * 2) * 5
    board = leaderboard([item], cast(item, outcomes, raters="pqrstuvwxyz"))
    [gap] = board.differences
    assert (gap.better, gap.worse) == ("ppo", "sft")
    assert gap.logits.value == pytest.approx(log(3), abs=1e-6)
    assert [s.strength.value for s in board.standings] == pytest.approx(
        [log(3) / 2, -log(3) / 2], abs=1e-6
    )
    assert [s.win_share for s in board.standings] == [0.75, 0.25]
    assert board.shares == ((None, 0.75), (0.25, None))
    assert board.counts == ((0, 40), (40, 0))
    assert board.left_wins is not None
    assert board.left_wins.value == pytest.approx(0.5, abs=1e-6)
    assert not board.half_votes
    assert not board.preliminary


def test_a_tie_and_both_bad_are_half_a_win_and_both_bad_is_told_apart():
    item = comparison("ppo", "sft")
    tied = leaderboard([item], cast(item, ["a", "b", "a", "tie", "a", "tie", "b", "tie"]))
    bad = leaderboard([item], cast(item, ["a", "b", "a", "both_bad", "a", "tie", "b", "both_bad"]))
    assert tied.standings[0].strength == bad.standings[0].strength
    assert tied.shares == bad.shares == ((None, 4.5 / 8), (3.5 / 8, None))
    assert tied.both_bad is not None
    assert bad.both_bad is not None
    assert (tied.both_bad.value, bad.both_bad.value) == (0.0, 0.25)
    assert [s.both_bad.value for s in bad.standings] == [0.25, 0.25]


def test_strengths_are_those_of_another_programs_bradley_terry():
    comparisons = pair_up()
    votes = campaign(comparisons, 3, left=0.0)
    # its model has no sides: let each vote be cast once on either side
    mirrored = [
        Vote(v.comparison, v.rater, v.outcome, "left" if v.a_side == "right" else "right")
        for v in votes
    ]
    board = leaderboard(comparisons, votes + mirrored)
    by_id = {c.id: c for c in comparisons}
    winner = {"a": evalica.Winner.X, "b": evalica.Winner.Y, "tie": evalica.Winner.Draw}
    other = evalica.bradley_terry(
        [by_id[v.comparison].response_a.policy for v in votes],
        [by_id[v.comparison].response_b.policy for v in votes],
        [winner[v.outcome] for v in votes],
        tolerance=1e-12,
        limit=10_000,
    ).scores
    expected = np.log(other) - np.log(other).mean()
    for standing in board.standings:
        assert standing.strength.value == pytest.approx(expected[standing.policy], abs=1e-4)


def design(seed=0, votes=400, raters=8):
    draw = np.random.default_rng(seed)
    x = np.column_stack([draw.normal(size=(votes, 2)), np.ones(votes)])
    rater = draw.integers(raters, size=votes)
    taste = draw.normal(0, 0.7, (raters, 3))
    y = (
        draw.random(votes) < chance((x * (np.array([0.5, -0.3, 0.2]) + taste[rater])).sum(1))
    ) * 1.0
    y[draw.random(votes) < 0.2] = 0.5
    return x, y, rater


def test_the_interval_is_that_of_leaving_each_rater_out_in_turn():
    x, y, rater = design()
    found = fit(Votes(x, y, rater), x[:0])
    assert found is not None
    left_out = [GLM(y[rater != r], x[rater != r], Binomial()).fit().params for r in range(8)]
    steps = np.array(left_out) - found.coefficients
    jackknife = 7 / 8 * steps.T @ steps
    # to first order only: the refits move the weights as well
    assert np.sqrt(np.diag(found.covariance)) == pytest.approx(np.sqrt(np.diag(jackknife)), rel=0.1)
    estimate = found.estimate(np.array([1.0, 0.0, 0.0]))
    half = stats.t.ppf(0.975, 7) * np.sqrt(found.covariance[0, 0])
    assert estimate.high - estimate.value == pytest.approx(half)
    assert estimate.value == pytest.approx(GLM(y, x, Binomial()).fit().params[0])
    assert found.p_value(np.array([1.0, 0.0, 0.0])) == pytest.approx(
        2 * stats.t.sf(abs(estimate.value) * stats.t.ppf(0.975, 7) / half, 7)
    )


def test_with_many_raters_the_interval_is_that_of_the_cluster_robust_sandwich():
    x, y, rater = design(seed=1, votes=4000, raters=400)
    found = fit(Votes(x, y, rater), x[:0])
    assert found is not None
    other = GLM(y, x, Binomial()).fit(cov_type="cluster", cov_kwds={"groups": rater})
    assert np.sqrt(np.diag(found.covariance)) == pytest.approx(other.bse, rel=0.02)


def test_repeating_every_vote_of_every_rater_tells_nothing_new():
    comparisons = pair_up()
    votes = campaign(comparisons, 5)
    once, thrice = leaderboard(comparisons, votes), leaderboard(comparisons, votes * 3)
    for one, three in zip(once.standings, thrice.standings, strict=True):
        assert one.strength.low == pytest.approx(three.strength.low, abs=1e-6)
        assert one.rank == three.rank


@given(seed=st.integers(0, 30), data=st.data())
def test_the_board_does_not_care_for_the_order_of_votes_or_which_response_is_called_a(seed, data):
    comparisons = pair_up()
    votes = campaign(comparisons, seed, raters=4, votes=12)
    before = leaderboard(comparisons, votes)
    by_id = {c.id: c for c in comparisons}
    other: dict[str, Any] = {"a": "b", "b": "a", "tie": "tie", "left": "right", "right": "left"}
    swapped = [
        Vote(
            by_id[v.comparison].swapped().id,
            v.rater,
            other[v.outcome],
            other[v.a_side],
        )
        for v in data.draw(st.permutations(votes))
    ]
    after = leaderboard([c.swapped() for c in comparisons], swapped)
    assert [s.policy for s in before.standings] == [s.policy for s in after.standings]
    for one, two in zip(before.standings, after.standings, strict=True):
        assert one.strength.value == pytest.approx(two.strength.value, abs=1e-5)
        assert one.strength.low == pytest.approx(two.strength.low, abs=1e-3)
    assert sum(s.strength.value for s in after.standings) == pytest.approx(0, abs=1e-9)


def test_a_planted_position_bias_is_recovered():
    comparisons = pair_up()
    for left in (-0.8, 0.0, 0.8):
        board = leaderboard(comparisons, campaign(comparisons, 11, raters=60, left=left))
        _, planted = truth(left)
        assert board.left_wins is not None
        assert board.left_wins.low < chance(planted) < board.left_wins.high
        assert board.left_wins.high - board.left_wins.low < 0.1


def test_the_intervals_hold_the_truth_about_19_times_in_20():
    shares = coverage(leaderboard, 100)
    # 100 campaigns: two standard errors are 4.4 points for one estimate
    assert all(0.89 < share < 0.99 for share in shares.values()), shares


def test_what_length_alone_did_is_gone_at_equal_length():
    draw = random.Random(0)
    comparisons, votes = [], []
    for number in range(60):
        # ppo is longer two times in three; the longer response wins five times in six
        a, b = "x" * draw.choice([40, 40, 10]), "y" * 20
        item = Comparison(
            Prompt.from_text(f"prompt {number}"), Response(a, "ppo"), Response(b, "sft")
        )
        comparisons.append(item)
        longer, shorter = ("a", "b") if len(a) > len(b) else ("b", "a")
        votes += cast(
            item, [draw.choice([longer] * 5 + [shorter]) for _ in range(12)], "pqrstuvwxyzo"
        )
    board = leaderboard(comparisons, votes)
    [first, _] = board.standings
    assert first.policy == "ppo"
    assert first.strength.low > 0.1
    assert first.at_equal_length is not None
    assert first.at_equal_length.low < 0 < first.at_equal_length.high
    assert board.length_effect is not None
    assert board.length_effect.low > 1


@given(p_values=st.lists(st.floats(0, 1), min_size=1, max_size=8), level=st.floats(0, 0.99))
def test_holms_adjustment_rejects_what_his_steps_reject(p_values, level):
    # the paper: the smallest against level / m, the next against level / (m - 1), until one holds
    rejected = set()
    for step, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        if (len(p_values) - step) * p_values[index] > level:
            break
        rejected.add(index)
    assert {i for i, p in enumerate(holm(p_values)) if p <= level} == rejected


def test_holms_adjustment_by_hand():
    # 3 x 0.01; 2 x 0.02, not below what came before; 1 x 0.04
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])


def test_policies_share_a_rank_until_they_are_surely_different():
    board = leaderboard(pair_up(), campaign(pair_up(), 2))
    for standing in board.standings:
        surely_better = [
            gap for gap in board.differences if gap.worse == standing.policy and gap.sure
        ]
        assert standing.rank == 1 + len(surely_better)
    assert len({standing.rank for standing in board.standings}) > 1
    assert any(not gap.sure for gap in board.differences)
    for gap in board.differences:
        assert gap.sure == (gap.p < 0.05)
        assert not gap.sure or gap.logits.low > 0, "Holm is stricter than one interval"


def test_a_policy_that_wins_everything_gets_a_finite_strength_and_a_label():
    raters = "abcdefghijklmnopqrstuvwxyz"[:24]
    item, other = comparison("ppo", "sft"), comparison("sft", "base")
    votes = cast(item, ["a"] * 24, raters) + cast(other, ["a", "a", "b", "b"] * 6, raters)
    board = leaderboard([item, other], votes)
    assert board.half_votes
    assert "half_votes" in kinds(board)
    assert board.standings[0].policy == "ppo"
    gap = next(g for g in board.differences if (g.better, g.worse) == ("ppo", "sft"))
    # 24 wins of 24 and half a vote each way: the odds are 24.5 to 0.5
    assert gap.logits.value == pytest.approx(log(24.5 / 0.5), abs=1e-4)
    # the exact interval of 24 of 24 starts at 0.858, which is 1.8 logits
    assert 0 < gap.logits.low < 1.8
    assert gap.sure


def test_nothing_but_ties_is_not_certainty():
    item = comparison("ppo", "sft")
    board = leaderboard([item], cast(item, ["tie"] * 12))
    [gap] = board.differences
    assert gap.logits.value == pytest.approx(0, abs=1e-9)
    assert gap.logits.high > 0.5
    assert board.half_votes
    assert [s.rank for s in board.standings] == [1, 1]


def test_without_votes_between_two_named_policies_there_is_no_board():
    for names in (("", ""), ("ppo", "ppo"), ("ppo", "")):
        item = comparison(*names)
        board = leaderboard([item], cast(item, ["a", "b"]))
        assert board.standings == ()
        assert board.notes == (Note("none"), Note("unnamed", {"count": 2}))
    assert leaderboard([], []).notes == (Note("none"),)


def test_skips_do_not_count():
    item = comparison("ppo", "sft")
    with_skips = leaderboard([item], cast(item, ["a", "b", "a"]) + cast(item, ["skip"] * 3))
    assert with_skips == leaderboard([item], cast(item, ["a", "b", "a"]))
    assert leaderboard([item], cast(item, ["skip"])).votes == 0


def test_one_rater_gives_strengths_without_intervals():
    item = comparison("ppo", "sft")
    board = leaderboard([item], cast(item, ["a", "a", "a", "b", "b", "a", "a", "a"], ["ann"]))
    assert "one_rater" in kinds(board)
    [first, second] = board.standings
    assert first.policy == "ppo"
    assert first.strength.value == pytest.approx(log(3) / 2, abs=1e-6)
    assert isinf(first.strength.high)
    assert (first.rank, second.rank) == (1, 1)
    assert board.preliminary
    assert board.left_wins is not None
    assert (board.left_wins.low, board.left_wins.high) == (0.0, 1.0)


def test_fewer_than_ten_raters_are_preliminary():
    comparisons = pair_up()
    nine = leaderboard(comparisons, campaign(comparisons, 0, raters=9))
    assert nine.preliminary
    assert nine.notes == (Note("preliminary", {"raters": 9, "wanted": 10}),)
    ten = leaderboard(comparisons, campaign(comparisons, 0, raters=10))
    assert (ten.preliminary, ten.notes) == (False, ())


def test_policies_that_no_vote_links_to_the_rest_are_left_out_by_name():
    main, apart = comparison("ppo", "sft"), comparison("dpo", "base")
    votes = cast(main, ["a", "b", "a", "a", "b", "a"]) + cast(apart, ["a", "b"])
    board = leaderboard([main, apart], votes)
    assert [s.policy for s in board.standings] == ["ppo", "sft"]
    assert board.votes == 6
    assert Note("unlinked", {"names": "base, dpo"}) in board.notes


def test_where_sides_were_never_swapped_no_bias_is_told():
    item = comparison("ppo", "sft")
    votes = cast(item, ["a", "a", "b", "a", "a", "b"], left=lambda _: True)
    board = leaderboard([item], votes)
    assert board.left_wins is None
    assert board.standings[0].strength.value == pytest.approx(log(2) / 2, abs=1e-6)
    assert "sides" in kinds(board)


def test_where_each_policy_has_its_own_length_length_is_not_told_apart():
    item = comparison("ppo", "sft")
    board = leaderboard([item], cast(item, ["a", "a", "b", "a", "a", "b"]))
    assert board.standings[0].at_equal_length is None
    assert board.length_effect is None
    assert "length" in kinds(board)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([-1, 0, 1]), st.sampled_from([-1, 0, 1]), st.sampled_from([0, 1])
        ),
        min_size=1,
        max_size=8,
    )
)
def test_votes_are_separated_where_a_direction_explains_them_all(rows):
    x = np.array([row[:2] for row in rows], dtype=float)
    y = np.array([row[2] for row in rows], dtype=float)
    if np.linalg.matrix_rank(x) < 2:
        return
    signed = [(s * (2 * t - 1)) for s, t in zip(x, y, strict=True)]
    around = [np.array([np.cos(a), np.sin(a)]) for a in np.arange(0, 2 * np.pi, np.pi / 16)]
    # with entries of -1, 0 and 1 a cone that is not empty has one of these directions in it
    slow = any(all(s @ d > -1e-9 for s in signed) for d in around)
    assert is_separated(x, y) == slow


def test_61000_votes_of_3000_raters_take_seconds():
    comparisons = pair_up(prompts=40)
    votes = campaign(comparisons, 0, raters=3000, sizes=[20 + (r % 2) for r in range(3000)])
    start = time.process_time()
    board = leaderboard(comparisons, votes)
    assert time.process_time() - start < 10
    assert (board.votes, board.raters) == (61_500, 3000)
    expected: dict[str, float] = dict(zip(POLICIES, truth()[0], strict=True))
    for standing in board.standings:
        assert standing.strength.value == pytest.approx(expected[standing.policy], abs=0.08)
    assert -inf < board.standings[0].strength.low
