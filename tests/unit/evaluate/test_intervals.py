import random
from itertools import product
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlhf.evaluate.intervals import bootstrap_mean, mean, proportion, wilson
from rlhf.evaluate.winrate import gain, shares, win_rate

shares_of = st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=25)


def test_wilsons_interval_is_that_of_the_books():
    # 8 of 10 by hand with z = 1.96: centre (0.8 + 0.19208) / 1.38416, half 1.96 sqrt(.016 + .0096)
    assert wilson(0.8, 10) == pytest.approx((0.4902, 0.9433), abs=5e-5)
    assert wilson(1.0, 20)[1] == 1.0
    assert wilson(1.0, 20)[0] == pytest.approx(20 / (20 + 1.959964**2))


@given(wins=st.lists(st.sampled_from([0.0, 1.0]), min_size=1, max_size=60))
def test_a_share_of_independent_rows_has_scipys_wilson_interval(wins):
    found = proportion(wins)
    oracle = stats.binomtest(int(sum(wins)), len(wins)).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=1e-9)
    assert found.n == len(wins)


@given(values=shares_of, data=st.data())
def test_an_interval_holds_its_value_and_stays_between_0_and_1(values, data):
    keys = st.sampled_from("abcd")
    members = data.draw(
        st.none() | st.lists(st.tuples(keys, keys), min_size=len(values), max_size=len(values))
    )
    found = proportion(values, members)
    assert 0 <= found.low <= found.value + 1e-12
    assert found.value <= found.high + 1e-12 <= 1 + 2e-12
    assert found.value == pytest.approx(sum(values) / len(values))


def robust_oracle(values, members):
    """Every two rows that share a member, one by one: Aronow et al. 2015, eq. 4."""
    centre = sum(values) / len(values)
    total = sum(
        (values[i] - centre) * (values[j] - centre)
        for i, j in product(range(len(values)), repeat=2)
        if set(members[i]) & set(members[j])
    )
    alone = sum((v - centre) ** 2 for v in values)
    nodes = len({key for keys in members for key in keys})
    correction = nodes / (nodes - 1) if nodes > 1 else 1.0
    return sqrt(max(total, alone) * correction) / len(values), nodes


@given(values=st.lists(st.integers(-9, 9), min_size=1, max_size=12), data=st.data())
def test_rows_that_share_a_member_count_as_dependent(values, data):
    keys = st.sampled_from("abcde")
    member = data.draw(st.sampled_from([st.tuples(keys), st.tuples(keys, keys)]))
    members = data.draw(st.lists(member, min_size=len(values), max_size=len(values)))
    error, nodes = robust_oracle(values, members)
    half = stats.t.ppf(0.975, max(nodes - 1, 1)) * error
    found = mean(values, members)
    assert found.high - found.value == pytest.approx(half, abs=1e-6)


def test_the_mean_of_independent_rows_has_students_interval():
    found = mean([1, 2, 3, 4])
    oracle = stats.ttest_1samp([1, 2, 3, 4], 0).confidence_interval(0.95)
    assert (found.value, found.low, found.high) == pytest.approx((2.5, oracle.low, oracle.high))


def test_repeating_every_row_within_its_cluster_tells_nothing_new():
    values = [1.0, 0.0, 1.0, 1.0, 0.5, 1.0]
    once = [(i,) for i in range(6)]
    assert mean(values * 3, once * 3).low == pytest.approx(mean(values, once).low)
    assert proportion(values * 3, once * 3).low == pytest.approx(proportion(values, once).low)
    assert proportion(values * 3).low > proportion(values).low


def test_groups_weigh_the_same_however_large():
    found = proportion([1.0] * 9 + [0.0, 1.0], groups=["long"] * 9 + ["short"] * 2)
    assert found.value == pytest.approx(0.75)
    # only the second group varies: half its weight, sqrt(2 * .25) / 2 = 0.3536 / 2
    n = 0.75 * 0.25 / (0.5 * sqrt(0.5) / 2) ** 2
    assert (found.low, found.high) == pytest.approx(wilson(0.75, n))


def test_weights_let_every_case_count_the_same():
    members, weights = [("a",)] * 3 + [("b",), ("c",)], [1 / 3] * 3 + [1.0, 1.0]
    found = proportion([1.0, 0.5, 1.0, 1.0, 0.0], members, weights=weights)
    averages = proportion([5 / 6, 1.0, 0.0], [("a",), ("b",), ("c",)])
    assert (found.value, found.low, found.high) == pytest.approx(
        (averages.value, averages.low, averages.high)
    )


def test_clusters_that_all_agree_are_counted_as_that_many_trials():
    members = [(i // 10,) for i in range(50)]
    found = proportion([1.0] * 50, members)
    assert (found.low, found.high) == pytest.approx(wilson(1.0, 5, float(stats.t.ppf(0.975, 4))))


def test_the_bootstrap_agrees_with_theory_on_many_rows():
    draw = random.Random(1)
    values = [draw.gauss(2, 3) for _ in range(800)]
    found, theory = bootstrap_mean(values), mean(values)
    assert found.value == pytest.approx(theory.value)
    # the ends of a percentile bootstrap of 2000 draws jitter by about 5 % of the half width
    half = theory.high - theory.value
    assert found.low == pytest.approx(theory.low, abs=0.15 * half)
    assert found.high == pytest.approx(theory.high, abs=0.15 * half)


def test_the_bootstrap_draws_whole_clusters():
    draw = random.Random(2)
    effects = [draw.gauss(0, 1) for _ in range(60)]
    values = [e for e in effects for _ in range(20)]
    clusters = [c for c in range(60) for _ in range(20)]
    wide, narrow = bootstrap_mean(values, clusters), bootstrap_mean(values)
    assert (wide.high - wide.low) / (narrow.high - narrow.low) == pytest.approx(sqrt(20), rel=0.15)


@given(values=st.lists(st.floats(-10, 10), min_size=1, max_size=20), seed=st.integers(0, 3))
def test_the_bootstrap_is_the_same_twice_and_stays_among_the_values(values, seed):
    found = bootstrap_mean(values, seed=seed)
    assert found == bootstrap_mean(values, seed=seed)
    assert min(values) - 1e-9 <= found.low <= found.high <= max(values) + 1e-9


def test_weights_make_it_the_mean_over_tokens():
    assert bootstrap_mean([1.0, 4.0], weights=[3, 1]).value == pytest.approx(7 / 4)


@given(pairs=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=30))
def test_the_win_rates_of_both_sides_add_up_to_one(pairs):
    a, b = zip(*pairs, strict=True)
    prompts = [i // 2 for i in range(len(a))]
    ours, theirs = win_rate(shares(a, b), prompts), win_rate(shares(b, a), prompts)
    assert ours.value + theirs.value == pytest.approx(1)
    assert ours.low + theirs.high == pytest.approx(1)


def test_a_tie_is_half_a_win():
    assert shares([1, 2, 3], [0, 2, 5]) == [1.0, 0.5, 0.0]
    assert win_rate([1.0, 0.5, 0.0, 0.5]).value == 0.5


def test_a_gain_is_paired():
    level = [random.Random(3).gauss(0, 50) for _ in range(100)]
    found = gain([x + 1 + 0.1 * (i % 2) for i, x in enumerate(level)], level)
    assert found.value == pytest.approx(1.05)
    assert 1 < found.low < found.high < 1.1


def test_the_intervals_cover_the_truth_as_often_as_they_say():
    draw = random.Random(4)
    hits = {"wilson": 0, "clustered": 0, "bootstrap": 0}
    for _ in range(200):
        rates = [draw.betavariate(6, 4) for _ in range(40)]
        values = [float(draw.random() < rate) for rate in rates for _ in range(8)]
        members = [(i // 8,) for i in range(320)]
        fresh = [float(draw.random() < 0.6) for _ in range(60)]
        for name, found in (
            ("wilson", proportion(fresh)),
            ("clustered", proportion(values, members)),
            ("bootstrap", bootstrap_mean(values, [key for (key,) in members])),
        ):
            hits[name] += found.low <= 0.6 <= found.high
    # 200 trials at 95 %: three deviations are 4.6 points; the percentile bootstrap is a bit narrow
    assert all(177 <= n <= 199 for n in hits.values()), hits
