"""From judgements to a report: who wins, how often, and how sure that is."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from rlhf.evaluate import intervals
from rlhf.evaluate.winrate import gain
from rlhf.records import Comparison, Response, Vote
from rlhf.report import Answer, Case, Estimate, PolicySummary, Report, Verdict, WinRate

_SHARE = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
_FEW_RATERS = 10


@dataclass(frozen=True, slots=True)
class Judgement:
    """One judgement of the answers ``a`` and ``b`` (indices of policies) in one case."""

    case: int
    a: int
    b: int
    share: float
    """1 if a won, 0 if b did, 0.5 for a tie."""
    rater: str | None = None
    both_bad: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """What the report says about where a policy comes from."""

    name: str
    path: str
    stage: str


def pairs(cases: Sequence[Case], policies: Sequence[Policy]) -> list[Comparison]:
    """Every pair of answers as a comparison, in the order of the policies."""
    return [
        Comparison(
            case.prompt,
            Response(case.answers[a].text, policies[a].name),
            Response(case.answers[b].text, policies[b].name),
        )
        for case in cases
        for a, b in combinations(range(len(policies)), 2)
    ]


def by_scores(cases: Sequence[Case]) -> list[Judgement]:
    """The higher score wins; the same text is a tie, however it was scored."""
    found: list[Judgement] = []
    for number, case in enumerate(cases):
        for a, b in combinations(range(len(case.answers)), 2):
            one, other = case.answers[a], case.answers[b]
            if one.score is None or other.score is None:
                continue
            share = (one.score > other.score) + (one.score == other.score) / 2
            found.append(Judgement(number, a, b, 0.5 if one.text == other.text else share))
    return found


def by_votes(
    cases: Sequence[Case], policies: Sequence[Policy], votes: Iterable[Vote]
) -> list[Judgement]:
    """What people voted; the same text is a tie that nobody was asked about. Skips do not count."""
    votes_on: dict[str, list[Vote]] = {}
    for vote in votes:
        if vote.outcome != "skip":
            votes_on.setdefault(vote.comparison, []).append(vote)
    asked = iter(pairs(cases, policies))
    found: list[Judgement] = []
    for number, case in enumerate(cases):
        for a, b in combinations(range(len(policies)), 2):
            comparison = next(asked)
            if case.answers[a].text == case.answers[b].text:
                found.append(Judgement(number, a, b, 0.5))
            found += [_voted(number, a, b, vote) for vote in votes_on.get(comparison.id, [])]
            # a campaign that existed before may hold the pair in the other order
            found += [
                replace(vote, share=1 - vote.share)
                for v in votes_on.get(comparison.swapped().id, [])
                for vote in [_voted(number, a, b, v)]
            ]
    return found


def _voted(case: int, a: int, b: int, vote: Vote) -> Judgement:
    return Judgement(case, a, b, _SHARE[vote.outcome], vote.rater, vote.outcome == "both_bad")


def report(draft: Report, judgements: Sequence[Judgement]) -> Report:
    """``draft`` with what ``judgements`` amount to."""
    verdicts: dict[int, list[Verdict]] = {}
    grouped: dict[tuple[int, int, int], list[Judgement]] = {}
    for j in judgements:
        grouped.setdefault((j.case, j.a, j.b), []).append(j)
    for (case, a, b), group in grouped.items():
        share = sum(j.share for j in group) / len(group)
        verdicts.setdefault(case, []).append(Verdict(a, b, share, len(group)))
    cases = tuple(
        replace(case, verdicts=tuple(verdicts.get(i, ()))) for i, case in enumerate(draft.cases)
    )
    return replace(
        draft,
        cases=cases,
        win_rates=tuple(_win_rates(draft, judgements)),
        notes=(*draft.notes, *_rater_notes(judgements)),
    )


def _win_rates(draft: Report, judgements: Sequence[Judgement]) -> Iterable[WinRate]:
    names = [policy.name for policy in draft.policies]
    for one in range(len(names)):
        for other in range(len(names)):
            between = [j for j in judgements if (j.a, j.b) == (min(one, other), max(one, other))]
            if one != other and between:
                values = [j.share if j.a == one else 1 - j.share for j in between]
                yield WinRate(
                    names[one],
                    names[other],
                    _proportion(values, between, draft.cases),
                    wins=values.count(1.0),
                    ties=values.count(0.5),
                    losses=values.count(0.0),
                    both_bad=sum(j.both_bad for j in between),
                )


def _proportion(
    values: Sequence[float], judgements: Sequence[Judgement], cases: Sequence[Case]
) -> Estimate:
    """Every case counts the same; judgements of one prompt, or by one rater, are dependent."""
    prompts = [cases[j.case].prompt.id for j in judgements]
    raters = [j.rater for j in judgements]
    independent = len(set(prompts)) == len(prompts) and not any(raters)
    members = [
        (("prompt", p),) if r is None else (("prompt", p), ("rater", r))
        for p, r in zip(prompts, raters, strict=True)
    ]
    of_case = Counter(j.case for j in judgements)
    weights = [1 / of_case[j.case] for j in judgements]
    return _shown(intervals.proportion(values, None if independent else members, weights=weights))


def _rater_notes(judgements: Sequence[Judgement]) -> Iterable[str]:
    raters = {j.rater for j in judgements if j.rater is not None}
    if raters and len(raters) < _FEW_RATERS:
        people = "One person" if len(raters) == 1 else f"{len(raters)} people"
        yield f"{people} judged: the intervals say little about what others would prefer."


def summary(
    policy: Policy, answers: Sequence[Answer], reference: Sequence[Answer], prompts: Sequence[str]
) -> PolicySummary:
    """One policy's answers, beside the reference's to the same prompts (ids)."""

    def mean(values: Sequence[float | None]) -> Estimate | None:
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        return _shown(intervals.bootstrap_mean(known, prompts))

    length = mean([float(a.num_tokens) for a in answers])
    assert length is not None
    return PolicySummary(
        name=policy.name,
        path=policy.path,
        stage=policy.stage,
        length=length,
        cut_off=sum(not a.finished for a in answers) / len(answers),
        score=mean([a.score for a in answers]),
        gain=_gain(answers, reference, prompts) if answers is not reference else None,
        kl=mean([a.kl for a in answers]),
    )


def _gain(
    answers: Sequence[Answer], reference: Sequence[Answer], prompts: Sequence[str]
) -> Estimate | None:
    ours = [a.score for a in answers if a.score is not None]
    theirs = [a.score for a in reference if a.score is not None]
    if len(ours) < len(answers) or len(theirs) < len(reference):
        return None
    return _shown(gain(ours, theirs, prompts))


def _shown(found: intervals.Estimate) -> Estimate:
    return Estimate(found.value, found.low, found.high)


def draft(
    policies: Sequence[Policy],
    cases: Sequence[Case],
    reference: str,
    judge: str,
    facts: Mapping[str, Any],
) -> Report:
    """A report without judgements. ``facts`` are its settings, provenance and notes."""
    names = [policy.name for policy in policies]
    columns = [[case.answers[i] for case in cases] for i in range(len(policies))]
    base = columns[names.index(reference)]
    prompts = [case.prompt.id for case in cases]
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return Report(
        title=f"Comparison of {listed}",
        judge=judge,
        reference=reference,
        policies=tuple(
            summary(p, column, base, prompts) for p, column in zip(policies, columns, strict=True)
        ),
        cases=tuple(cases),
        **facts,
    )
