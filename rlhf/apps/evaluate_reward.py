"""The audit of a reward run on pairs it never saw, beside floors fitted to its training pairs."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rlhf.config import DataConfig, RewardConfig, SourceConfig, build
from rlhf.data.prepare import load
from rlhf.data.readers.files import digest
from rlhf.data.tokenized import encode_pair
from rlhf.errors import DataError, RunError
from rlhf.evaluate.floors import Floors
from rlhf.evaluate.reward import Audit, audit, table
from rlhf.model.load import load_tokenizer
from rlhf.model.scorer import load_scorer
from rlhf.records import Preference
from rlhf.runs import FinishedRun, open_run


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    """What to audit, and on which pairs."""

    run: Path
    """A finished reward run."""
    data: tuple[str, ...] = ()
    """Files of other pairs; the run's own held-out rows where there are none."""
    format: str = "auto"
    """What their rows mean; one of the formats of a config's sources."""
    cluster: tuple[str, ...] = ()
    """Columns (at most two) whose values make pairs dependent; the prompt without any."""


def run(options: EvaluateOptions, on_progress: Callable[[int], object] | None = None) -> Audit:
    """Audit a reward run; the result is also written into its folder.

    Raises:
        RunError: not a finished reward run, or its data have changed since.
        DataError: there is nothing to audit on.
    """
    finished = open_run(options.run, "reward")
    config = build(RewardConfig, finished.config, where=str(options.run)).data
    _unchanged(finished, config, own=not options.data)
    train, held_out = _pairs(config, options)
    _has_columns(held_out, options.cluster)
    tokenizer = load_tokenizer(str(finished.tokenizer))
    encoded = [encode_pair(pair, tokenizer) for pair in held_out]
    fits = [max(len(ids) for ids in pair) <= config.max_length for pair in encoded]
    pairs = [pair for pair, fit in zip(held_out, fits, strict=True) if fit]
    if not pairs:
        raise DataError(
            f"{options.run}: all {len(fits)} pairs are longer than the {config.max_length} tokens "
            "that it was trained for; give shorter ones with --data"
        )
    rows = [ids for pair, fit in zip(encoded, fits, strict=True) if fit for ids in pair]
    found = load_scorer(options.run).score_ids(rows, [[]] * len(rows), on_progress)
    result = audit(found[::2], found[1::2], pairs, Floors.fitted(train), options.cluster)
    result = replace(result, num_left_out=len(fits) - len(pairs))
    _write(finished, options, result)
    return result


def _unchanged(finished: FinishedRun, config: DataConfig, *, own: bool) -> None:
    """The floors must see what the model saw, and no training pair may pass for a held-out one."""
    for source in (*config.train, *(config.eval if own else ())):
        if finished.facts["data"].get(source.path) != digest(source.path):
            raise RunError(
                f"{source.path}: is not what {finished.path} was trained on any more; put the "
                "old file back"
            )


def _pairs(
    config: DataConfig, options: EvaluateOptions
) -> tuple[Sequence[Preference], Sequence[Preference]]:
    """The run's training pairs, and those to audit on."""
    own = load(config, Preference)
    if not options.data:
        if not own.eval:
            raise DataError(f"{options.run}: it held nothing out; give pairs with --data")
        return own.train, own.eval
    sources = [
        build(SourceConfig, {"path": path, "format": options.format}, where="--data")
        for path in options.data
    ]
    given = load(DataConfig(train=sources, eval_fraction=0.0), Preference).train
    seen = {_texts(pair) for pair in own.train}
    fresh = [pair for pair in given if _texts(pair) not in seen]
    if not fresh:
        names = ", ".join(options.data)
        raise DataError(f"{names}: {options.run} was trained on every pair; give others")
    return own.train, fresh


def _has_columns(pairs: Sequence[Preference], names: Sequence[str]) -> None:
    if len(names) > 2:
        raise DataError(f"--cluster takes two columns at most, not {', '.join(names)}")
    there = sorted(set[str]().union(*(pair.provenance for pair in pairs)))
    for name in names:
        if name not in there:
            raise DataError(f"--cluster: no pair has a column {name!r}; there are {there}")


def _texts(pair: Preference) -> tuple[str, frozenset[str]]:
    return pair.prompt.id, frozenset((pair.chosen, pair.rejected))


def _write(finished: FinishedRun, options: EvaluateOptions, found: Audit) -> None:
    data = {"data": list(options.data) or "held out by the run", **found.to_json()}
    try:
        finished.audit.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
        finished.audit.with_suffix(".md").write_text(table(found), encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"{finished.path}: the audit cannot be written ({error.strerror}); make room or make "
            "the folder writable"
        ) from error
