"""Answers about single responses: mean ratings, what they prefer, and scores by measure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isclose
from statistics import fmean
from typing import TYPE_CHECKING

from labeling_ui.campaigns.tasks import SCALE, Kind, Task
from labeling_ui.results.answers import GivenAnswer
from rlhf.records import Preference, Prompt, Response

if TYPE_CHECKING:
    from rlhf.evaluate.scores import Score

THUMBS_UP = ""
"""The measure of thumbs; aspects have names."""

VALUES: Mapping[Kind, Sequence[float]] = {
    "rating": SCALE,
    "thumbs": (0, 1),
    "pairwise": (0, 0.5, 1),
}
"""What a response can be given, by the kinds that give something to single responses."""


@dataclass(frozen=True, slots=True)
class Rating:
    """A response as its raters rated it, from 1 to 5."""

    prompt: Prompt
    response: Response
    rating: float
    """Mean over the raters of the mean of their aspects."""
    aspects: Mapping[str, float]
    """Mean over the raters, by aspect."""
    num_votes: int


@dataclass(frozen=True, slots=True)
class RaterMeans:
    """A task of one response, and how each of its raters rated that in all."""

    task: Task
    by_rater: Mapping[str, float]


def rating_of(task: Task, answers: Sequence[GivenAnswer]) -> Rating | None:
    """The mean of ``answers``; None where everybody skipped."""
    given = [one.content["aspects"] for one in answers if one.outcome == "rated"]
    if not given:
        return None
    aspects = {name: fmean(one[name] for one in given) for name in given[0]}
    return Rating(task.prompt, task.responses[0], fmean(aspects.values()), aspects, len(given))


def rater_means(task: Task, answers: Sequence[GivenAnswer]) -> RaterMeans:
    """How each rater rated the response: the mean of the aspects."""
    means = {
        one.rater: fmean(one.content["aspects"].values())
        for one in answers
        if one.outcome == "rated"
    }
    return RaterMeans(task, means)


def better_of(found: Iterable[RaterMeans]) -> Iterator[Preference]:
    """Of every two responses to one prompt, the one with the higher mean; equal ones say nothing.

    Means are over the raters of both, who used one scale, or over all where nobody rated both. The
    margin is the difference over the width of the scale.
    """
    by_prompt: defaultdict[str, list[RaterMeans]] = defaultdict(list)
    for one in found:
        if one.by_rater:
            by_prompt[one.task.prompt.id].append(one)
    for group in by_prompt.values():
        for a, b in combinations(group, 2):
            both = a.by_rater.keys() & b.by_rater.keys()
            raters = both or a.by_rater.keys() | b.by_rater.keys()
            means = [fmean(v for k, v in one.by_rater.items() if k in raters) for one in (a, b)]
            (high, chosen), (low, rejected) = sorted(
                zip(means, (a, b), strict=True), key=lambda pair: -pair[0]
            )
            good, bad = (one.task.responses[0] for one in (chosen, rejected))
            if isclose(high, low) or good.text == bad.text:
                continue
            won = [chosen.by_rater[name] > rejected.by_rater[name] for name in both]
            yield Preference(
                a.task.prompt,
                good.text,
                bad.text,
                margin=(high - low) / (SCALE[-1] - SCALE[0]),
                agreement=fmean(won) if won else None,
                num_votes=len(raters),
                provenance={
                    "chosen_policy": good.policy,
                    "rejected_policy": bad.policy,
                    "chosen_rating": high,
                    "rejected_rating": low,
                    **a.task.metadata,
                },
            )


def scores_of(tasks: Mapping[int, Task], given: Sequence[GivenAnswer]) -> Iterator["Score"]:
    """What each response was given.

    By an aspect 1 to 5; for thumbs 1 or 0; by an aspect of a pair 1 for the better one, half for
    both.
    """
    from rlhf.evaluate.raters import seconds_between
    from rlhf.evaluate.scores import Score

    for one in given:
        responses = tasks[one.task].responses
        spent = seconds_between(one.shown_at, one.answered_at)
        for measure, values in _values(one).items():
            for place, value in enumerate(values):
                policy, item = responses[place].policy, (one.task, place)
                yield Score(measure, policy, item, one.rater, value, spent)


def _values(given: GivenAnswer) -> dict[str, tuple[float, ...]]:
    """By measure, what each response of the task was given."""
    aspects = given.content.get("aspects", {})
    if given.outcome in ("good", "bad"):
        return {THUMBS_UP: (float(given.outcome == "good"),)}
    if given.outcome == "rated":
        return {name: (float(value),) for name, value in aspects.items()}
    shares = {"a": (1.0, 0.0), "b": (0.0, 1.0), "tie": (0.5, 0.5)}
    return {name: shares[value] for name, value in aspects.items()}
