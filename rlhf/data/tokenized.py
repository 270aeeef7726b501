"""Records as token ids, in the columns that TRL's trainers take. The only place that names them."""

import logging
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any, TypeVar

from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from rlhf.chat import IGNORED, encode_demonstration, encode_prompt, encode_response
from rlhf.config import DataConfig
from rlhf.config.stages import Labels
from rlhf.data.repeated import vote_share
from rlhf.errors import DataError, RenderError
from rlhf.records import Demonstration, Feedback, Preference, Prompt

log = logging.getLogger(__name__)

T = TypeVar("T", Preference, Demonstration, Prompt, Feedback)
Columns = dict[str, Any]
_NUM_NAMED = 5
"""How many of the rows that are too long are named on stderr."""


def sft_dataset(
    records: Sequence[Demonstration], tokenizer: PreTrainedTokenizerFast, data: DataConfig
) -> Dataset:
    """``input_ids`` and ``labels``; the loss counts what has a label.

    Answers that the chat template rewrites once later turns follow have none; they are counted on
    stderr.
    """
    answers = counted = 0

    def encode(record: Demonstration) -> Columns:
        nonlocal answers, counted
        ids, labels = encode_demonstration(tokenizer, record.messages, record.tools)
        answers += sum(message.imitated for message in record.messages[1:])
        counted += sum(a == IGNORED != b for a, b in pairwise(labels))
        return {"input_ids": ids, "labels": labels}

    dataset = _fitting(records, encode, lambda row: len(row["input_ids"]), data)
    if counted < answers:
        log.warning(
            "%d of %d answers teach nothing: where later turns follow, the chat template writes "
            "them otherwise than they are generated",
            answers - counted,
            answers,
        )
    return dataset


def preference_dataset(
    records: Sequence[Preference],
    tokenizer: PreTrainedTokenizerFast,
    data: DataConfig,
    *,
    labels: Labels = "majority",
) -> Dataset:
    """For DPO: ``prompt_ids``, and ``chosen_ids`` and ``rejected_ids`` that go on after it.

    With ``labels`` votes also ``share`` and ``weight``, see :func:`_of_votes`.
    """
    of_votes = _of_votes(records, labels)

    def encode(record: Preference) -> Columns:
        return of_votes(record) | {
            "prompt_ids": encode_prompt(tokenizer, record.prompt),
            "chosen_ids": encode_response(tokenizer, record.prompt, record.chosen),
            "rejected_ids": encode_response(tokenizer, record.prompt, record.rejected),
        }

    def length(row: Columns) -> int:
        return len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"]))

    return _fitting(records, encode, length, data)


def feedback_dataset(
    records: Sequence[Feedback], tokenizer: PreTrainedTokenizerFast, data: DataConfig
) -> Dataset:
    """For KTO: ``prompt_ids``, ``completion_ids`` that go on after it, and ``label``."""

    def encode(record: Feedback) -> Columns:
        return {
            "prompt_ids": encode_prompt(tokenizer, record.prompt),
            "completion_ids": encode_response(tokenizer, record.prompt, record.response),
            "label": record.good,
        }

    return _fitting(
        records, encode, lambda row: len(row["prompt_ids"]) + len(row["completion_ids"]), data
    )


def reward_dataset(
    records: Sequence[Preference],
    tokenizer: PreTrainedTokenizerFast,
    data: DataConfig,
    *,
    use_margin: bool = False,
    labels: Labels = "majority",
) -> Dataset:
    """For the reward model: ``chosen_ids`` and ``rejected_ids`` with the prompt in front of both.

    With ``labels`` votes also ``share`` and ``weight``, see :func:`_of_votes`.

    Raises:
        DataError: if the margin is asked for and some record has none, or a negative one.
    """
    of_votes = _of_votes(records, labels)

    def encode(record: Preference) -> Columns:
        chosen, rejected = encode_pair(record, tokenizer)
        row: Columns = of_votes(record) | {"chosen_ids": chosen, "rejected_ids": rejected}
        if use_margin:
            if record.margin is None:
                raise DataError("has no margin; set use_margin: false or give settled votes")
            if record.margin < 0:
                raise DataError(
                    f"has the negative margin {record.margin:g}, which would reward the rejected "
                    "response; swap the two, or set use_margin: false"
                )
            row["margin"] = record.margin
        return row

    return _fitting(
        records, encode, lambda row: max(len(row["chosen_ids"]), len(row["rejected_ids"])), data
    )


def _of_votes(records: Sequence[Preference], labels: Labels) -> Callable[[Preference], Columns]:
    """The columns of a pair's votes, none with ``labels`` majority.

    ``share`` is the chosen response's share of the votes, ties as half, and ``weight`` their number
    over its mean. So the mean over the pairs is that over all votes, each in its own direction.
    """
    if labels == "majority" or not records:
        return lambda _: {}
    mean = fmean(record.num_votes or 1 for record in records)
    return lambda record: {"share": vote_share(record), "weight": (record.num_votes or 1) / mean}


def encode_pair(
    record: Preference, tokenizer: PreTrainedTokenizerFast
) -> tuple[list[int], list[int]]:
    """The chosen and the rejected response, each after the prompt."""
    prompt = encode_prompt(tokenizer, record.prompt)
    chosen, rejected = (
        prompt + encode_response(tokenizer, record.prompt, text)
        for text in (record.chosen, record.rejected)
    )
    return chosen, rejected


def prompt_dataset(
    records: Sequence[Prompt],
    tokenizer: PreTrainedTokenizerFast,
    data: DataConfig,
    *,
    room: int = 0,
) -> Dataset:
    """For rollouts: ``prompt_ids`` that leave ``room`` tokens for the response, and ``index``.

    ``index`` is the place of the prompt among ``records``.
    """
    numbers = {id(record): number for number, record in enumerate(records)}

    def encode(record: Prompt) -> Columns:
        return {"prompt_ids": encode_prompt(tokenizer, record), "index": numbers[id(record)]}

    return _fitting(records, encode, lambda row: len(row["prompt_ids"]) + room, data)


def _fitting(
    records: Sequence[T],
    encode: Callable[[T], Columns],
    length: Callable[[Columns], int],
    data: DataConfig,
) -> Dataset:
    """The encoded records that are at most ``max_length`` long.

    The others are counted and named, as are those that the chat template cannot write. A column
    ``length`` goes with them, by which rows of a batch are chosen.

    Raises:
        DataError: if none fits, or more than ``max_dropped`` of them do not.
    """
    unwritten: list[str] = []
    written: list[tuple[T, Columns]] = []
    for record in records:
        row = _at_its_place(encode, record)
        if isinstance(row, RenderError):
            unwritten.append(f"{_place(record)}: {row}")
        else:
            written.append((record, row))
    if unwritten:
        _report_unwritten(unwritten, len(records), data)
    lengths = [length(row) for _, row in written]
    kept = [
        {**row, "length": n}
        for (_, row), n in zip(written, lengths, strict=True)
        if n <= data.max_length
    ]
    if len(kept) < len(written):
        _report_long([record for record, _ in written], lengths, len(unwritten), data)
    return Dataset.from_dict(
        {name: [row[name] for row in kept] for name in kept[0]} if kept else {}
    )


def _at_its_place(encode: Callable[[T], Columns], record: T) -> Columns | RenderError:
    try:
        return encode(record)
    except RenderError as error:
        return error
    except DataError as error:
        raise DataError(f"{_place(record)}: {error}") from error


def _report_unwritten(unwritten: Sequence[str], total: int, data: DataConfig) -> None:
    share = len(unwritten) / total
    if len(unwritten) == total or share > data.max_dropped:
        raise DataError(
            f"{unwritten[0]} (so {len(unwritten)} of {total} rows, {share:.0%}; up to "
            "data.max_dropped would be left out)"
        )
    more = f"; and {len(unwritten) - _NUM_NAMED} more" if len(unwritten) > _NUM_NAMED else ""
    log.warning(
        "%d of %d rows cannot be written as the base's chat template wants and are left out: %s%s",
        len(unwritten), total, "; ".join(unwritten[:_NUM_NAMED]), more,
    )  # fmt: skip


def _report_long(
    records: Iterable[T], lengths: Sequence[int], num_unwritten: int, data: DataConfig
) -> None:
    long = [
        f"{_place(r)} ({n})" for r, n in zip(records, lengths, strict=True) if n > data.max_length
    ]
    share = (len(long) + num_unwritten) / (len(lengths) + num_unwritten)
    if len(long) == len(lengths):
        raise DataError(
            f"{long[0]}: every one of the {len(long)} rows is longer than max_length "
            f"({data.max_length} tokens); raise data.max_length to {max(lengths)} or shorten them"
        )
    if share > data.max_dropped:
        others = f", and {num_unwritten} cannot be written" if num_unwritten else ""
        raise DataError(
            f"{long[0]}: {len(long)} of {len(lengths)} rows ({share:.0%}) are longer than "
            f"max_length ({data.max_length} tokens){others}; raise data.max_length, or "
            "data.max_dropped to leave them out"
        )
    named = ", ".join(long[:_NUM_NAMED]) + (", …" if len(long) > _NUM_NAMED else "")
    log.warning(
        "%d of %d rows are longer than %d tokens and are left out: %s",
        len(long), len(lengths), data.max_length, named,
    )  # fmt: skip


def _place(record: Preference | Demonstration | Prompt | Feedback) -> str:
    judged = isinstance(record, (Preference, Feedback))
    notes = record.provenance if judged else record.metadata
    if judged and "origin" not in notes:
        notes = record.prompt.metadata
    return str(notes.get("origin", "a record"))
