"""Judgements of the same responses, brought together: they are votes, whichever way round."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from rlhf.records import Feedback, Metadata, Preference

T = TypeVar("T", Preference, Feedback)


def settled(records: Sequence[T], counts: Counter[str], *, keep_ties: bool = False) -> list[T]:
    """One record for the same prompt and responses, at the place of the first.

    What was settled before brings all its votes, anything else one. A settled record that is there
    twice with the same votes is a copy of the first. ``counts`` learns of ``repeated`` judgements,
    ``duplicate`` copies and ``tie``; with ``keep_ties`` a preference may have a margin of 0.
    """
    groups: dict[object, list[T]] = {}
    for record in records:
        group = groups.setdefault(responses_of(record), [])
        if _num_votes(record) > 1 and any(_is_copy(record, other) for other in group):
            counts["duplicate"] += 1
        else:
            group.append(record)
    if repeated := sum(len(group) - 1 for group in groups.values()):
        counts["repeated"] += repeated
    found: list[T] = []
    for group in groups.values():
        one = group[0] if len(group) == 1 else _joined(group)
        if _is_tie(one) and not (keep_ties and isinstance(one, Preference)):
            counts["tie"] += 1
        else:
            found.append(one)
    return found


def vote_share(preference: Preference) -> float:
    """The share of the votes that the chosen response has, ties as half; 1 where nobody counted."""
    if preference.num_votes is None or preference.margin is None:
        return 1.0
    return (1 + preference.margin) / 2


def responses_of(record: Preference | Feedback) -> object:
    """What makes two records judgements of the same: the prompt and the responses, in any order."""
    if isinstance(record, Feedback):
        return (record.prompt.id, record.response)
    return (record.prompt.id, frozenset((record.chosen, record.rejected)))


def _is_copy(record: Preference | Feedback, other: Preference | Feedback) -> bool:
    """Whether all but the place in a file is the same."""
    return replace(other, provenance=_notes(other)) == replace(record, provenance=_notes(record))


def _notes(record: Preference | Feedback) -> Metadata:
    return {name: value for name, value in record.provenance.items() if name != "origin"}


def _num_votes(record: Preference | Feedback) -> int:
    if isinstance(record, Feedback):
        known = record.provenance.get("num_votes")
        return known if isinstance(known, int) else 1
    return record.num_votes or 1


def _is_tie(record: Preference | Feedback) -> bool:
    if isinstance(record, Feedback):
        return "num_votes" in record.provenance and record.provenance.get("margin") == 0
    return record.num_votes is not None and record.margin == 0


def _votes(record: Preference) -> tuple[float, float]:
    """The votes for the chosen and for the rejected response; they are whole, ties may be half."""
    number, margin = record.num_votes or 1, record.margin
    if record.num_votes is None or margin is None:
        return 1.0, 0.0
    if record.agreement is None:
        return number * vote_share(record), number * (1 - vote_share(record))
    won = round(number * record.agreement)
    return won, won - round(number * margin)


def _preference(group: Sequence[Preference]) -> Preference:
    first = group[0]
    votes = [_votes(r) if r.chosen == first.chosen else _votes(r)[::-1] for r in group]
    a, b = (sum(side) for side in zip(*votes, strict=True))
    number = sum(map(_num_votes, group))
    both_bad = sum(record.provenance.get("both_bad", 0) for record in group)
    notes = first.provenance if a >= b else _swapped(first.provenance)
    return Preference(
        first.prompt,
        *((first.chosen, first.rejected) if a >= b else (first.rejected, first.chosen)),
        margin=abs(a - b) / number,
        agreement=max(a, b) / number,
        num_votes=number,
        provenance={**notes, **({"both_bad": both_bad} if both_bad else {})},
    )


def _swapped(notes: Metadata) -> Metadata:
    """The notes, with who wrote which response the other way round."""
    names = {"chosen_policy": "rejected_policy", "rejected_policy": "chosen_policy"}
    return {names.get(name, name): value for name, value in notes.items()}


def _feedback(group: Sequence[Feedback]) -> Feedback:
    first, number = group[0], sum(map(_num_votes, group))
    lead = sum((1 if r.good else -1) * _lead(r) for r in group)
    counted = {
        "margin": abs(lead) / number,
        "agreement": (number + abs(lead)) / (2 * number),
        "num_votes": number,
    }
    return replace(first, good=lead > 0, provenance={**first.provenance, **counted})


def _lead(rating: Feedback) -> int:
    """By how many votes one verdict is ahead of the other."""
    number = _num_votes(rating)
    return round(number * rating.provenance.get("margin", 1.0)) if number > 1 else 1


def _joined(group: Sequence[T]) -> T:
    join = _preference if isinstance(group[0], Preference) else _feedback
    return cast("T", cast("Any", join)(group))
