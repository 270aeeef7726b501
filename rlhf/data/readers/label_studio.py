"""Tasks exported from Label Studio as JSON, from its Pairwise and Ranker templates.

The shapes are those of HumanSignal's own examples. ``tutorials/ls_output_data.json`` in
HumanSignal/RLHF: ``data`` with ``prompt, answer1, answer2``, and ``annotations`` of ``completed_by,
was_cancelled, result`` whose entries of type ``pairwise`` have ``value.selected`` ``left`` or
``right``; left is the first response. ``docs/source/tags/ranker.md`` in HumanSignal/label-studio:
``data`` with ``items`` of ``id, title, body``, and entries of type ``ranker``. Their
``value.ranker`` is the list of ids in their new order, or an object with that list as its only
value; with several buckets that is no ranking, and no vote.
"""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from rlhf.data.readers.cells import first, text_at
from rlhf.data.readers.dialogue import Row, RowError
from rlhf.data.readers.foreign_tasks import (
    Ballot,
    Found,
    Gathered,
    Names,
    objects,
    prompt_of,
    response_names,
    useful,
)
from rlhf.records import Response

_BETTER = ("pairwise", "ranker")
_BODY = ("body", "text", "html", "title")


def is_label_studio(row: Row) -> bool:
    """Whether a row is a task with its annotations."""
    return isinstance(row.get("data"), Mapping) and ("annotations" in row or "id" in row)


def annotated(row: Row, names: Names) -> Found:
    """The prompt, the responses, and what the annotators chose."""
    data = row.get("data")
    if not isinstance(data, Mapping):
        raise RowError("`data` is missing; export the project as JSON")
    shown = cast("Row", data)
    items = objects(shown.get(names.responses[0] if len(names.responses) == 1 else "items"))
    if items:
        ids = [str(item.get("id", number)) for number, item in enumerate(items)]
        responses = tuple(map(_item, items, ids))
    else:
        ids = list(response_names(shown, names))
        responses = tuple(Response(text_at(shown, key)) for key in ids)
    prompt = prompt_of(shown, names)
    notes: dict[str, Any] = {"id": row["id"]} if isinstance(row.get("id"), (str, int)) else {}
    given = _ballots(row, ids, names)
    ballots = tuple(ballot for ballot in given if ballot)
    unclear, none = len(given) - len(ballots), tuple(_no_answers(row))
    return useful(Gathered(prompt, responses, ballots, notes, unclear, none))


def _no_answers(row: Row) -> Iterator[str]:
    """Why annotations are no answers: they were cancelled, or hold nothing."""
    for annotation in objects(row.get("annotations")):
        if annotation.get("was_cancelled"):
            yield "cancelled annotation"
        elif not annotation.get("result"):
            yield "empty annotation"


def _item(item: Row, key: str) -> Response:
    name = first(item, _BODY)
    if name is None:
        raise RowError(f"item {key!r} has no {', '.join(_BODY)}")
    return Response(text_at(item, name), key)


def _ballots(row: Row, ids: list[str], names: Names) -> list[Ballot | None]:
    """What each person said last; None where that does not say which is better."""
    latest: dict[object, tuple[str, Row]] = {}
    annotations = [a for a in objects(row.get("annotations")) if not a.get("was_cancelled")]
    for number, annotation in enumerate(sorted(annotations, key=_when)):
        who = annotation.get("completed_by")
        if isinstance(who, Mapping):
            inner = cast("Row", who)
            who = inner.get("email") or inner.get("id")
        latest[number if who is None else str(who)] = (str(who), annotation)
    return [
        one for who, annotation in latest.values() for one in _said(who, annotation, ids, names)
    ]


def _when(annotation: Row) -> tuple[str, int]:
    """The order in which annotations were made; both are missing from small exports."""
    number = annotation.get("id")
    made = annotation.get("updated_at") or annotation.get("created_at")
    return str(made or ""), number if isinstance(number, int) else 0


def _said(who: str, annotation: Row, ids: list[str], names: Names) -> Iterator[Ballot | None]:
    """One person's answers to the question that was named, or to the only one about what is better.

    Raises:
        RowError: if there are several such questions.
    """
    given: dict[str, Ballot | None] = {}
    for result in objects(annotation.get("result")):
        asked, value = str(result.get("from_name")), result.get("value")
        if names.question not in (None, asked):
            continue
        places = _places(cast("Row", value) if isinstance(value, Mapping) else {}, ids)
        if places is not None:
            number = annotation.get("id")
            given[asked] = Ballot(who, places, key="" if number is None else f"{asked} {number}")
        elif names.question or result.get("type") in _BETTER:
            given[asked] = None
    if len(given) > 1:
        raise RowError(f"several questions say what is better ({', '.join(given)}); name one")
    yield from given.values()


def _places(value: Row, ids: list[str]) -> tuple[int, ...] | None:
    if len(ids) == 2 and value.get("selected") in ("left", "right"):
        return (0, 1) if value["selected"] == "left" else (1, 0)
    ranked = value.get("ranker")
    if isinstance(ranked, Mapping):
        lists = [one for one in cast("Row", ranked).values() if one]
        ranked = lists[0] if len(lists) == 1 else None
    if not isinstance(ranked, list):
        return None
    order = [str(one) for one in cast("list[object]", ranked)]
    return tuple(map(order.index, ids)) if sorted(order) == sorted(ids) else None
