import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf.evaluate.agreement import OUTCOMES
from rlhf.evaluate.raters import dawid_skene, rater_qualities
from rlhf.records import Outcome, Vote
from tests import oracles


def votes_of(rows, **more):
    return [
        Vote(f"c{index}", rater, outcome, "left", **more)
        for index, row in enumerate(rows)
        for rater, outcome in row.items()
    ]


def quality_of(votes, rater, **more):
    return next(quality for quality in rater_qualities(votes, **more) if quality.rater == rater)


def test_a_vote_is_held_against_the_majority_of_the_others_only():
    rows = [
        {"ann": "a", "bob": "a", "cy": "a", "dee": "b"},
        {"ann": "b", "bob": "a", "cy": "a"},
        {"ann": "a", "bob": "b", "cy": "a"},  # the others are level
        {"ann": "a", "bob": "skip"},  # nobody else judged it
    ]
    ann = quality_of(votes_of(rows), "ann")
    assert ann.with_majority is not None
    assert (ann.with_majority.value, ann.with_majority.n) == (0.5, 2)
    assert (ann.votes, ann.skips, ann.skip_share) == (4, 0, 0.0)
    dee = quality_of(votes_of(rows), "dee")
    assert dee.with_majority is not None
    assert dee.with_majority.value == 0.0
    bob = quality_of(votes_of(rows), "bob")
    assert (bob.votes, bob.skips, bob.skip_share) == (3, 1, 0.25)


def test_the_busiest_rater_comes_first_and_no_votes_are_no_raters():
    rows = [{"ann": "a", "bob": "a"}, {"bob": "b", "cy": "skip"}]
    assert [q.rater for q in rater_qualities(votes_of(rows))] == ["bob", "ann", "cy"]
    assert rater_qualities([]) == ()


def test_a_rater_who_only_skipped_has_no_figures():
    cy = quality_of(votes_of([{"ann": "a", "cy": "skip"}]), "cy")
    figures = (cy.with_majority, cy.left, cy.median_seconds, cy.too_fast, cy.gold, cy.accuracy)
    assert figures == (None,) * 6
    assert cy.skip_share == 1.0


def test_position_bias_is_the_share_of_left_among_votes_for_a_side():
    votes = [
        Vote("one", "ann", "a", "left"),
        Vote("two", "ann", "b", "right"),
        Vote("three", "ann", "b", "left"),
        Vote("four", "ann", "tie", "left"),
    ]
    left = quality_of(votes, "ann").left
    assert left is not None
    assert (left.value, left.n) == (pytest.approx(2 / 3), 3)
    assert left.low < 0.5 < left.high


def test_time_on_task_is_from_shown_to_answered():
    def vote(number, seconds, outcome: Outcome = "a"):
        shown, answered = "2026-01-01T00:00:00+00:00", f"2026-01-01T00:00:{seconds:02}.000+00:00"
        return Vote(f"c{number}", "ann", outcome, "left", shown_at=shown, answered_at=answered)

    votes = [
        vote(1, 1),
        vote(2, 10),
        vote(3, 30, "skip"),
        vote(4, 20),
        Vote("c5", "ann", "a", "left"),
    ]
    ann = quality_of(votes, "ann")
    assert (ann.median_seconds, ann.too_fast) == (15.0, 0.25)
    assert quality_of(votes_of([{"ann": "a"}]), "ann").too_fast is None


def test_gold_counts_the_checks_and_nothing_else_does():
    work = votes_of([{"ann": "a", "bob": "a"}])
    right: list[Outcome] = ["a", "a", "b", "b"]
    checks = votes_of([{"ann": "a"}, {"ann": "b"}, {"ann": "skip"}, {"ann": "b"}])
    [ann, bob] = rater_qualities(work, list(zip(checks, right, strict=True)))
    assert ann.gold is not None
    assert (ann.gold.value, ann.gold.n) == (pytest.approx(2 / 3), 3)
    assert (ann.votes, ann.skips) == (1, 0)
    assert bob.gold is None


def test_dawid_and_skene_by_hand_where_two_of_three_say_one_thing():
    # One comparison, votes a, a, b. Start: P(a) = 2/3, P(b) = 1/3; of each outcome every rater then
    # gave what he gave, with chance 1. So the posterior is the prior, 2/3 to 1/3, and stays there;
    # the likelihood is 2/3 + 1/3 = 1.
    found = dawid_skene(votes_of([{"ann": "a", "bob": "a", "cy": "b"}]))
    assert found.outcomes["c0"] == pytest.approx({"a": 2 / 3, "b": 1 / 3, "tie": 0, "both_bad": 0})
    assert found.accuracy == pytest.approx({"ann": 2 / 3, "bob": 2 / 3, "cy": 1 / 3})
    assert found.log_likelihood == pytest.approx(0.0)


def test_dawid_and_skene_by_hand_for_one_round():
    # Votes aa, ab. Start: T(0) = (1, 0), T(1) = (1/2, 1/2); shares (3/4, 1/4).
    # ann said a twice: P(a | a) = 1, P(a | b) = 1. bob said a, b: of a he gave a with 1 of 1.5, so
    # 2/3, b with 1/3; of b, b with 1. Round 1: T(0) ~ (3/4 * 2/3, 1/4 * 0) = (1, 0);
    # T(1) ~ (3/4 * 1/3, 1/4 * 1) = (1/2, 1/2): unchanged. Likelihood: 1/2 * 1/2.
    found = dawid_skene(votes_of([{"ann": "a", "bob": "a"}, {"ann": "a", "bob": "b"}]))
    assert found.outcomes["c0"]["a"] == pytest.approx(1.0)
    assert found.outcomes["c1"]["a"] == pytest.approx(0.5)
    assert found.shares["a"] == pytest.approx(0.75)
    assert found.accuracy == pytest.approx({"ann": 0.75, "bob": 0.75})
    assert found.log_likelihood == pytest.approx(-1.3862944)  # ln(1/4)


@given(
    st.lists(
        st.dictionaries(st.sampled_from("pqrs"), st.sampled_from(OUTCOMES[:3]), min_size=1),
        min_size=1,
        max_size=6,
    )
)
def test_dawid_and_skene_agree_with_their_paper_taken_literally(rows):
    found = dawid_skene(votes_of(rows))
    slow = oracles.dawid_skene(rows, OUTCOMES, found.rounds)
    for index, expected in enumerate(slow):
        assert found.outcomes[f"c{index}"] == pytest.approx(expected, abs=1e-6)
    for rater, accuracy in found.accuracy.items():
        own = [(t, row[rater]) for t, row in zip(slow, rows, strict=True) if rater in row]
        assert accuracy == pytest.approx(oracles.mean([t[said] for t, said in own]), abs=1e-6)


def test_dawid_and_skene_find_the_truth_and_the_careless_where_a_majority_errs():
    draw = random.Random(1)
    skill = {"ann": 0.95, "bob": 0.9, "cy": 0.55, "dee": 0.5, "eve": 0.45}
    truth = [draw.choice("ab") for _ in range(600)]
    other = {"a": "b", "b": "a"}
    rows = [
        {rater: t if draw.random() < p else other[t] for rater, p in skill.items()} for t in truth
    ]
    found = dawid_skene(votes_of(rows))
    for rater, p in skill.items():
        assert found.accuracy[rater] == pytest.approx(p, abs=0.06)
    likeliest = [max(row, key=row.__getitem__) for row in found.outcomes.values()]
    majority = [max("ab", key=list(row.values()).count) for row in rows]
    right = sum(x == t for x, t in zip(likeliest, truth, strict=True)) / len(truth)
    assert right > 0.93
    assert right > 0.1 + sum(x == t for x, t in zip(majority, truth, strict=True)) / len(truth)


def test_dawid_and_skene_do_not_judge_what_one_rater_judged_alone():
    rows = [{"ann": "a", "bob": "a"}, {"cy": "b"}]
    assert quality_of(votes_of(rows), "cy").accuracy is None
    assert quality_of(votes_of(rows), "ann").accuracy == pytest.approx(1.0)
    assert dawid_skene([]).outcomes == {}


def test_61000_votes_of_3000_raters_take_seconds():
    draw = random.Random(0)
    votes = [
        Vote(
            f"c{number // 5}",
            f"r{draw.randrange(3000)}",
            "a" if draw.random() < 0.7 else "b",
            "left",
            shown_at="2026-01-01T00:00:00+00:00",
            answered_at="2026-01-01T00:00:09+00:00",
        )
        for number in range(61_000)
    ]
    start = time.process_time()
    assert sum(quality.votes for quality in rater_qualities(votes)) == 61_000
    assert time.process_time() - start < 15
