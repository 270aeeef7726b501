"""What the votes of a campaign train: preferences, feedback, demonstrations, and the votes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

from labeling_ui.campaigns.setup import find_campaign, guidelines_of
from labeling_ui.campaigns.tasks import Kind, Settings, Task
from labeling_ui.db.store import Store
from labeling_ui.results.answers import GivenAnswer, Status, answers_of, status, tasks_of
from labeling_ui.results.ratings import Rating, better_of, rater_means, rating_of
from rlhf.records import (
    Comparison,
    Demonstration,
    Feedback,
    Message,
    Outcome,
    Preference,
    Prompt,
    Response,
    Tally,
    Vote,
    settle,
    tally,
    to_json,
)


@dataclass(frozen=True, slots=True)
class Tie:
    """A judged comparison that neither response won."""

    comparison: str
    counts: Tally


@dataclass(frozen=True, slots=True)
class Ranking:
    """The responses to a prompt from the best to the worst, by mean place over the raters."""

    prompt: Prompt
    responses: tuple[Response, ...]
    ranks: tuple[int, ...]
    """1 for the best; those that tie have the same, and the next one counts them: 1, 2, 2, 4."""
    num_votes: int


@dataclass(frozen=True, slots=True)
class Export:
    """Everything in a campaign, settled. Votes are those that count."""

    status: Status
    kind: Kind
    guidelines: str
    comparisons: tuple[Comparison, ...] = ()
    votes: tuple[Vote, ...] = ()
    independent: tuple[Vote, ...] = ()
    """Those that tell how well raters agree: no adjudicator's, none that active selection chose."""
    ranked: Mapping[str, int] = field(default_factory=dict[str, int])
    """The task of each comparison that was ranked with others."""
    judged: int = 0
    """Tasks with as many answers as were asked for. Skips are none, where they are dropped too."""
    preferences: tuple[Preference, ...] = ()
    ties: tuple[Tie, ...] = ()
    rankings: tuple[Ranking, ...] = ()
    ratings: tuple[Rating, ...] = ()
    feedback: tuple[Feedback, ...] = ()
    demonstrations: tuple[Demonstration, ...] = ()
    answers: tuple[dict[str, Any], ...] = ()
    """Where an answer is no outcome between two: what each rater said of each response."""

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """The lists of an export, each entry one JSON object."""
        lists: dict[str, list[dict[str, Any]]] = {
            "comparisons": [to_json(comparison) for comparison in self.comparisons],
            "votes": [to_json(vote) for vote in self.votes],
            "preferences": [to_json(preference) for preference in self.preferences],
            "ties": [asdict(tie) for tie in self.ties],
        }
        if self.kind in ("pairwise", "ranking"):
            return lists
        return {
            "preferences": lists["preferences"],
            "ratings": [{**asdict(one), "prompt": to_json(one.prompt)} for one in self.ratings],
            "feedback": [to_json(one) for one in self.feedback],
            "demonstrations": [to_json(one) for one in self.demonstrations],
            "answers": list(self.answers),
        }


def export(store: Store, name: str) -> Export:
    """Everything in campaign ``name`` as of one moment."""
    with store.read() as session:
        campaign = find_campaign(session, name)
        kind = Settings.from_text(campaign.settings).kind
        tasks, answers = tasks_of(session, campaign), answers_of(session, campaign)
        empty = Export(status(session, campaign), kind, guidelines_of(session, campaign.id)[1])
    given = [(task, answers.get(number, [])) for number, task in tasks.items()]
    judged = sum(_num_answers(group) >= empty.status.overlap for _, group in given)
    empty = replace(empty, judged=judged)
    if kind in ("pairwise", "ranking"):
        return _compared(empty, given)
    said = tuple(_plain(task, one) for task, group in given for one in group)
    if kind == "rewrite":
        return _rewritten(replace(empty, answers=said), given)
    if kind == "rating":
        return _rated(replace(empty, answers=said), given)
    found = tuple(one for task, group in given if (one := _feedback(task, group)))
    return replace(empty, answers=said, feedback=found)


def _num_answers(answers: Sequence[GivenAnswer]) -> int:
    return sum(one.outcome != "skip" and one.source != "adjudicate" for one in answers)


def ranked_together(tasks: Iterable[Sequence[str]]) -> dict[str, int]:
    """The number of the ranking of each comparison, from the comparisons of each task.

    A task that shares a comparison with an earlier one is counted to it.
    """
    found: dict[str, int] = {}
    for number, comparisons in enumerate(tasks):
        place = next((found[one] for one in comparisons if one in found), number)
        if len(comparisons) > 1:
            found.update(dict.fromkeys(comparisons, place))
    return found


def _compared(empty: Export, given: Sequence[tuple[Task, Sequence[GivenAnswer]]]) -> Export:
    comparisons: list[Comparison] = []
    votes: list[Vote] = []
    independent: list[Vote] = []
    preferences: list[Preference] = []
    ties: list[Tie] = []
    keys: list[list[str]] = []
    for task, answers in given:
        keys.append([])
        for number, comparison in enumerate(task.comparisons()):
            key = comparison.id
            said = [(as_vote(task, number, key, one), one) for one in answers]
            keys[-1].append(key)
            comparisons.append(comparison)
            votes += [vote for vote, _ in said]
            independent += [v for v, one in said if one.source not in ("adjudicate", "active")]
            deciding = [as_vote(task, number, key, one) for one in _deciding(answers)]
            preference = settle(comparison, deciding)
            if preference:
                preferences.append(preference)
            elif (count := tally(deciding)).n:
                ties.append(Tie(comparison.id, count))
    return replace(
        empty,
        comparisons=tuple(comparisons),
        votes=tuple(votes),
        independent=tuple(independent),
        ranked=ranked_together(keys),
        preferences=tuple(preferences),
        ties=tuple(ties),
        rankings=tuple(one for task, answers in given if (one := _ranking(task, answers))),
    )


def _ranking(task: Task, answers: Sequence[GivenAnswer]) -> Ranking | None:
    """Where two are compared, the same as settling; None where everybody skipped."""
    counted = [one for one in _deciding(answers) if one.outcome != "skip"]
    if not counted:
        return None
    count = len(task.responses)
    points = [0] * count  # two for each response that one stands above, one for each beside
    for one in counted:
        places = _places(one)
        for a in range(count):
            others = [places[b] for b in range(count) if b != a]
            points[a] += sum(2 * (places[a] < place) + (places[a] == place) for place in others)
    order = sorted(range(count), key=lambda index: -points[index])
    return Ranking(
        task.prompt,
        tuple(task.responses[index] for index in order),
        tuple(1 + sum(point > points[index] for point in points) for index in order),
        len(counted),
    )


def _places(given: GivenAnswer) -> dict[int, int]:
    """The place of each response, by its number, in one answer."""
    if given.outcome == "ranked":
        return {r: place for place, group in enumerate(given.content["ranking"]) for r in group}
    return {0: int(given.outcome == "b"), 1: int(given.outcome == "a")}


def _deciding(answers: Sequence[GivenAnswer]) -> Sequence[GivenAnswer]:
    """An adjudicator's word stands alone; without one, everybody's counts."""
    decisions = [one for one in answers if one.source == "adjudicate" and one.outcome != "skip"]
    return decisions or answers


def as_vote(task: Task, number: int, comparison: str, given: GivenAnswer) -> Vote:
    """The vote on one pair of a task's responses, called ``comparison``, that an answer holds."""
    count = len(task.responses)
    a, b = [(i, j) for i in range(count) for j in range(i + 1, count)][number]
    outcome = given.outcome
    if outcome == "ranked":
        places = _places(given)
        outcome = "tie" if places[a] == places[b] else "a" if places[a] < places[b] else "b"
    return Vote(
        comparison=comparison,
        rater=given.rater,
        outcome=cast("Outcome", outcome),
        a_side="left" if given.order.index(str(a)) < given.order.index(str(b)) else "right",
        strength=given.strength,
        aspects=given.content.get("aspects", {}),
        reason=given.reason,
        shown_at=given.shown_at,
        answered_at=given.answered_at,
    )


def _plain(task: Task, given: GivenAnswer) -> dict[str, Any]:
    return {
        "prompt": to_json(task.prompt),
        "response": asdict(task.responses[0]),
        "rater": given.rater,
        "outcome": given.outcome,
        **given.content,
        "reason": given.reason,
        "shown_at": given.shown_at,
        "answered_at": given.answered_at,
    }


def _feedback(task: Task, answers: Sequence[GivenAnswer]) -> Feedback | None:
    """What the majority of the thumbs says; None where they are even."""
    outcomes = [one.outcome for one in _deciding(answers)]
    good, bad = outcomes.count("good"), outcomes.count("bad")
    if good == bad:
        return None
    response = task.responses[0]
    provenance = {
        "policy": response.policy,
        "agreement": max(good, bad) / (good + bad),
        "num_votes": good + bad,
        **task.metadata,
    }
    return Feedback(task.prompt, response.text, good > bad, provenance)


def _rated(empty: Export, given: Sequence[tuple[Task, Sequence[GivenAnswer]]]) -> Export:
    """A mean for each response, and the better one of every two that answer the same prompt."""
    settled = [(task, _deciding(answers)) for task, answers in given]
    return replace(
        empty,
        ratings=tuple(one for task, group in settled if (one := rating_of(task, group))),
        preferences=tuple(better_of(rater_means(task, group) for task, group in settled)),
    )


def _rewritten(empty: Export, given: Sequence[tuple[Task, Sequence[GivenAnswer]]]) -> Export:
    """A rewrite is worth imitating, and better than what it was made from."""
    demonstrations: list[Demonstration] = []
    preferences: list[Preference] = []
    for task, one in _rewrites(given):
        [response], text = task.responses, one.content["text"]
        provenance: Mapping[str, Any] = {
            "rater": one.rater, "rejected_policy": response.policy, **task.metadata
        }  # fmt: skip
        turns = (*task.prompt.messages, Message("assistant", text))
        demonstrations.append(Demonstration(turns, provenance))
        if text != response.text:
            preferences.append(
                Preference(task.prompt, text, response.text, num_votes=1, provenance=provenance)
            )
    return replace(empty, demonstrations=tuple(demonstrations), preferences=tuple(preferences))


def _rewrites(
    given: Sequence[tuple[Task, Sequence[GivenAnswer]]],
) -> Iterator[tuple[Task, GivenAnswer]]:
    for task, answers in given:
        yield from ((task, one) for one in answers if one.outcome == "rewritten")
