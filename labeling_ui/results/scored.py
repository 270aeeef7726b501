"""Answers about single responses as scores: ratings, thumbs, and the aspects of a pair."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from labeling_ui.campaigns.tasks import SCALE, Kind, Task
from labeling_ui.results.answers import Given

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


def scores_of(tasks: Mapping[int, Task], given: Sequence[Given]) -> Iterator["Score"]:
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


def _values(given: Given) -> dict[str, tuple[float, ...]]:
    """By measure, what each response of the task was given."""
    aspects = given.content.get("aspects", {})
    if given.outcome in ("good", "bad"):
        return {THUMBS_UP: (float(given.outcome == "good"),)}
    if given.outcome == "rated":
        return {name: (float(value),) for name, value in aspects.items()}
    shares = {"a": (1.0, 0.0), "b": (0.0, 1.0), "tie": (0.5, 0.5)}
    return {name: shares[value] for name, value in aspects.items()}
