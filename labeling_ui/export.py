"""What the votes of a campaign train: preferences, feedback, demonstrations, and the votes."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from labeling_ui.intake import find_campaign, guidelines_of
from labeling_ui.results import Given, Status, answers_of, status, tasks_of
from labeling_ui.store import Store
from labeling_ui.tasks import Kind, Settings, Task
from rlhf.errors import DataError
from rlhf.records import (
    Comparison,
    Demonstration,
    Feedback,
    Message,
    Outcome,
    Preference,
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
class Export:
    """Everything in a campaign, settled. Votes are those that count."""

    status: Status
    kind: Kind
    guidelines: str
    comparisons: tuple[Comparison, ...] = ()
    votes: tuple[Vote, ...] = ()
    independent: tuple[Vote, ...] = ()
    """Those that tell how well raters agree: no adjudicator's, none that active selection chose."""
    preferences: tuple[Preference, ...] = ()
    ties: tuple[Tie, ...] = ()
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
    if kind in ("pairwise", "ranking"):
        return _compared(empty, given)
    said = tuple(_plain(task, one) for task, group in given for one in group)
    if kind == "rewrite":
        return _rewritten(replace(empty, answers=said), given)
    found = tuple(one for task, group in given if (one := _feedback(task, group)))
    return replace(empty, answers=said, feedback=found)


def _compared(empty: Export, given: Sequence[tuple[Task, Sequence[Given]]]) -> Export:
    comparisons: list[Comparison] = []
    votes: list[Vote] = []
    independent: list[Vote] = []
    preferences: list[Preference] = []
    ties: list[Tie] = []
    for task, answers in given:
        for number, comparison in enumerate(task.comparisons()):
            key = comparison.id
            said = [(as_vote(task, number, key, one), one) for one in answers]
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
        preferences=tuple(preferences),
        ties=tuple(ties),
    )


def _deciding(answers: Sequence[Given]) -> Sequence[Given]:
    """An adjudicator's word stands alone; without one, everybody's counts."""
    decisions = [one for one in answers if one.source == "adjudicate" and one.outcome != "skip"]
    return decisions or answers


def as_vote(task: Task, number: int, comparison: str, given: Given) -> Vote:
    """The vote on one pair of a task's responses, called ``comparison``, that an answer holds."""
    count = len(task.responses)
    a, b = [(i, j) for i in range(count) for j in range(i + 1, count)][number]
    outcome = given.outcome
    if outcome == "ranked":
        places = {r: place for place, g in enumerate(given.content["ranking"]) for r in g}
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


def _plain(task: Task, given: Given) -> dict[str, Any]:
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


def _feedback(task: Task, answers: Sequence[Given]) -> Feedback | None:
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


def _rewritten(empty: Export, given: Sequence[tuple[Task, Sequence[Given]]]) -> Export:
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


def _rewrites(given: Sequence[tuple[Task, Sequence[Given]]]) -> Iterator[tuple[Task, Given]]:
    for task, answers in given:
        yield from ((task, one) for one in answers if one.outcome == "rewritten")


def write_folder(result: Export, folder: Path) -> None:
    """Write an export as a folder that ``rlhf`` and ``datasets`` read; all of it or nothing.

    Raises:
        DataError: if there is no vote yet, or ``folder`` exists or cannot be written.
    """
    if not result.votes and not result.answers:
        raise DataError(
            f"campaign {result.status.name!r} has no votes yet; there is nothing to export"
        )
    if folder.exists():
        raise DataError(f"{folder}: exists already; name a new folder")
    files = {
        f"{name}.jsonl": "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        for name, rows in result.to_json().items()
    }
    digests = {name: sha256(text.encode()).hexdigest() for name, text in files.items()}
    files["README.md"] = dataset_card(result, digests)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
            part = Path(scratch, "part")
            part.mkdir()
            for name, text in files.items():
                with (part / name).open("w", encoding="utf-8") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
            part.rename(folder)
    except OSError as error:
        raise DataError(
            f"{folder}: the export cannot be written ({error.strerror}); free space or name "
            "another folder"
        ) from error


_ORDER = (
    "preferences", "feedback", "demonstrations", "votes", "answers", "ties", "comparisons"
)  # fmt: skip

_MEANING = {
    "preferences": "which response is better. With n votes, skips left out, `margin` is |a - b| / n"
    " and `agreement` is the winner's votes / n",
    "feedback": "a response and what the majority of its thumbs says; even ones are left out",
    "demonstrations": "conversations that end in a response as a rater would have it",
    "ties": "judged comparisons that neither won, with the counts. Not for training",
    "votes": "every vote that counts, and skips; `a_side` is where response a was shown",
    "answers": "every answer that counts, and skips, with the response it is about",
    "comparisons": "what was asked, with the policy that wrote each response",
}

_ASKED = {
    "pairwise": "People compared two responses to a prompt",
    "ranking": "People ranked several responses to a prompt",
    "rating": "People rated responses by aspects, from 1 to 5",
    "thumbs": "People gave responses thumbs up or down",
    "rewrite": "People rewrote responses as they would have them",
}


def _agreement_rows(result: Export) -> str:
    """Rows of the card's table: every figure of agreement, with 95 % intervals."""
    from rlhf.evaluate.agreement import agreement

    found = agreement(result.independent)
    if found.percent is None:
        share = result.status.agreement
        if share is None:
            return "| agreement | no task has two votes yet |"
        return f"| agreement | {share:.1%} of pairs of votes on the same task agree |"
    share = found.percent
    rows = [
        f"| agreement | {share.value:.1%} ({share.low:.1%} to {share.high:.1%}) of pairs of votes "
        f"on the same task agree, {share.n} tasks |"
    ]
    for name, figure in (
        (f"Fleiss' kappa, {found.fleiss_votes} votes each", found.fleiss),
        ("Krippendorff's alpha, nominal", found.alpha_nominal),
        ("Krippendorff's alpha, ordinal", found.alpha_ordinal),
    ):
        if figure is not None:
            value = f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"
            rows.append(f"| {name} | {value}, {figure.n} tasks |")
    return "\n".join(rows)


def dataset_card(result: Export, digests: Mapping[str, str]) -> str:
    """The README of an export: what it holds, who judged, how well they agree.

    ``digests`` are the SHA-256 of the files beside it.
    """
    status = result.status
    judged = f"{status.complete} of them with {status.overlap} or more votes"
    raters = "\n".join(f"| {r.name} | {r.votes} | {r.skips} |" for r in status.raters)
    # `datasets` cannot read an empty file, and the first of these is what it takes.
    lists = {name: rows for name, rows in result.to_json().items() if rows}
    files = sorted(lists, key=_ORDER.index)
    configs = "\n".join(
        f"- config_name: {name}\n  data_files: {name}.jsonl\n  default: {str(not index).lower()}"
        for index, name in enumerate(files)
    )
    rows = "\n".join(f"| {name} | {len(lists[name])} |" for name in files)
    meanings = "\n".join(f"- `{name}.jsonl`: {_MEANING[name]}." for name in files)
    hashes = "\n".join(f"| {name} | `{digest}` |" for name, digest in digests.items())
    return f"""---
configs:
{configs}
---
# {status.name}

{_ASKED[result.kind]}, blind, each time in an order drawn at random.

| | |
|---|---|
| tasks | {status.comparisons}, {judged} |
| answers | {status.votes}, and {status.skips} skips |
| raters | {len(status.raters)} |
{_agreement_rows(result)}
{rows}

{meanings}

## Guidelines

{result.guidelines or "None were given."}

## Raters

| rater | votes | skips |
|---|---|---|
{raters}

## Files

| file | SHA-256 |
|---|---|
{hashes}
"""
