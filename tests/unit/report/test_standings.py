"""Win rates of a report, and how sure they are."""

import random
from dataclasses import asdict

import pytest

from rlhf.apps.standings import Judgement, Policy, by_scores, draft, report
from rlhf.evaluate.winrate import shares, win_rate
from rlhf.records import Prompt
from rlhf.report import Answer, Case

POLICIES = [Policy(name, f"runs/{name}", "sft") for name in ("one", "two")]


def cases_of(scores, num_samples=1):
    """Two policies' scored answers; so many cases in a row have the same prompt."""
    return [
        Case(
            Prompt.from_text(f"prompt {number // num_samples}"),
            tuple(Answer(str(score), 3, True, score) for score in pair),
        )
        for number, pair in enumerate(scores)
    ]


def rate_of(cases, judgements):
    facts = {"settings": {}, "provenance": {}, "notes": ()}
    return report(draft(POLICIES, cases, "one", "a judge", facts), judgements).win_rates[0]


def test_samples_of_one_prompt_count_as_dependent():
    draw = random.Random(0)
    scores = [(draw.choice("abc"), draw.choice("abcd")) for _ in range(50) for _ in range(4)]
    pairs = [(float(ord(a)), float(ord(b))) for a, b in scores]
    found = rate_of(cases_of(pairs, 4), by_scores(cases_of(pairs, 4))).rate
    expected = asdict(win_rate(shares(*zip(*pairs, strict=True)), [i // 4 for i in range(200)]))
    del expected["n"]
    assert asdict(found) == pytest.approx(expected)


def test_votes_on_few_cases_leave_more_doubt_than_as_many_cases():
    draw = random.Random(1)
    wins = [float(draw.random() < 0.5) for _ in range(10)]
    cases = cases_of([(1.0, 2.0)] * 10)
    once = [Judgement(i, 0, 1, win, rater="0") for i, win in enumerate(wins)]
    often = [Judgement(i, 0, 1, win, rater=str(r)) for i, win in enumerate(wins) for r in range(8)]
    one, eight = rate_of(cases, once).rate, rate_of(cases, often).rate
    assert eight.value == pytest.approx(one.value)
    assert eight.high - eight.low > 0.4
