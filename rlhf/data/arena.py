"""Battles as FastChat's arena writes them, in the files that LMSYS published from it.

The shape is that of ``clean_battle_data.py`` in lm-sys/FastChat (``fastchat/serve/monitor``), in
mode ``conv_release``: ``question_id, model_a, model_b, winner, judge, conversation_a,
conversation_b, turn, anony, language, tstamp``; ``winner`` is ``model_a``, ``model_b``, ``tie`` or
``tie (bothbad)``. So is what makes a battle useless: error texts for answers, and answers that
name a model.
"""

import re

from rlhf.data.dialogue import Row, RowError, conversation
from rlhf.data.gathered import Ballot, Found, Gathered, LeftOut, Names, useful
from rlhf.records import Message, Prompt, Response

_ERRORS = (
    "network error due to high traffic",
    "your input violates our content moderation guidelines",
    "api request error",
)
_CURSOR = "▌"
"""What FastChat shows at the end of an answer that is still being written."""

_PLACES = {"model_a": (0, 1), "model_b": (1, 0), "tie": (0, 0), "tie (bothbad)": (0, 0)}
_KEPT = ("question_id", "language", "turn", "tstamp")


def is_arena(row: Row) -> bool:
    """Whether a row is a battle."""
    return "conversation_a" in row and "conversation_b" in row


def battle(row: Row, names: Names) -> Found:  # noqa: ARG001 - as all readers
    """Two conversations that differ in their last answer, and who won."""
    talks = [_talk(row.get(f"conversation_{side}")) for side in "ab"]
    models = [str(row.get(f"model_{side}") or "") for side in "ab"]
    if not all(talks):
        return LeftOut("unfinished")
    a, b = talks
    if a[-1].role != "assistant" or b[-1].role != "assistant" or len(a) < 2:
        return LeftOut("unfinished")
    if a[:-1] != b[:-1]:
        return LeftOut("different conversations before the last answer")
    said = [m.content for m in a if m.role == "assistant"] + [b[-1].content]
    if any(text.endswith(_CURSOR) for text in said):
        return LeftOut("unfinished")
    if any(error in text.lower() for text in said for error in _ERRORS):
        return LeftOut("error text")
    if any(names_model(text, model) for text in said for model in models):
        return LeftOut("names a model")
    answers = (a[-1].content, b[-1].content)
    pairs = zip(answers, models, strict=True)
    notes = {name: row[name] for name in _KEPT if isinstance(row.get(name), (str, int, float))}
    return useful(
        Gathered(
            Prompt(a[:-1]),
            tuple(Response(text, model) for text, model in pairs),
            _ballots(row),
            notes,
        )
    )


def names_model(text: str, model: str) -> bool:
    """Whether ``text`` has the name of ``model`` in it, as a word of its own."""
    return bool(model) and bool(re.search(rf"(?<!\w){re.escape(model)}(?!\w)", text, re.IGNORECASE))


def _talk(value: object) -> tuple[Message, ...]:
    """The messages; none where the last answer was never written."""
    if isinstance(value, list) and value:
        last = value[-1]  # pyright: ignore[reportUnknownVariableType]
        if isinstance(last, dict) and last.get("content", "") is None:  # pyright: ignore[reportUnknownMemberType]
            return ()
    return conversation(value)


def _ballots(row: Row) -> tuple[Ballot, ...]:
    """One, or none where the models' names were on show or nobody voted."""
    winner = row.get("winner")
    if winner is None or row.get("anony") is False:
        return ()
    places = _PLACES.get(winner) if isinstance(winner, str) else None
    if places is None:
        raise RowError(f"`winner` must be one of {', '.join(_PLACES)}, not {winner!r}")
    judge = row.get("judge")
    who = judge if isinstance(judge, str) and judge else "unknown"
    return (Ballot(who, places, both_bad=winner == "tie (bothbad)"),)
