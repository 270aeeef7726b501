"""Records from anywhere: a file, a folder, a label export, the hub."""

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar, cast

from rlhf.config import SourceConfig
from rlhf.config.stages import Labels
from rlhf.data.readers.cells import TURNS
from rlhf.data.readers.dialogue import Row
from rlhf.data.readers.files import rows
from rlhf.data.readers.foreign_tasks import LeftOut
from rlhf.data.readers.formats import SHAPES, Item, Parse, Shape
from rlhf.data.readers.unread import ReadRow
from rlhf.data.readers.votes import Judged
from rlhf.data.repeated import settled
from rlhf.errors import DataError, reason
from rlhf.records import (
    Comparison,
    Demonstration,
    Feedback,
    Message,
    Metadata,
    Preference,
    Prompt,
    Record,
    Vote,
    settle,
    tally,
)

log = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)

_CONTENT = {
    "prompt", "chosen", "rejected", "completion", "response", "output", "input", "text", "label",
    "response_a", "response_b", "response1", "response2", "generation", "context", "system",
    "sentence_good", "sentence_bad", "sent_less", "sent_more", "phrase", "margin", *TURNS,
}  # fmt: skip
"""Columns that become the record itself; other short ones are kept beside it."""
_LONGEST_NOTE = 300
_NEEDS = {
    Preference: "preferences (`prompt`, `chosen`, `rejected`)",
    Demonstration: "demonstrations (`messages`, or `prompt` and `completion`)",
    Prompt: "prompts (`prompt`, or `messages`)",
    Feedback: "ratings (`prompt`, `completion`, `label`)",
    Comparison: "comparisons (`prompt`, `response_a`, `response_b`)",
    str: "plain text (`text`)",
}


def read(
    source: SourceConfig,
    kind: type[R],
    counts: Counter[str] | None = None,
    *,
    labels: Labels = "majority",
) -> list[R]:
    """All records of type ``kind`` in ``source``, in its order.

    What holds more than is asked for is taken apart: a preference is also a good and a bad
    response, and a demonstration of the good one, and everything has a prompt. Each record says
    where it came from, under ``origin`` in its metadata or provenance. Individual votes on one
    comparison, and repeated judgements of the same responses, are settled; what neither response
    won is no preference and is left out. With ``labels`` votes it is one of margin 0, and ratings
    stay apart. ``counts`` learns how many were left out, and why; so does stderr.

    Raises:
        DataError: naming the file, the line and the remedy.
    """
    left_out: Counter[str] = Counter()
    found = list(islice(_converted(source, kind, left_out, labels), source.limit))
    report(source.path, left_out)
    if counts is not None:
        counts.update(left_out)
    return found


def report(path: str, counts: Counter[str]) -> None:
    """Say on stderr what was brought together or left out."""
    said = ", ".join(f"{n} {name.replace('_', ' ')}" for name, n in counts.most_common() if n)
    if said:
        log.warning("%s: settled or left out: %s", path, said)


def read_texts(source: SourceConfig) -> list[str]:
    """The documents of ``source``, as plain text.

    Raises:
        DataError: naming the file, the line and the remedy.
    """
    found: list[str] = []
    for place, item in islice(_items(source), source.limit):
        if not isinstance(item, str):
            raise _mismatch(place, item, str)
        found.append(item)
    if not found:
        raise DataError(f"{source.path}: no row holds any text; give another file")
    return found


def _converted(
    source: SourceConfig, kind: type[R], counts: Counter[str], labels: Labels
) -> Iterator[R]:
    items = _items(source)
    if kind in (Preference, Feedback):
        items = _settled(items, counts)
    if kind in (Preference, Feedback, Demonstration):
        items = _brought_together(items, source, counts, kind, labels)
    if kind is Prompt and _is_plain(source.path):
        items = ((place, p) for place, item in items for p in _lines(item))
    empty = True
    for place, item in items:
        records = [item] if type(item) is kind else _AS[kind](item)
        if records is None:
            raise _mismatch(place, item, kind)
        for record in records:
            empty = False
            yield cast("R", record)
    if empty:
        raise DataError(
            f"{source.path}: no row amounts to anything to train on (all are empty or ties); "
            "give another file"
        )


def _items(source: SourceConfig) -> Iterator[tuple[str, Item]]:
    """Every row, understood, with its place; what is of no use is counted on stderr."""
    left_out: Counter[str] = Counter()
    for place, item in _all_items(source):
        if isinstance(item, LeftOut):
            left_out[item.reason] += 1
        else:
            yield place, item
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
        log.warning("%s: left out: %s", source.path, reasons)


def _all_items(source: SourceConfig) -> Iterator[tuple[str, Item | LeftOut]]:
    """Every row, understood, with its place; columns without use are listed on stderr."""
    parse = None
    unread: dict[str, None] = {}
    try:
        for place, row in rows(source.path, source.split):
            parse = parse or _shape(place, row, source).parse
            read_row = ReadRow(row)
            found = _parsed(place, row, read_row, parse)
            unread |= dict.fromkeys(read_row.unread())
            yield from ((place, item) for item in found)
    finally:  # also where `limit` ends it
        if unread:
            names = ", ".join(f"`{name}`" for name in unread)
            log.warning("%s: no text comes from %s", source.path, names)


def _parsed(place: str, row: Row, read_row: ReadRow, parse: Parse) -> list[Item | LeftOut]:
    try:
        found = list(parse(read_row, _notes(place, row)))
    except ValueError as error:
        raise DataError(f"{place}: {reason(error)}; mend or remove the row") from error
    for item in found:
        if isinstance(item, Preference) and not math.isfinite(item.margin or 0.0):
            raise DataError(f"{place}: `margin` must be finite; mend or remove the row")
    return found


def _shape(place: str, row: Row, source: SourceConfig) -> Shape:
    """The shape of the first row, which is taken to be that of all."""
    named = [s for s in SHAPES if source.format in ("auto", s.format)]
    for shape in named:
        if shape.matches(row):
            return shape
    columns = ", ".join(f"`{name}`" for name in row) or "none"
    if source.format == "auto":
        raise DataError(
            f"{place}: cannot tell what the columns mean ({columns}); rename them to "
            + "; or ".join(shape.columns for shape in SHAPES if shape.named)
        )
    raise DataError(f"{place}: format {source.format} needs {named[0].columns}; found {columns}")


def _notes(place: str, row: Row) -> Metadata:
    notes: dict[str, Any] = {"origin": place}
    for name, value in row.items():
        short = isinstance(value, str) and len(value) <= _LONGEST_NOTE
        if name not in _CONTENT and (short or isinstance(value, (bool, int, float))):
            notes[name] = value
    return notes


def _settled(items: Iterable[tuple[str, Item]], counts: Counter[str]) -> Iterator[tuple[str, Item]]:
    """The same, with the votes on each comparison brought together and settled.

    Who has voted on it before, or an annotation that is listed again, counts once: the last time.
    """
    open_: dict[str, tuple[str, Comparison, dict[object, Vote]]] = {}
    for place, item in items:
        if not isinstance(item, Judged):
            yield place, item
            continue
        _, _, given = open_.setdefault(item.comparison.id, (place, item.comparison, {}))
        for number, vote in enumerate(item.votes):
            key = (item.keys[number] if item.keys else "") or len(given)
            if key in given:
                counts["repeated_vote"] += 1
            given[key] = vote
    for place, comparison, given in open_.values():
        count = tally(given.values())
        preference = settle(comparison, list(given.values()))
        if preference:
            yield place, preference
        elif count.n:
            a, b = comparison.response_a.text, comparison.response_b.text
            share, notes = count.a / count.n, {"origin": place, **comparison.metadata}
            notes |= {"both_bad": count.both_bad} if count.both_bad else {}
            yield place, Preference(comparison.prompt, a, b, 0.0, share or None, count.n, notes)
        else:
            counts["unanswered"] += 1


def _brought_together(
    items: Iterable[tuple[str, Item]],
    source: SourceConfig,
    counts: Counter[str],
    kind: type,
    labels: Labels,
) -> Iterator[tuple[str, Item]]:
    """The same, with repeated judgements settled, and without those too few agree on."""
    preferences: list[Preference] = []
    ratings: list[Feedback] = []
    for place, item in items:
        if isinstance(item, Preference):
            preferences.append(item)
        elif isinstance(item, Feedback):
            ratings.append(item)
        else:
            yield place, item
        if source.limit and max(len(preferences), len(ratings)) == source.limit:
            break
    ties = kind is Preference and labels == "votes"
    for one in settled(preferences, counts, keep_ties=ties):
        why = _too_few(one, source, kind, ties=ties)
        if why is None:
            yield str(one.provenance.get("origin", source.path)), one
        else:
            counts[why] += 1
    apart = kind is Feedback and labels == "votes"
    for one in ratings if apart else settled(ratings, counts):
        yield str(one.provenance.get("origin", source.path)), one


def _too_few(one: Preference, source: SourceConfig, kind: type, *, ties: bool) -> str | None:
    """Why a preference is left out, if it is; see :class:`rlhf.config.SourceConfig`."""
    number = one.num_votes or 1
    if number < source.min_votes:
        return "below_min_votes"
    least = source.min_agreement
    if least is None:
        if 2 * one.provenance.get("both_bad", 0) > number:
            return "both_bad"
        least = 0.5 if kind is Demonstration else 0.0
    elif ties and one.margin == 0:
        return None
    return "below_min_agreement" if (one.agreement or 1.0) < least else None


def _mismatch(place: str, item: Item, kind: type) -> DataError:
    held = _NEEDS[Comparison if isinstance(item, Judged) else type(item)].split(" (")[0]
    return DataError(f"{place}: holds {held}, but {_NEEDS[kind]} are needed; give another file")


def _is_plain(path: str) -> bool:
    return path.endswith((".txt", ".txt.gz"))


def _lines(item: Item) -> Iterator[Prompt]:
    """In a plain text file of prompts, each line is one."""
    for line in item.splitlines() if isinstance(item, str) else ():
        if line.strip():
            yield Prompt.from_text(line.strip())


def _prompt(item: Item) -> list[Prompt] | None:
    if isinstance(item, Demonstration):
        reply = item.messages[-1].role == "assistant"
        before = item.messages[:-1] if reply else item.messages
        return [Prompt(before, item.metadata, item.tools)]
    if isinstance(item, Judged):
        return [item.comparison.prompt]
    return [item.prompt] if isinstance(item, (Preference, Feedback)) else None


def _demonstration(item: Item) -> list[Demonstration] | None:
    if isinstance(item, Preference):
        reply = item.chosen
    elif isinstance(item, Feedback):
        if not item.good:
            return []
        reply = item.response
    else:
        return None
    messages = (*item.prompt.messages, Message("assistant", reply))
    return [Demonstration(messages, item.provenance, item.prompt.tools)]


def _comparison(item: Item) -> list[Comparison] | None:
    return [item.comparison] if isinstance(item, Judged) else None


def _feedback(item: Item) -> list[Feedback] | None:
    if not isinstance(item, Preference):
        return None
    if item.chosen.strip() == item.rejected.strip():
        return []
    chosen, rejected = (item.chosen, True), (item.rejected, False)
    return [Feedback(item.prompt, text, good, item.provenance) for text, good in (chosen, rejected)]


def _none(item: Item) -> None:
    """Nothing else amounts to one."""


_AS: dict[type, Callable[[Item], Sequence[Record] | None]] = {
    Preference: _none,
    Feedback: _feedback,
    Prompt: _prompt,
    Demonstration: _demonstration,
    Comparison: _comparison,
}
