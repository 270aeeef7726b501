"""Battles of the Chatbot Arena, in the files that were published from it.

The shape is that of ``clean_battle_data.py`` in lm-sys/FastChat (``fastchat/serve/monitor``), in
mode ``conv_release``: ``question_id, model_a, model_b, winner, judge, conversation_a,
conversation_b, turn, anony, language, tstamp``; ``winner`` is ``model_a``, ``model_b``, ``tie`` or
``tie (bothbad)``, which later files call ``both_bad``. So is what makes a battle useless: error
texts for answers, and answers that name a model.

The files of two competitions have ``prompt, response_a, response_b`` in place of conversations:
each a text, or in the first (``lmsys-arena-human-preference-55k``) the JSON of a list with a text
for each turn, with ``winner_model_a, winner_model_b, winner_tie``, one of which is 1.
"""

import json
import re
from collections.abc import Sequence
from typing import cast

from pydantic import ValidationError

from rlhf.data.readers.cells import text_at
from rlhf.data.readers.dialogue import Row, RowError, conversation
from rlhf.data.readers.foreign_tasks import Ballot, Found, Gathered, LeftOut, Names, objects, useful
from rlhf.records import Message, Prompt, Response

Turns = Sequence[str | None]
Talk = tuple[Message, ...]

_ERRORS = (
    "network error due to high traffic",
    "your input violates our content moderation guidelines",
    "api request error",
)
_CURSOR = "▌"
"""What FastChat shows at the end of an answer that is still being written."""

_BAD = ("tie (bothbad)", "both_bad")
_PLACES = {"model_a": (0, 1), "model_b": (1, 0), "tie": (0, 0), **dict.fromkeys(_BAD, (0, 0))}
_ONE_HOT = {f"winner_{winner}": winner for winner in ("model_a", "model_b", "tie")}
_TALKS = ("conversation_a", "conversation_b")
_TEXTS = ("prompt", "response_a", "response_b")
_KEPT = ("question_id", "id", "language", "turn", "tstamp")


def is_arena(row: Row) -> bool:
    """Whether a row is a battle."""
    keys = row.keys()
    voted = {"model_a", "model_b", "winner"} <= keys or _ONE_HOT.keys() <= keys
    return keys >= set(_TALKS) or (voted and keys >= set(_TEXTS))


def battle(row: Row, names: Names) -> Found:  # noqa: ARG001 - as all readers
    """Two conversations that differ in their last answer, and who won."""
    if any(_has_image(row.get(name)) for name in _TALKS):
        return LeftOut("has an image")
    try:
        a, b = _talks(row)
    except ValidationError:
        return LeftOut("text that no file can hold")
    models = [str(row.get(f"model_{side}") or "") for side in "ab"]
    why = _of_no_use(a, b, models)
    return useful(_gathered(row, a, b, models)) if why is None else LeftOut(why)


def _of_no_use(a: Talk, b: Talk, models: Sequence[str]) -> str | None:
    """Why nobody can learn from a battle, if that is so."""
    if any(len(talk) < 2 or talk[-1].role != "assistant" for talk in (a, b)):
        return "unfinished"
    if a[:-1] != b[:-1]:
        return "different conversations before the last answer"
    said = [m.content for m in a if m.role == "assistant"] + [b[-1].content]
    if any(text.endswith(_CURSOR) for text in said):
        return "unfinished"
    if any(error in text.lower() for text in said for error in _ERRORS):
        return "error text"
    if any(names_model(text, model) for text in said for model in models):
        return "names a model"
    return None


def _gathered(row: Row, a: Talk, b: Talk, models: Sequence[str]) -> Gathered:
    answers = zip((a[-1].content, b[-1].content), models, strict=True)
    responses = tuple(Response(text, model) for text, model in answers)
    notes = {name: row[name] for name in _KEPT if isinstance(row.get(name), (str, int, float))}
    return Gathered(Prompt(a[:-1]), responses, _ballots(row), notes)


def names_model(text: str, model: str) -> bool:
    """Whether ``text`` has the name of ``model`` in it, as a word of its own."""
    return bool(model) and bool(re.search(rf"(?<!\w){re.escape(model)}(?!\w)", text, re.IGNORECASE))


def _talk(value: object) -> Talk:
    """The messages; none where the last answer was never written."""
    if isinstance(value, list) and value:
        last = value[-1]  # pyright: ignore[reportUnknownVariableType]
        if isinstance(last, dict) and last.get("content", "") is None:  # pyright: ignore[reportUnknownMemberType]
            return ()
    return conversation(value)


def _has_image(value: object) -> bool:
    """Whether a part of a message is an image."""
    parts = [part for message in objects(value) for part in objects(message.get("content"))]
    return any(part.get("image") is not None or part.get("type") == "image" for part in parts)


def _talks(row: Row) -> list[Talk]:
    """Both talks; none where a turn was never written."""
    if _TALKS[0] in row:
        return [_talk(row.get(name)) for name in _TALKS]
    texts = [text_at(row, name) for name in _TEXTS]
    asked, *said = _turns(texts) or [(text,) for text in texts]
    return [_interleaved(asked, answers) for answers in said]


def _turns(texts: list[str]) -> Sequence[Turns] | None:
    """The turns in each text, if they are all lists of as many."""
    try:
        found: list[object] = [json.loads(text) for text in texts]
    except (ValueError, RecursionError):
        return None
    lists = [cast("list[object]", one) for one in found if isinstance(one, list)]
    turns = [[turn for turn in one if turn is None or isinstance(turn, str)] for one in lists]
    whole = turns == lists and len(lists) == len(texts)
    return turns if whole and len(set(map(len, turns))) == 1 and turns[0] else None


def _interleaved(asked: Turns, said: Turns) -> Talk:
    talk: list[Message] = []
    for question, answer in zip(asked, said, strict=True):
        if question is None or answer is None:
            return ()
        talk += [Message("user", question), Message("assistant", answer)]
    return tuple(talk)


def _winner(row: Row) -> object:
    """The word for who won; None where nobody voted."""
    marks = {winner: row[name] for name, winner in _ONE_HOT.items() if row.get(name) is not None}
    if not marks:
        return row.get("winner")
    won = [winner for winner, mark in marks.items() if str(mark).lower() in ("1", "1.0", "true")]
    if len(won) != 1:
        raise RowError(f"one of {', '.join(_ONE_HOT)} must be 1, not {len(won)} of them")
    return won[0]


def _ballots(row: Row) -> tuple[Ballot, ...]:
    """One, or none where the models' names were on show or nobody voted."""
    winner = _winner(row)
    if winner is None or row.get("anony") is False:
        return ()
    places = _PLACES.get(winner) if isinstance(winner, str) else None
    if places is None:
        raise RowError(f"`winner` must be one of {', '.join(_PLACES)}, not {winner!r}")
    judge = row.get("judge")
    who = judge if isinstance(judge, str) and judge else "unknown"
    number = row.get("question_id") or row.get("id")
    key = "" if number is None else f"{number} {who}"
    return (Ballot(who, places, both_bad=winner in _BAD, key=key),)
