"""Scores of single responses: by hand, against slow sums, and what must hold of any."""

from itertools import product
from math import inf, sqrt

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from rlhf.evaluate.intervals import Estimate
from rlhf.evaluate.scores import Score, gains, measures, rater_scores

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
    [wide] = measures(scores(rows), range(-9, 20))
    ends = next((s.mean.low, s.mean.high) for s in wide.standings if s.policy == "p")
    assert ends == pytest.approx((3 - half, 3 + half))
    assert (p.mean.low, p.mean.high) == (1, 5)  # there is nothing beyond
    assert (q.policy, q.mean.value) == ("q", 1.5)


def test_a_gain_leaves_out_how_kind_a_rater_is():
    """Cat, who is severe, rated only the better policy: the means mislead, the gains do not."""
    rows = "p x ann 4\nq y ann 3\np x bob 5\nq y bob 4\np x cat 1"
    [helpful] = measures(scores(rows), SCALE)
    assert [(s.policy, s.mean.value) for s in helpful.standings] == [
        ("q", 3.5),
        ("p", pytest.approx(10 / 3)),
    ]
    gained = {s.policy: s.gain.value for s in helpful.standings if s.gain}
    assert gained == pytest.approx({"p": 0.5, "q": -0.5})


def test_a_gain_and_its_interval_by_hand():
    # within raters p is 1 and 3 above q: effects of half of 2; residuals of a rater are +-0.5
    [helpful] = measures(scores("p x ann 3\nq y ann 2\np x bob 5\nq y bob 2"), SCALE)
    p = helpful.standings[0].gain
    assert p is not None
    # sum over raters of (x'u)^2 / (x'x)^2: x is +-0.5 by row, 2 raters
    error = sqrt(2 * 0.25**2 * 2) / 1
    assert (p.value, p.high - p.value) == pytest.approx((1, stats.t.ppf(0.975, 1) * error))


def test_where_nothing_ties_policies_together_there_is_no_gain():
    assert gains(scores("p x ann 3\nq y bob 2")) == {}
    assert gains(scores("p x ann 3\np y bob 2")) == {}
    assert gains([]) == {}
    alone = gains(scores("p x ann 3\nq y ann 2"))
    assert (alone["p"].value, alone["p"].high) == (pytest.approx(0.5), inf)
    fitted = gains(scores("p x ann 3\nq y ann 2\np x bob 3"))
    assert fitted["p"].high == inf


@given(
    st.lists(
        st.tuples(st.sampled_from("pqr"), st.sampled_from("abcd"), st.integers(1, 5)),
        min_size=2,
        max_size=15,
    ),
    st.integers(-3, 3),
)
def test_gains_are_those_of_all_dummies_and_no_rater_can_move_them(rows, more):
    def of(extra: int) -> dict[str, Estimate]:
        return gains(
            [Score("m", p, n, r, v + extra * (r == "a")) for n, (p, r, v) in enumerate(rows)]
        )

    found = of(0)
    if not found:
        return
    policies, raters = sorted({p for p, _, _ in rows}), sorted({r for _, r, _ in rows})
    table = np.array(
        [[p == name for name in policies] + [r == name for name in raters] for p, r, _ in rows],
        dtype=float,
    )
    y = np.array([v for _, _, v in rows], dtype=float)
    solved = np.linalg.lstsq(table, y, rcond=None)[0]
    effect, left = solved[: len(policies)], y - table @ solved
    centred = effect - effect.mean()
    assert [found[p].value for p in policies] == pytest.approx(centred.tolist(), abs=1e-9)
    assert sum(e.value for e in found.values()) == pytest.approx(0, abs=1e-9)
    if len(raters) > 1 and len(rows) >= len(raters) + len(
        policies
    ):  # the sandwich of the whole table, turned to effects with mean 0
        bread = np.linalg.pinv(table.T @ table)
        meat = np.zeros_like(bread)
        for name in raters:
            own = [r == name for _, r, _ in rows]
            pull = table[own].T @ left[own]
            meat += np.outer(pull, pull)
        turn = np.zeros((len(policies), table.shape[1]))
        turn[:, : len(policies)] = np.eye(len(policies)) - 1 / len(policies)
        spread = turn @ bread @ meat @ bread @ turn.T * len(raters) / (len(raters) - 1)
        half = stats.t.ppf(0.975, len(raters) - 1)
        for name, variance in zip(policies, np.diag(spread), strict=True):
            wide = found[name].high - found[name].value
            assert wide == pytest.approx(half * sqrt(max(variance, 0)), abs=1e-5)
    moved = of(more)
    assert {k: v.value for k, v in moved.items()} == pytest.approx(
        {k: v.value for k, v in found.items()}, abs=1e-9
    )


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
    """Twelve raters, kinder or more severe by N(0, 12): 95 % intervals of 400 campaigns."""
    rng, means, gained, narrower = np.random.default_rng(0), 0, 0, 0
    for _ in range(400):
        rows = [
            Score(
                "m", policy, (rater, policy, item), str(rater), round(true + lean + taste + noise)
            )
            for rater, lean in enumerate(rng.normal(0, 12, 12))
            for policy, true in (("p", 68), ("q", 60))
            for taste in [rng.normal(0, 4)]
            for item, noise in enumerate(rng.normal(0, 16, rng.integers(2, 9)))
        ]
        [found] = measures(rows, range(-100, 200))
        p = next(s for s in found.standings if s.policy == "p")
        assert p.gain is not None
        means += p.mean.low <= 68 <= p.mean.high
        gained += p.gain.low <= 4 <= p.gain.high
        narrower += p.gain.high - p.gain.low < p.mean.high - p.mean.low
    assert 0.92 <= means / 400 <= 0.98
    assert 0.92 <= gained / 400 <= 0.98
    assert narrower == 400
