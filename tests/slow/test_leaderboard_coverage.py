"""The leaderboard's intervals against 2,000 simulated campaigns of 20 raters with 40 votes each."""

import pytest

from rlhf.evaluate.leaderboard import leaderboard
from tests.campaigns import coverage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

UNEVEN = [4] * 8 + [10] * 4 + [40] * 4 + [150] * 4


def test_the_intervals_hold_the_truth_19_times_in_20():
    shares = coverage(leaderboard, 2000)
    assert all(0.925 <= share <= 0.97 for share in shares.values()), shares


def test_they_nearly_do_where_a_fifth_of_the_raters_gives_most_of_the_votes():
    # the plain sandwich falls below 0.9 here
    shares = coverage(leaderboard, 500, sizes=UNEVEN)
    assert all(0.9 <= share <= 0.975 for share in shares.values()), shares
