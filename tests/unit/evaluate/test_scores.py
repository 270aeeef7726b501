"""Scores of single responses: by hand, against slow sums, and what must hold of any."""

from itertools import product
from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlhf.evaluate.scores import Score, measures, rater_scores

SCALE = (1, 2, 3, 4, 5)


def scores(rows: str, measure: str = "helpful") -> list[Score]:
    """A line each: policy, item, rater, value, and seconds if there are any."""
    found: list[Score] = []
    for line in rows.strip().splitlines():
        policy, item, rater, value, *seconds = line.split()
        spent = float(seconds[0]) if seconds else None
        found.append(Score(measure, policy, item, rater, float(value), spent))
    return found


def test_a_mean_and_its_interval_by_hand():
    rows = "p x ann 5\np y ann 4\np x bob 2\np y bob 1\np x cat 3\nq z ann 1\nq z bob 2"
    [helpful] = measures(scores(rows), SCALE)
    p, q = helpful.standings
    assert (p.policy, p.raters, p.mean.n) == ("p", 3, 5)
    assert p.mean.value == 3.0
    # residuals summed by rater: ann 3, bob -3, cat 0; three clusters
    error = sqrt((9 + 9) / 25 * 3 / 2)
    half = stats.t.ppf(0.975, 2) * error
    assert (p.mean.low, p.mean.high) == pytest.approx((3 - half, 3 + half))
    assert (q.policy, q.mean.value) == ("q", 1.5)


def test_alpha_is_krippendorffs_ordinal():
    """The example of Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", sec. D."""
    table = {
        "A": "1 2 3 3 2 1 4 1 2 . . .",
        "B": "1 2 3 3 2 2 4 1 2 5 . 3",
        "C": ". 3 3 3 2 3 4 2 2 5 1 .",
        "D": "1 2 3 3 2 4 4 1 2 5 1 .",
    }
    given_ = [
        Score("helpful", "p", item, rater, float(value))
        for rater, row in table.items()
        for item, value in enumerate(row.split())
        if value != "."
    ]
    [found] = measures(given_, SCALE)
    assert found.alpha is not None
    assert round(found.alpha.value, 3) == 0.815
    assert found.alpha.n == 11


def test_shares_stay_between_0_and_1_and_one_rater_has_no_interval():
    rows = [f"p {i} {rater} 1" for i, rater in product(range(5), ("ann", "bob", "cat"))]
    [thumbs] = measures(scores("\n".join(rows)), (0, 1))
    assert 0 < thumbs.standings[0].mean.low < thumbs.standings[0].mean.high == 1.0
    [alone] = measures(scores("p x ann 1\np y ann 0"), (0, 1))
    assert (alone.standings[0].mean.low, alone.standings[0].mean.high) == (-inf, inf)
    assert alone.alpha is None


def test_measures_come_in_their_order_and_apart():
    both = scores("p x ann 5", "honest") + scores("p x ann 2", "brief")
    found = measures(both, SCALE)
    assert [(m.name, m.standings[0].mean.value) for m in found] == [("honest", 5), ("brief", 2)]
    assert measures([], SCALE) == ()


def test_a_kind_rater_by_hand():
    rows = "p x ann 5 10\np x bob 3 20\np x cat 2 4\np y ann 4 30\np y bob 3 2\np z ann 1"
    ann, bob, cat = rater_scores(scores(rows))
    assert (ann.rater, ann.items, ann.mean, ann.median_seconds) == ("ann", 3, 10 / 3, 20)
    assert ann.kinder is not None
    assert (ann.kinder.value, ann.kinder.n) == ((2.5 + 1) / 2, 2)  # z has nobody to differ from
    assert bob.kinder is not None
    assert bob.kinder.value == (-0.5 + -1) / 2
    assert bob.apart == 0.75
    assert cat.kinder is not None
    assert cat.kinder.value == -2
    assert rater_scores([]) == ()


GIVEN = st.dictionaries(
    st.tuples(st.sampled_from("xyz"), st.sampled_from(["ann", "bob", "cat"])),
    st.integers(1, 5),
    min_size=1,
)


@given(GIVEN)
def test_rater_scores_are_slow_sums(marks):
    given_ = [Score("m", "p", item, rater, mark) for (item, rater), mark in marks.items()]
    for found in rater_scores(given_):
        gaps = []
        for (item, rater), mark in marks.items():
            others = [m for (i, r), m in marks.items() if i == item and r != found.rater]
            if rater == found.rater and others:
                gaps.append(mark - sum(others) / len(others))
        if found.kinder is None:
            assert gaps == []
        else:
            assert found.kinder.value == pytest.approx(sum(gaps) / len(gaps))
            assert found.apart == pytest.approx(sum(map(abs, gaps)) / len(gaps))


@given(st.lists(st.tuples(*[st.integers(1, 4)] * 3), min_size=1, max_size=6))
def test_where_all_rate_all_kindness_sums_to_nothing_and_moves_with_the_rater(rows):
    names = ("ann", "bob", "cat")

    def kindness(more: int) -> dict[str, float]:
        given_ = [
            Score("m", "p", item, name, mark + more * (name == "ann"))
            for item, row in enumerate(rows)
            for name, mark in zip(names, row, strict=True)
        ]
        return {r.rater: r.kinder.value for r in rater_scores(given_) if r.kinder}

    before, after = kindness(0), kindness(1)
    assert sum(before.values()) == pytest.approx(0, abs=1e-9)
    assert after["ann"] - before["ann"] == pytest.approx(1)
    assert after["bob"] - before["bob"] == pytest.approx(-0.5)


def test_intervals_cover_the_truth_where_raters_differ():
    """Twelve raters, each kinder or more severe by N(0, 0.6): 95 % intervals, 400 times."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        rows = [
            Score("m", "p", (rater, item), str(rater), 3 + lean + rng.normal(0, 0.8))
            for rater, lean in enumerate(rng.normal(0, 0.6, 12))
            for item in range(10)
        ]
        [found] = measures(rows, [row.value for row in rows])
        hits += found.standings[0].mean.low <= 3 <= found.standings[0].mean.high
    assert 0.92 <= hits / 400 <= 0.98
