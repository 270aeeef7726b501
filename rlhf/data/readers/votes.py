"""Individual votes on two responses: in one row, in a column per rater, in a row per vote."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import cast

from rlhf.data.readers.cells import first, prompt_at, text_at
from rlhf.data.readers.dialogue import Row, RowError
from rlhf.records import Comparison, Metadata, Outcome, Prompt, Response, Vote

SIDES = (("response_a", "response_b"), ("response1", "response2"), ("arg1", "arg2"))
VOTE = ("vote", "outcome", "winner", "choice")

_NUMBERED = re.compile(r"annotator_?\d+$")
_OUTCOMES: dict[str, Outcome] = {
    **dict.fromkeys(("a", "a1", "1", "1.0", "response_a", "model_a"), "a"),
    **dict.fromkeys(("b", "a2", "2", "2.0", "response_b", "model_b"), "b"),
    **dict.fromkeys(("tie", "equal", "0", "0.0", "same"), "tie"),
    **dict.fromkeys(("both_bad", "tie (bothbad)"), "both_bad"),
    **dict.fromkeys(("skip", ""), "skip"),
}


@dataclass(frozen=True, slots=True)
class Judged:
    """A comparison with some of the votes on it; the rest may stand in other rows."""

    comparison: Comparison
    votes: tuple[Vote, ...]
    keys: tuple[str, ...] = ()
    """What tells each vote from the others on the comparison, such as who gave it; empty strings,
    or none at all, where nothing does."""


def is_voted(row: Row) -> bool:
    """Whether a row holds two responses and a vote."""
    return any(row.get(side[0]) is not None for side in SIDES) and (
        first(row, ("votes", *VOTE)) is not None or any(map(_NUMBERED.match, row))
    )


def votes(row: Row, metadata: Metadata) -> Iterable[Judged]:
    """Two responses and who preferred which: a list, a column per rater, or a row per vote."""
    sides = next((s for s in SIDES if row.get(s[0]) is not None), SIDES[0])
    if "title" in row and "stance" in row:
        prompt = Prompt.from_text(f"{text_at(row, 'title')}\n{text_at(row, 'stance')}")
    else:
        prompt = prompt_at(row, {}, sides)
    a, b = (_response(row, side) for side in sides)
    comparison = Comparison(prompt, a, b, metadata)
    given = tuple(_votes(row, comparison.id))
    rater = str(row.get("rater") or "")
    yield Judged(comparison, given, (rater,) * len(given) if len(given) == 1 else ())


def _response(row: Row, name: str) -> Response:
    value = row.get(name)
    if isinstance(value, Mapping):
        inner = cast("Row", value)
        return Response(text_at(inner, "text"), str(inner.get("policy", inner.get("id", ""))))
    policy = row.get(f"policy{name.removeprefix('response')}")
    return Response(text_at(row, name), str(policy or ""))


def _votes(row: Row, comparison: str) -> Iterable[Vote]:
    given = row.get("votes")
    if isinstance(given, str):
        given = _decoded("votes", given)
    if isinstance(given, list):
        for number, ballot in enumerate(cast("list[object]", given), start=1):
            inner = cast("Row", ballot) if isinstance(ballot, Mapping) else {"value": ballot}
            name = first(inner, (*VOTE, "value")) or "value"
            rater = inner.get("worker", inner.get("rater", f"rater {number}"))
            reason = str(inner.get("reason") or "")
            yield _vote(comparison, str(rater), inner.get(name), reason)
        return
    single = first(row, VOTE)
    columns = [single] if single else sorted(k for k in row if _NUMBERED.match(k))
    if not columns:
        raise RowError("`votes` is missing")
    for name in columns:
        rater = str(row.get("rater", name)) if single else name
        yield _vote(comparison, rater, row.get(name), "")


def _vote(comparison: str, rater: str, value: object, reason: str) -> Vote:
    outcome = _OUTCOMES.get(str("" if value is None else value).strip().lower())
    if outcome is None:
        raise RowError(f"{value!r} is no vote; use a, b, tie, both_bad or skip")
    return Vote(comparison, rater, outcome, a_side="left", reason=reason)


def ranked(row: Row, metadata: Metadata) -> Iterable[Judged]:
    """Numbered predictions and one verdict on each pair of them (0 tie, 1 first, 2 second)."""
    names = sorted(k for k in row if re.fullmatch(r"prediction \d", k))
    pairs = list(combinations(names, 2))
    verdicts = row.get("preference")
    if not isinstance(verdicts, list) or len(cast("list[object]", verdicts)) != len(pairs):
        raise RowError(f"`preference` must list a verdict on each of the {len(pairs)} pairs")
    passages = row.get("passages") or []
    if not isinstance(passages, list):
        raise RowError("`passages` must be a list")
    parts = [text_at(row, "question"), *map(_passage, cast("list[object]", passages))]
    prompt = Prompt.from_text("\n\n".join(parts))
    for (a, b), verdict in zip(pairs, cast("list[object]", verdicts), strict=True):
        first_, second = (Response(text_at(row, name), name) for name in (a, b))
        comparison = Comparison(prompt, first_, second, metadata)
        yield Judged(comparison, (_vote(comparison.id, "annotator", verdict, ""),))


def _passage(passage: object) -> str:
    return " ".join(map(str, cast("list[object]", passage))) if isinstance(passage, list) else ""


def _decoded(name: str, value: str) -> object:
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise RowError(f"`{name}` is neither a list nor JSON for one") from error
