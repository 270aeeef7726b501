"""Records exported from Argilla, in the four shapes that its packages write.

From argilla 2.8.0: ``records.to_json()`` and ``to_list()`` (``Record.to_dict``: ``fields``;
``responses`` as ``{question: [{value, user_id}]}``) and ``to_list(flatten=True)``
(``records/_io/_generic.py``: fields at the top, ``question.responses`` beside
``question.responses.users`` and ``question.responses.status``). A ranking's value is a list of
names, the best first.

From argilla-v1 1.29.1: a ``FeedbackRecord`` as JSON (``schemas/responses.py``: ``responses`` as
``[{user_id, status, values: {question: {value}}}]``) and ``format_as("datasets")``
(``integrations/huggingface/dataset.py``: fields at the top, each question a list of ``{user_id,
value, status}``). A ranking's value is a list of ``{value, rank}``, in which ranks may tie.

Drafts and discarded answers are not read where the shape tells them apart; the nested shape of
2.x does not.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeGuard, cast

from rlhf.data.readers.cells import text_at
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

_ENDS = (".responses", ".suggestion", "-suggestion")
_TIE = ("tie", "equal", "same", "both")
_BOTH_BAD = ("both_bad", "both bad", "neither", "none")

Answers = dict[str, list[tuple[str, object]]]
"""By question: who answered, and what."""


def is_argilla(row: Row) -> bool:
    """Whether a row is one of Argilla's records, of any shape."""
    nested = isinstance(row.get("fields"), Mapping)
    return nested or any(key.endswith(_ENDS) for key in row)


def feedback_record(row: Row, names: Names) -> Found:
    """The prompt, the responses, and the answers to the question of which is better."""
    fields = row.get("fields")
    shown = cast("Row", fields) if isinstance(fields, Mapping) else row
    keys = response_names(shown, names)
    prompt = prompt_of(shown, names)
    responses = tuple(Response(text_at(shown, key)) for key in keys)
    given = _ballots(_answers(row), keys, names) if len(keys) > 1 else []
    ballots = tuple(ballot for ballot in given if ballot)
    known = row.get("external_id") or row.get("id")
    notes: dict[str, Any] = {"id": known} if isinstance(known, (str, int)) else {}
    return useful(Gathered(prompt, responses, ballots, notes, len(given) - len(ballots)))


def _answers(row: Row) -> Answers:
    given = row.get("responses")
    if isinstance(given, Mapping):
        nested = cast("Row", given).items()
        return {
            question: [_answer(one) for one in objects(entries)] for question, entries in nested
        }
    found: Answers = {}
    for one in objects(given):
        for question, answer in _of_person(one):
            found.setdefault(question, []).append(answer)
    for key, value in row.items():
        entries = [] if key == "responses" else objects(value)
        if key.endswith(".responses"):
            found[key.removesuffix(".responses")] = list(_flattened(row, key))
        elif entries and all("user_id" in one for one in entries):
            found[key] = [_answer(one) for one in entries if _counts(one.get("status"))]
    return found


def _of_person(given: Row) -> Iterator[tuple[str, tuple[str, object]]]:
    """What one person answered to each question."""
    values = given.get("values")
    if isinstance(values, Mapping) and _counts(given.get("status")):
        for question, value in cast("Row", values).items():
            inner = cast("Row", value) if isinstance(value, Mapping) else {"value": value}
            yield question, (str(given.get("user_id")), inner.get("value"))


def _answer(entry: Row) -> tuple[str, object]:
    return str(entry.get("user_id")), entry.get("value")


def _counts(status: object) -> bool:
    return status in (None, "submitted")


def _flattened(row: Row, key: str) -> Iterator[tuple[str, object]]:
    columns = [row.get(name) for name in (key, f"{key}.users", f"{key}.status")]
    values, users, states = (
        cast("list[object]", one) if isinstance(one, list) else [] for one in columns
    )
    for number, value in enumerate(values):
        state = states[number] if number < len(states) else None
        who = users[number] if number < len(users) else f"rater {number + 1}"
        if _counts(state):
            yield str(who), value


def _ballots(answers: Answers, keys: tuple[str, ...], names: Names) -> list[Ballot | None]:
    """The answers to the question that was named, or to the only one that is about the responses.

    None for an answer that does not say which is better. A number is which response is best only
    where the question was named: it may be a mark as well.
    """
    if names.question is not None and names.question not in answers and answers:
        raise RowError(f"no question `{names.question}` among {', '.join(map(repr, answers))}")
    read = {
        question: [_ballot(who, value, keys, named=names.question is not None)
                   for who, value in given if value is not None]
        for question, given in answers.items()
        if names.question in (None, question)
    }  # fmt: skip
    about = {q: given for q, given in read.items() if names.question or _is_about(given)}
    if len(about) > 1:
        raise RowError(f"several questions say what is better ({', '.join(about)}); name one")
    return [ballot for given in about.values() for ballot in given]


def _is_about(given: Sequence[Ballot | None]) -> bool:
    """Whether a question is about the responses: one is named, or all say what a tie is called.

    A comment may be "same" as well.
    """
    return any(one and any(one.places) for one in given) or (bool(given) and all(given))


def _ballot(who: str, value: object, keys: tuple[str, ...], *, named: bool) -> Ballot | None:
    ranks = _ranks(value)
    if ranks is not None:
        if set(ranks) != set(keys):
            return None
        places = sorted(set(ranks.values()))
        return Ballot(who, tuple(places.index(ranks[key]) for key in keys))
    if isinstance(value, (list, Mapping)):
        return None
    said = str(value).strip()
    if said.lower() in (*_TIE, *_BOTH_BAD):
        return Ballot(who, (0,) * len(keys), both_bad=said.lower() in _BOTH_BAD)
    best = keys.index(said) if said in keys else None
    if best is None and named and said.isdecimal() and 1 <= int(said) <= len(keys):
        best = int(said) - 1
    return None if best is None else Ballot(who, tuple(int(n != best) for n in range(len(keys))))


def _is_number(rank: object) -> TypeGuard[str]:
    return isinstance(rank, str) and rank.strip().isascii() and rank.strip().isdecimal()


def _ranks(value: object) -> dict[str, int] | None:
    """The rank of each name, of whichever form; None if it is no ranking."""
    if isinstance(value, Mapping):  # columns, as `datasets` keeps a list of objects
        columns = cast("Row", value)
        names, ranks = columns.get("value"), columns.get("rank")
        pairs = (
            list(zip(cast("list[object]", names), cast("list[object]", ranks), strict=False))
            if isinstance(names, list) and isinstance(ranks, list)
            else []
        )
    elif isinstance(value, list):
        entries = cast("list[object]", value)
        pairs = [
            (cast("Row", one).get("value"), cast("Row", one).get("rank", place))
            if isinstance(one, Mapping)
            else (one, place)
            for place, one in enumerate(entries)
        ]
    else:
        return None
    found = {
        name: int(rank)
        for name, rank in pairs
        if isinstance(name, str) and (isinstance(rank, int) or _is_number(rank))
    }
    return found if len(found) == len(pairs) and found else None
