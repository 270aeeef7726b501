"""What a response is worth: reward runs and Python callables, weighted."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from rlhf.errors import ModelError, RewardError
from rlhf.model.adapters import load_adapter
from rlhf.model.heads import ScoreHead, load_head
from rlhf.model.load import storage_of
from rlhf.model.roles import adapter_name
from rlhf.model.scoring import Sequences, scores
from rlhf.model.start import Start
from rlhf.rollouts.passes import Passes
from rlhf.runs import open_run

Row = Mapping[str, Any]
"""A row of the dataset: ``prompt`` as text or messages, and what callables want besides."""
RewardCallable = Callable[..., Sequence[float | None]]
"""TRL's signature: ``(prompts, completions, completion_ids, **columns) -> list of float``.

None or NaN says that a response is not judged."""
RewardFunc = str | Path | RewardCallable

LARGEST = 1e15
"""Scores are squared and added up in fp32, which ends at 3e38."""


@dataclass(frozen=True, slots=True)
class Drawn:
    """One response for each row of the dataset, as rewards see it."""

    rows: Sequence[Row]
    prompts: Sequence[Sequence[int]]
    responses: Sequence[Sequence[int]]
    """Token ids, as of the prompts."""
    texts: Sequence[str]
    sequences: Sequences
    """Each prompt with its response."""


class Reward(Protocol):
    """What scores responses."""

    @property
    def name(self) -> str:
        """What its scores are called in the metrics."""
        ...

    def score(self, drawn: Drawn, passes: Passes) -> Tensor:
        """(batch,): a finite number for each response, or NaN where it is not judged.

        Raises:
            RewardError: it gives something else.
        """
        ...


@dataclass(frozen=True, slots=True)
class AdapterReward:
    """A finished reward run as an adapter on the policy's base, and its head."""

    name: str
    which: int
    """Tells its adapter from those of other reward runs."""
    head: ScoreHead

    def score(self, drawn: Drawn, passes: Passes) -> Tensor:
        """See :class:`Reward`; a reward run judges every response."""
        read = partial(scores, passes.model, self.head)
        found = passes.over(drawn.sequences, read, "reward", self.which)
        for row, score in zip(drawn.rows, found.tolist(), strict=True):
            if not abs(score) <= LARGEST:
                raise RewardError(_out_of_range(self.name, row, score))
        return found


@dataclass(frozen=True, slots=True)
class CallableReward:
    """A Python function, asked as TRL asks."""

    name: str
    function: RewardCallable

    def score(self, drawn: Drawn, passes: Passes) -> Tensor:  # noqa: ARG002 - it reads no model
        """See :class:`Reward`."""
        rows, completions = drawn.rows, list[Any](drawn.texts)
        if not isinstance(rows[0]["prompt"], str):
            completions = [[{"role": "assistant", "content": text}] for text in drawn.texts]
        given: object = self.function(
            prompts=[row["prompt"] for row in rows],
            completions=completions,
            completion_ids=[list(ids) for ids in drawn.responses],
            **{key: [row[key] for row in rows] for key in rows[0] if key != "prompt"},
        )
        return torch.tensor(self._numbers(given, rows), device=drawn.sequences.ids.device)

    def _numbers(self, given: object, rows: Sequence[Row]) -> list[float]:
        try:
            values = list(cast("Sequence[Any]", given))
        except TypeError as error:
            raise RewardError(
                f"reward {self.name!r} gave {given!r}; it must give a list with a number (or "
                "None, for not judged) for each response"
            ) from error
        if len(values) != len(rows):
            raise RewardError(
                f"reward {self.name!r} gave {len(values)} numbers for {len(rows)} responses; it "
                "must give one (or None, for not judged) for each"
            )
        return [self._number(value, row) for value, row in zip(values, rows, strict=True)]

    def _number(self, value: Any, row: Row) -> float:  # noqa: ANN401 - whatever it returned
        if value is None:
            return float("nan")
        try:
            number = _float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise RewardError(
                f"reward {self.name!r} gave {value!r} for a response to {row['prompt']!r}; it must "
                "give a number, or None where it cannot judge"
            ) from error
        except OverflowError:
            number = float("inf")
        if abs(number) > LARGEST:  # NaN is not
            raise RewardError(_out_of_range(self.name, row, value))
        return number


class Rewards:
    """Several rewards as one number per response.

    A response's number is the weighted sum of what it was given. A reward that does not judge it
    (None or NaN) adds nothing to the sum, as in TRL, so that each may know one kind of prompt.
    Where no reward of a weight other than 0 judges it, the response is not judged: nothing is
    learnt from it.
    """

    def __init__(
        self,
        model: PeftModel,
        functions: Sequence[RewardFunc],
        weights: Sequence[float] | None,
        base_fingerprint: str,
    ) -> None:
        if not functions:
            raise ValueError("reward_funcs is empty; give a reward run or a Python callable")
        if weights is not None and len(weights) != len(functions):
            raise ValueError(f"{len(weights)} reward_weights for {len(functions)} reward_funcs")
        self.weights = list(weights or [1.0] * len(functions))
        self.parts: list[Reward] = []
        for name, function in zip(distinct_names(functions), functions, strict=True):
            if isinstance(function, str | Path):
                number = len(self.adapters)
                self.parts.append(_load(model, function, name, number, base_fingerprint))
            else:
                self.parts.append(CallableReward(name, function))

    @property
    def adapters(self) -> list[AdapterReward]:
        """Those that are adapters on the base."""
        return [part for part in self.parts if isinstance(part, AdapterReward)]

    @property
    def main(self) -> tuple[int, AdapterReward] | None:
        """The reward run that weighs most, which a value can start from, and its place."""
        runs = [
            (place, part)
            for place, part in enumerate(self.parts)
            if isinstance(part, AdapterReward) and self.weights[place]
        ]
        return max(runs, key=lambda one: abs(self.weights[one[0]]), default=None)

    def combine(self, columns: Sequence[Tensor]) -> Tensor:
        """(batch,): the weighted sum; NaN where nothing with a weight judges a response."""
        weights = torch.tensor(self.weights, device=columns[0].device)
        table = torch.stack(list(columns), dim=1)
        judged = (~table.isnan() & (weights != 0)).any(dim=1)
        return (table * weights).nansum(dim=1).where(judged, torch.nan)


def listed(functions: RewardFunc | Sequence[RewardFunc]) -> list[RewardFunc]:
    """One reward, or several, as a list."""
    if isinstance(functions, str | Path) or callable(functions):
        return [functions]
    return list(functions)


def distinct_names(functions: Sequence[RewardFunc]) -> list[str]:
    """A name for each reward that no other has.

    Runs are named by as many of the last parts of their paths as tell them apart. What is left (two
    functions of one name, a run named twice) is numbered.
    """
    parts = [
        Path(one).parts
        if isinstance(one, str | Path)
        else (str(getattr(one, "__name__", type(one).__name__)),)
        for one in functions
    ]
    names: list[str] = []
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            break
    found: list[str] = []
    for name in names:
        numbered = itertools.chain([name], (f"{name} ({n})" for n in itertools.count(2)))
        found.append(next(one for one in numbered if one not in found))
    return found


def reward_start(run: str | Path, fingerprint: str) -> Start:
    """A finished reward run on the base that has this fingerprint.

    Raises:
        RunError, ModelError: it is none, or on another base.
    """
    start = Start.of_run(run, "reward")
    if start.fingerprint != fingerprint:
        raise ModelError(
            f"{run}: this reward run was trained on another base ({start.spec.path}) than the "
            "policy; train it with `sft:` naming a run on the policy's base"
        )
    return start


def _load(
    model: PeftModel, run: str | Path, name: str, which: int, fingerprint: str
) -> AdapterReward:
    start = reward_start(run, fingerprint)
    if start.adapter is None:
        raise ModelError(f"{run}: a fully fine-tuned reward model is no adapter; use tuning: qlora")
    own, there = start.spec.arithmetic, storage_of(cast("PreTrainedModel", model.get_base_model()))
    if own != there:
        raise ModelError(
            f"{run}: this reward run was trained on the base stored as {in_words(*own)}, and the "
            f"policy's is stored as {in_words(*there)}, on which it would give other scores; train "
            "it with `sft:` naming a run that is stored as the policy is"
        )
    load_adapter(model, start.adapter, adapter_name("reward", which), trainable=False)
    head = load_head(open_run(run, "reward").head, model.device)
    return AdapterReward(name, which, head.requires_grad_(requires_grad=False))


def in_words(storage: str, dtype: torch.dtype) -> str:
    """How a base is stored and in what it computes."""
    return f"{storage} in {str(dtype).removeprefix('torch.')}"


def _float(value: Any) -> float:  # noqa: ANN401 - whatever a callable returned
    if isinstance(value, str | bytes):
        raise TypeError("text is no number, even where it spells one")
    return float(value)


def _out_of_range(name: str, row: Row, value: object) -> str:
    return (
        f"reward {name!r} gave {value!r} for a response to {row['prompt']!r}; a score must be a "
        f"number between -{LARGEST:g} and {LARGEST:g}, or None where a response is not judged"
    )
