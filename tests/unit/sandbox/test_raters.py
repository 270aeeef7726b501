import random
from dataclasses import replace
from statistics import mean

import pytest

from rlhf.records import Comparison, Preference, Response, settle
from rlhf.sandbox.gold import gold
from rlhf.sandbox.raters import assigned, ceiling, panel
from rlhf.sandbox.staff import ideal, reply, staff_reply
from rlhf.sandbox.world import prompts

RATERS = panel(0, 8)


def staff_comparisons(n):
    found = []
    for prompt in prompts(6, n):
        rng = random.Random(prompt.id)
        a, b = (Response(staff_reply(prompt, rng)[1], "staff") for _ in range(2))
        found.append(Comparison(prompt, a, b))
    return found


def settled(comparisons, overlap=3):
    votes = {
        c: [rater.vote(c, "left") for rater in assigned(RATERS, c, overlap)] for c in comparisons
    }
    return [p for c in comparisons if (p := settle(c, votes[c]))]


COMPARISONS = staff_comparisons(700)


def test_a_vote_depends_on_seed_rater_and_comparison_alone():
    for comparison in COMPARISONS[:20]:
        left = [rater.vote(comparison, "left") for rater in RATERS]
        right = [rater.vote(comparison, "right") for rater in panel(0, 8)]
        assert [v.outcome for v in left] == [v.outcome for v in right]
        assert {v.a_side for v in right} == {"right"}
        assert {v.comparison for v in left} == {comparison.id}
    other = [panel(1, 8)[0].vote(c, "left").outcome for c in COMPARISONS]
    assert other != [RATERS[0].vote(c, "left").outcome for c in COMPARISONS]


def test_the_ceiling_of_a_panel_leaves_room_and_is_not_perfect():
    assert 0.85 < ceiling(settled(COMPARISONS)) < 0.95


def test_longer_does_not_win():
    wins = [
        (len(p.chosen) > len(p.rejected)) + (len(p.chosen) == len(p.rejected)) / 2
        for p in settled(COMPARISONS)
    ]
    assert 0.4 < mean(wins) < 0.65


def test_the_ceiling_is_worked_out_by_hand():
    [prompt] = prompts(0, 1)
    good, bad = ideal(prompt), reply(prompt, {"rude"}, random.Random(0))
    right, wrong = Preference(prompt, good, bad), Preference(prompt, bad, good)
    even = Preference(prompt, good, good)
    assert ceiling([right, right, wrong, even]) == (1 + 1 + 0 + 0.5) / 4
    with pytest.raises(ValueError, match="at least one"):
        ceiling([])


def test_equal_replies_are_a_tie_and_empty_ones_are_both_bad():
    careless = max(rater.carelessness for rater in RATERS)
    both_empty = [Comparison(p, Response("", "x"), Response("", "y")) for p in prompts(1, 100)]
    both_ideal = [
        Comparison(p, Response(ideal(p), "x"), Response(ideal(p), "y")) for p in prompts(1, 100)
    ]
    for comparisons, outcome in ((both_empty, "both_bad"), (both_ideal, "tie")):
        votes = [rater.vote(c, "left").outcome for c in comparisons for rater in RATERS]
        assert mean(v == outcome for v in votes) > 1 - careless


def test_the_clearer_the_gap_the_more_raters_agree():
    agreement = {True: [], False: []}
    for comparison in COMPARISONS:
        a, b = (
            gold(comparison.prompt, r).total for r in (comparison.response_a, comparison.response_b)
        )
        if abs(a - b) > 0.02:
            better = "a" if a > b else "b"
            votes = [rater.vote(comparison, "left").outcome for rater in RATERS]
            agreement[abs(a - b) > 0.4].append(mean(v == better for v in votes))
    assert mean(agreement[True]) > 0.9 > mean(agreement[False]) + 0.1


def test_raters_have_names_and_tastes_of_their_own():
    assert len({rater.name for rater in RATERS}) == len(RATERS)
    assert len({rater.courtesy_taste for rater in RATERS}) == len(RATERS)
    assert panel(0, 3) == RATERS[:3]


def test_a_taste_can_outweigh_gold():
    """A polite reply against a better one that says nothing kind, and a long against a short."""
    steady = replace(RATERS[0], temperature=1e-3, carelessness=0.0, courtesy_taste=0.0)
    neutral = replace(steady, brevity_taste=0.0)
    polite = replace(neutral, courtesy_taste=3.0)
    brief, wordy = replace(neutral, brevity_taste=3.0), replace(neutral, brevity_taste=-3.0)
    for prompt in prompts(2, 20):
        rng = random.Random(0)
        plain, kind = reply(prompt, {"plain"}, rng), reply(prompt, {"no_fact"}, rng)
        full, long = ideal(prompt), reply(prompt, {"long"}, rng)
        for rater, a, b in [
            (neutral, plain, kind),
            (polite, kind, plain),
            (neutral, full, long),
            (brief, full, long),
            (wordy, long, full),
        ]:
            comparison = Comparison(prompt, Response(a, "x"), Response(b, "y"))
            assert rater.vote(comparison, "left").outcome == "a"


def test_raters_of_the_same_mind_differ_in_luck():
    twins = [replace(RATERS[0], name=name, temperature=1.0) for name in ("x", "y")]
    first, second = ([t.vote(c, "left").outcome for c in COMPARISONS] for t in twins)
    assert first != second
