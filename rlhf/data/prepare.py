"""From sources to what a stage trains on and what it never sees: clean, without duplicates, split.

A prompt is held out by its content hash, so the same prompt is held out in every stage.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from rlhf.config import DataConfig, SourceConfig
from rlhf.config.stages import Labels
from rlhf.data.mixture import weighted
from rlhf.data.readers.files import digest
from rlhf.data.repeated import responses_of, settled
from rlhf.data.sources import read, report
from rlhf.errors import DataError
from rlhf.records import Demonstration, Feedback, Preference, Prompt, content_hash

K = TypeVar("K", Preference, Demonstration, Prompt, Feedback)


@dataclass(frozen=True, slots=True)
class Loaded(Generic[K]):
    """Records, split. ``train`` repeats or thins the sources as their weights say."""

    train: list[K]
    eval: list[K]
    files: dict[str, str]
    """Path to ``sha256:…``, for the run's provenance."""
    notes: dict[str, int] = field(default_factory=dict[str, int])
    """How many records were read, and how many left out for which reason."""


def load(data: DataConfig, kind: type[K], labels: Labels = "majority") -> Loaded[K]:
    """The records that ``data`` names, clean and split.

    Left out and counted: duplicate demonstrations and prompts, preferences whose two responses are
    the same text, records without a prompt, and training records whose prompt is among the
    evaluation records. Judgements of the same responses, of whatever source, are votes and become
    one record, at the place of the first; :func:`rlhf.data.sources.read` says what ``labels`` do.

    Raises:
        DataError: if a source cannot be read, or nothing is left to train on.
    """
    counts: Counter[str] = Counter()
    seen: set[object] = set()
    eval_sources, sources = (
        [_clean(source, kind, seen, counts, labels) for source in side]
        for side in (data.eval, data.train)
    )
    if kind is Preference or (kind is Feedback and labels == "majority"):
        eval_sources, sources = (
            _settled_over(side, counts, labels) for side in (eval_sources, sources)
        )
    held_out = [record for records in eval_sources for record in records]
    if data.eval:
        ids = {prompt_id(record) for record in held_out}
    else:
        ids = held_out_ids([prompt_id(r) for s in sources for r in s], data.eval_fraction)
        held_out = [r for records in sources for r in records if prompt_id(r) in ids]
    train: list[K] = []
    for source, records in zip(data.train, sources, strict=True):
        kept = [record for record in records if prompt_id(record) not in ids]
        counts["held_out_prompt"] += (len(records) - len(kept)) if data.eval else 0
        train += weighted(kept, source.weight)
    if not train:
        raise DataError(_nothing_left(data, counts))
    counts.update(train=len(train), eval=len(held_out))
    files = {source.path: digest(source.path) for source in (*data.train, *data.eval)}
    return Loaded(train, held_out, files, {k: v for k, v in counts.items() if v})


def prompt_id(record: Preference | Demonstration | Prompt | Feedback) -> str:
    """The id of the record's prompt; a demonstration's is what comes before its last reply."""
    if isinstance(record, Prompt):
        return record.id
    if isinstance(record, Demonstration):
        reply = record.messages[-1].role == "assistant"
        before = record.messages[:-1] if reply else record.messages
        return Prompt(before, tools=record.tools).id
    return record.prompt.id


def held_out_ids(ids: Sequence[str], fraction: float) -> set[str]:
    """The share of prompt ids that is held out: those with the smallest hashes.

    Which ids these are depends on each id alone, so adding data moves no prompt across. Of two
    prompts or more at least one is held out and at least one is not.
    """
    if not fraction:
        return set()
    different = sorted(set(ids))
    if len(different) < 2:
        return set()
    found = {i for i in different if int(i, 16) < fraction * 16 ** len(i)}
    return (found or {different[0]}) - ({different[-1]} if len(found) == len(different) else set())


def _clean(
    source: SourceConfig,
    kind: type[K],
    seen: set[object],
    counts: Counter[str],
    labels: Labels,
) -> list[K]:
    kept: list[K] = []
    left_out: Counter[str] = Counter()
    records = read(source, kind, counts, labels=labels)
    for record in records:
        why = _unusable(record)
        key = _key(record)
        if why is None and key is not None and key in seen:
            why = "duplicate"
        seen.add(key)
        if why:
            left_out[why] += 1
        else:
            kept.append(record)
            left_out["empty_answer"] += _num_empty_answers(record)
    report(source.path, left_out)
    counts.update(left_out, read=len(records))
    return kept


def _settled_over(sources: list[list[K]], counts: Counter[str], labels: Labels) -> list[list[K]]:
    """The same, where several sources have judgements of the same responses."""
    at: dict[object, int] = {}
    for number, records in enumerate(sources):
        for record in records:
            at.setdefault(responses_of(cast("Preference", record)), number)
    records = cast("list[Preference]", [record for records in sources for record in records])
    found: list[list[K]] = [[] for _ in sources]
    left_out: Counter[str] = Counter()
    for one in settled(records, left_out, keep_ties=labels == "votes"):
        found[at[responses_of(one)]].append(cast("K", one))
    report("all sources together", left_out)
    counts.update(left_out)
    return found


def _num_empty_answers(record: Preference | Demonstration | Prompt | Feedback) -> int:
    """How many turns of a demonstration say nothing that could be imitated."""
    turns = record.messages[1:] if isinstance(record, Demonstration) else ()
    return sum(m.role == "assistant" and m.weight == 1 and not m.imitated for m in turns)


def _unusable(record: Preference | Demonstration | Prompt | Feedback) -> str | None:
    if isinstance(record, Demonstration):
        return None if any(m.imitated for m in record.messages[1:]) else "no_reply"
    prompt = record if isinstance(record, Prompt) else record.prompt
    if not prompt.messages:
        return "no_prompt"
    if isinstance(record, Preference) and record.chosen.strip() == record.rejected.strip():
        return "same_responses"
    return None


def _key(record: Preference | Demonstration | Prompt | Feedback) -> str | None:
    """What is a duplicate where it is there twice; judgements are votes instead."""
    if isinstance(record, Demonstration):
        weights = "".join(str(m.weight) for m in record.messages)
        return content_hash(Prompt(record.messages, tools=record.tools).id, weights)
    return record.id if isinstance(record, Prompt) else None


def _nothing_left(data: DataConfig, counts: Counter[str]) -> str:
    paths = ", ".join(source.path for source in data.train)
    if (
        counts["same_responses"]
        and counts["same_responses"] + counts["duplicate"] >= counts["read"]
    ):
        return (
            f"{paths}: chosen and rejected are the same text in all "
            f"{counts['same_responses'] + counts['repeated']} pairs; "
            "there is nothing to learn from; check the columns"
        )
    reasons = ", ".join(f"{v} {k}" for k, v in counts.items() if v and k != "read")
    return (
        f"{paths}: nothing is left to train on of {counts['read']} records ({reasons}); "
        "give other data"
    )
