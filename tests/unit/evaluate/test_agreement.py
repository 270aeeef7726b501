import math
import random
import time
from math import nan
from typing import Any

import numpy as np
import pandas
import pytest
from evalica import alpha
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import cohens_kappa
from statsmodels.stats.inter_rater import fleiss_kappa as statsmodels_fleiss

from rlhf.evaluate.agreement import (
    OUTCOMES,
    agreeing_share,
    agreement,
    cohen_kappa,
    cohen_kappas,
    count_values,
    fleiss_kappa,
    krippendorff_alpha,
    most_frequent_overlap,
    outcome_counts,
    percent_agreement,
    strength_counts,
)
from rlhf.evaluate.intervals import wilson
from rlhf.records import Vote
from tests import oracles


def counts_of(rows, values):
    given_values = ((index, value) for index, row in enumerate(rows) for value in row)
    return count_values(given_values, values)


def votes_of(rows):
    """Votes from ``{rater: outcome}`` per comparison."""
    return [
        Vote(f"c{index}", rater, outcome, "left")
        for index, row in enumerate(rows)
        for rater, outcome in row.items()
    ]


# Krippendorff 2019, fig. 12.1: four observers, twelve units, values missing
FOUR_OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
    [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
]
UNITS = [[int(v) for v in unit if v == v] for unit in zip(*FOUR_OBSERVERS, strict=True)]


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743421), ("ordinal", 0.815388)])
def test_alpha_is_that_of_krippendorffs_book(level, published):
    found = krippendorff_alpha(counts_of(UNITS, range(1, 6)), level)
    assert found is not None
    assert found.value == pytest.approx(published, abs=5e-7)
    assert found.n == 11, "one unit was judged once"


# Fleiss 1971, table 1: 30 patients, 6 psychiatrists, 5 diagnoses, each row one patient
_PATIENTS = (
    "444444 222555 233335 555555 222444 113333 333355 113334 114444 555555 144444 124444 222333 "
    "144444 224445 333335 111455 111112 224444 133555 555555 244444 224555 114444 144445 222224 "
    "111155 224444 133333 555555"
)
DIAGNOSES = _PATIENTS.split()

# Wikipedia, Fleiss' kappa: 10 subjects, 14 raters, 5 categories
WIKIPEDIA = np.array(
    [
        *([0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1]),
        *([7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]),
    ]
)


def test_fleiss_kappa_is_that_of_his_paper_and_of_the_encyclopedia():
    paper = fleiss_kappa(counts_of(DIAGNOSES, "12345"), 6)
    encyclopedia = fleiss_kappa(WIKIPEDIA, 14)
    assert paper is not None
    assert encyclopedia is not None
    assert (round(paper.value, 3), paper.n) == (0.430, 30)
    assert (round(encyclopedia.value, 3), encyclopedia.n) == (0.210, 10)
    assert paper.low < paper.value < paper.high


@pytest.mark.parametrize(
    ("table", "published"),
    # Wikipedia, Cohen's kappa: grant proposals, and two tables of equal percent agreement
    [([[20, 5], [10, 15]], 0.4), ([[45, 15], [25, 15]], 0.1304), ([[25, 35], [5, 35]], 0.2593)],
)
def test_cohens_kappa_is_that_of_the_encyclopedia(table, published):
    found = cohen_kappa(np.array(table, dtype=float))
    assert found is not None
    assert found.value == pytest.approx(published, abs=5e-5)


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), min_size=3, max_size=3))
def test_cohens_kappa_and_its_interval_are_those_of_other_programs(table):
    cells = np.array(table, dtype=float)
    assume((cells.sum(axis=1) > 0).sum() > 1 and (cells.sum(axis=0) > 0).sum() > 1)
    found = cohen_kappa(cells)
    assert found is not None
    other: Any = cohens_kappa(cells)
    expected = [np.clip(v, -1, 1) for v in (other.kappa, other.kappa_low, other.kappa_upp)]
    assert [found.value, found.low, found.high] == pytest.approx(expected, abs=1e-7)
    first = [i for i in range(3) for j in range(3) for _ in range(table[i][j])]
    second = [j for i in range(3) for j in range(3) for _ in range(table[i][j])]
    assert found.value == pytest.approx(cohen_kappa_score(first, second))


values = st.integers(0, 3)
units = st.lists(st.lists(values, max_size=5), min_size=1, max_size=8)


def several(rows):
    return len({value for row in rows if len(row) > 1 for value in row}) > 1


@given(rows=units)
def test_alpha_and_percent_agree_with_pair_by_pair_counting_and_with_evalica(rows):
    counts = counts_of(rows, range(4))
    assert agreeing_share(counts) == pytest.approx(oracles.agreeing_pairs(rows))
    for level in ("nominal", "ordinal"):
        found = krippendorff_alpha(counts, level)
        assert (found is not None) == several(rows)
        if found is None:
            continue
        distance = getattr(oracles, f"{level}_distance")
        assert found.value == pytest.approx(oracles.krippendorff_alpha(rows, distance))
        wide = pandas.DataFrame([row + [nan] * (5 - len(row)) for row in rows], dtype=float).T
        assert found.value == pytest.approx(alpha(wide, level).alpha)
        assert found.low <= found.high <= 1 + 1e-9


@given(st.lists(st.lists(values, min_size=3, max_size=3), min_size=1, max_size=10))
def test_fleiss_kappa_is_that_of_statsmodels(rows):
    counts = counts_of(rows, range(4))
    found = fleiss_kappa(counts, 3)
    assert (found is not None) == several(rows)
    if found is not None:
        assert found.value == pytest.approx(statsmodels_fleiss(counts))
        assert found.n == len(rows)


@given(rows=units, seed=st.integers(0, 9), names=st.permutations(range(4)))
def test_nominal_agreement_does_not_care_for_order_or_names(rows, seed, names):
    moved = [[names[v] for v in row] for row in rows]
    random.Random(seed).shuffle(moved)
    before, after = counts_of(rows, range(4)), counts_of(moved, range(4))
    first, second = krippendorff_alpha(before, "nominal"), krippendorff_alpha(after, "nominal")
    assert (first is None) == (second is None)
    if first is not None and second is not None:
        assert first.value == pytest.approx(second.value)
    assert agreeing_share(before) == pytest.approx(agreeing_share(after))


def test_the_intervals_cover_the_truth_as_often_as_they_say():
    draw = np.random.default_rng(0)
    # three votes each, right with 0.8 of two: agreement 0.68, chance 0.5, kappa 0.36
    hits = {"fleiss": 0, "alpha": 0, "percent": 0}
    for _ in range(150):
        truth = draw.integers(2, size=(120, 1))
        said = np.where(draw.random((120, 3)) < 0.8, truth, 1 - truth)
        counts = np.column_stack([3 - said.sum(axis=1), said.sum(axis=1)])
        fleiss, share = fleiss_kappa(counts, 3), percent_agreement(counts)
        found = krippendorff_alpha(counts, "nominal")
        assert fleiss is not None
        assert found is not None
        assert share is not None
        hits["fleiss"] += fleiss.low <= 0.36 <= fleiss.high
        hits["alpha"] += found.low <= 0.36 <= found.high
        hits["percent"] += share.low <= 0.68 <= share.high
    assert min(hits.values()) > 0.89 * 150
    assert sum(hits.values()) < 0.995 * 3 * 150


def ranked(*tasks):
    """Votes of ann and bob on the pairs of each task, given as ``"aa ab"``, and their tasks."""
    rows = [(number, pair) for number, pairs in enumerate(tasks) for pair in pairs.split()]
    votes = votes_of([{"ann": first, "bob": second} for _, (first, second) in rows])
    return votes, {f"c{index}": number for index, (number, _) in enumerate(rows)}


def test_intervals_resample_whole_tasks_as_worked_out_by_hand():
    votes, tasks = ranked("aa bb aa", "ab ab ba")
    found = agreement(votes, tasks=tasks)
    assert found.percent is not None
    assert found.alpha_nominal is not None
    # each task pulls by 3 * 0.5 / 6, so the variance is 2 * 0.25**2 * 2 / (2 - 1), which is that
    # of 0.5 in one trial; Student's quantile with one degree of freedom is tan(0.95 * pi / 2)
    low, high = wilson(0.5, 1.0, math.tan(0.95 * math.pi / 2))
    assert (found.percent.value, found.percent.n) == (0.5, 6)
    assert (found.percent.low, found.percent.high) == pytest.approx((low, high))
    # a fourth of the resamples are the first task twice, a fourth the second twice: with 12 votes,
    # 6 a and 6 b, alpha is 1 - 11 * 12 / (2 * 6 * 6)
    assert found.alpha_nominal.high == pytest.approx(1.0)
    assert found.alpha_nominal.low == pytest.approx(1 - 11 * 12 / 72)
    apart = agreement(votes)
    assert apart.percent is not None
    assert apart.alpha_nominal is not None
    assert apart.percent.value == found.percent.value
    assert apart.alpha_nominal.value == found.alpha_nominal.value


def test_cohens_interval_is_robust_to_tasks_as_worked_out_by_hand():
    votes, tasks = ranked("aa aa bb bb", "aa bb aa bb", "ab ba ab ba")
    [pair] = cohen_kappas(votes, task_of=tasks)
    # 8 of 12 are equal and chance is a half: kappa 1/3. An equal pair pulls by
    # (1 - 2/3 - (1/3 - 1/2 * 2/3)) / (1/2) / 12, an unequal one by -(2/3) / (1/2) / 12
    pulls = [4 * (2 / 3) / 12, 4 * (2 / 3) / 12, 4 * (-4 / 3) / 12]
    half = stats.t.ppf(0.975, 2) * math.sqrt(sum(pull**2 for pull in pulls) * 3 / 2)
    assert pair.kappa.value == pytest.approx(1 / 3)
    assert (pair.kappa.low, pair.kappa.high) == (-1.0, pytest.approx(min(1, 1 / 3 + half)))
    many, their_tasks = ranked(*["aa aa bb bb", "aa bb aa bb", "ab ba ab ba"] * 10)
    [pair] = cohen_kappas(many, task_of=their_tasks)
    half = stats.t.ppf(0.975, 29) * math.sqrt(sum(p**2 for p in pulls) * 10 / 100 * 30 / 29)
    assert (pair.kappa.low, pair.kappa.high) == pytest.approx((1 / 3 - half, 1 / 3 + half))


def test_one_task_says_nothing_of_how_tasks_differ():
    votes, tasks = ranked("aa bb ab aa bb aa bb aa bb ab")
    found = agreement(votes, tasks=tasks)
    for figure in (found.fleiss, found.alpha_nominal, found.alpha_ordinal, found.pairs[0].kappa):
        assert figure is not None
        assert (figure.low, figure.high, figure.n) == (-1.0, 1.0, 10)
        assert 0 < figure.value < 1
    assert found.percent is not None
    assert found.percent.high - found.percent.low > 0.9


def test_comparisons_that_are_their_own_tasks_have_the_figures_of_before():
    votes, tasks = ranked(*["aa", "bb", "ab", "aa", "ba", "bb", "ab", "aa", "ab", "bb", "ba"])
    assert agreement(votes, tasks=tasks) == agreement(votes) == agreement(votes, tasks={})


def hits_of(found, truths):
    figures = (found.percent, found.fleiss, found.alpha_nominal, found.pairs[0].kappa)
    return np.array([f.low <= t <= f.high for f, t in zip(figures, truths, strict=True)])


def test_intervals_of_rankings_cover_the_truth_as_often_as_they_say():
    draw = np.random.default_rng(0)
    whole, apart = np.zeros(4), np.zeros(4)
    for _ in range(100):
        # Half of the tasks are clear: their six pairs are told alike with 0.95, the others' with
        # 0.5. Agreement is 0.725, of two outcomes as frequent: kappa and alpha are 0.45.
        alike = draw.random((50, 6)) < np.where(draw.random((50, 1)) < 0.5, 0.95, 0.5)
        first = draw.integers(2, size=(50, 6))
        second = np.where(alike, first, 1 - first)
        rows = zip(first.ravel(), second.ravel(), strict=True)
        votes = votes_of([{"ann": "ab"[one], "bob": "ab"[two]} for one, two in rows])
        tasks = {f"c{index}": index // 6 for index in range(300)}
        truths = (0.725, 0.45, 0.45, 0.45)
        whole += hits_of(agreement(votes, tasks=tasks), truths)
        apart += hits_of(agreement(votes), truths)
    assert min(whole) >= 89, whole
    assert max(apart) < 85, "the pairs of a task taken as independent claim too much"


def test_skips_and_single_votes_are_no_agreement():
    votes = votes_of([{"ann": "a", "bob": "skip"}, {"ann": "b"}])
    found = agreement(votes)
    assert found.percent is None
    assert found.fleiss is None
    assert found.fleiss_votes is None
    assert found.alpha_nominal is None
    assert found.pairs == ()
    assert agreement([]).percent is None


def test_where_all_say_one_thing_percent_is_full_and_the_rest_undefined():
    found = agreement(votes_of([{"ann": "a", "bob": "a"}] * 12))
    assert found.percent is not None
    assert (found.percent.value, found.percent.n) == (1.0, 12)
    assert 0.7 < found.percent.low < 0.9, "twelve comparisons prove little"
    assert (found.fleiss, found.alpha_nominal, found.alpha_ordinal) == (None, None, None)
    assert found.pairs == ()


def test_fleiss_takes_the_comparisons_with_the_most_usual_number_of_votes():
    rows = [{"ann": "a", "bob": "b", "cy": "a"}] * 3 + [{"ann": "a", "bob": "a"}] * 3
    counts = outcome_counts(votes_of([*rows, {"ann": "tie"}]))
    assert most_frequent_overlap(counts) == 3, "the larger of equals"
    found = agreement(votes_of(rows))
    assert found.fleiss is not None
    assert (found.fleiss_votes, found.fleiss.n) == (3, 3)


def test_strength_orders_the_steps_from_a_to_b():
    votes = [
        Vote("one", "ann", "a", "left", strength=3),
        Vote("one", "bob", "both_bad", "left"),
        Vote("one", "cy", "tie", "left"),
        Vote("one", "dee", "b", "left"),
        Vote("one", "eve", "skip", "left"),
    ]
    assert strength_counts(votes).tolist() == [[1, 0, 0, 2, 1, 0, 0]]
    assert outcome_counts(votes).tolist() == [[1, 1, 1, 1]]


def test_pairs_of_raters_need_something_in_common():
    draw = random.Random(0)
    said = [draw.choice(OUTCOMES[:3]) for _ in range(30)]
    rows = [{"ann": o, "bob": o if draw.random() < 0.7 else "tie"} for o in said]
    rows += [{"ann": "a", "cy": "b"}] * 9
    found = cohen_kappas(votes_of(rows))
    assert [(pair.rater, pair.other, pair.kappa.n) for pair in found] == [("ann", "bob", 30)]
    other = cohen_kappa_score([r["ann"] for r in rows[:30]], [r["bob"] for r in rows[:30]])
    assert found[0].kappa.value == pytest.approx(other)
    assert cohen_kappas(votes_of(rows), most_raters=1) == []


def test_61000_votes_of_3000_raters_take_seconds():
    draw = random.Random(0)
    votes = [
        Vote(f"c{number // 5}", f"r{draw.randrange(3000)}", draw.choice(OUTCOMES[:2]), "left")
        for number in range(61_000)
    ]
    start = time.process_time()
    found = agreement(votes)
    assert time.process_time() - start < 10
    assert found.percent is not None
    assert found.fleiss is not None
    assert found.percent.n == found.fleiss.n == 12_200
    assert found.fleiss.low < 0 < found.fleiss.high
