"""What the best of n is worth, by counting every draw."""

import math
from itertools import combinations
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.evaluate.best_of_n import best_of, kl_of_best

VALUES = st.lists(st.floats(-10, 10), min_size=1, max_size=7)


@given(values=VALUES, data=st.data())
def test_it_is_the_mean_over_all_draws_of_the_best_ones_value(values, data):
    n = data.draw(st.integers(1, len(values)))
    ranks = range(len(values))  # ranked by something else than their values
    drawn = [values[max(chosen)] for chosen in combinations(ranks, n)]
    assert best_of(n, values) == pytest.approx(fmean(drawn), abs=1e-9)


def test_by_hand():
    assert best_of(1, [0.0, 1.0, 5.0]) == pytest.approx(2.0)
    assert best_of(2, [0.0, 1.0, 5.0]) == pytest.approx((1 + 5 + 5) / 3)
    assert best_of(3, [0.0, 1.0, 5.0]) == 5.0


@pytest.mark.parametrize("n", [1, 2, 4, 16])
def test_its_kl_is_that_of_the_density_of_the_best(n):
    # the best of n uniform numbers has the density n u^(n-1)
    places = [(i + 0.5) / 100_000 for i in range(100_000)]
    densities = [n * u ** (n - 1) for u in places]
    integral = fmean(p * math.log(p) for p in densities if p > 0)
    assert kl_of_best(n) == pytest.approx(integral, abs=1e-3)
