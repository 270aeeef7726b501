"""What a response is worth: reward runs and Python callables, weighted."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor

from rlhf.errors import ModelError
from rlhf.model.adapters import load_adapter
from rlhf.model.heads import ScoreHead, load_head
from rlhf.model.roles import adapter_name
from rlhf.model.start import Start
from rlhf.runs import open_run

RewardCallable = Callable[..., Sequence[float | None]]
"""TRL's signature: ``(prompts, completions, completion_ids, **columns) -> list of float``."""
RewardFunc = str | Path | RewardCallable


@dataclass(frozen=True, slots=True)
class RewardAdapter:
    """A finished reward run as an adapter on the policy's base, and its head."""

    name: str
    which: int
    head: ScoreHead


class Rewards:
    """Several rewards as one number per response."""

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
        self.parts: list[RewardAdapter | RewardCallable] = []
        self.names: list[str] = []
        for function in functions:
            if isinstance(function, (str, Path)):
                number = sum(isinstance(part, RewardAdapter) for part in self.parts)
                part = _load(model, function, number, base_fingerprint)
                self.parts.append(part)
                self.names.append(part.name)
            else:
                self.parts.append(function)
                self.names.append(getattr(function, "__name__", type(function).__name__))

    @property
    def adapters(self) -> list[RewardAdapter]:
        """Those that are adapters on the base."""
        return [part for part in self.parts if isinstance(part, RewardAdapter)]

    def combine(self, columns: Sequence[Tensor]) -> Tensor:
        """(batch,): the weighted sum; a reward that a callable left out (NaN) counts nothing."""
        weights = torch.tensor(self.weights, device=columns[0].device)
        return (torch.stack(list(columns), dim=1) * weights).nansum(dim=1)

    def call(
        self,
        function: RewardCallable,
        rows: Sequence[Mapping[str, Any]],
        texts: Sequence[str],
        ids: Sequence[Sequence[int]],
    ) -> Tensor:
        """(batch,): what a callable says, asked as TRL asks."""
        completions: list[Any] = list(texts)
        if not isinstance(rows[0]["prompt"], str):
            completions = [[{"role": "assistant", "content": text}] for text in texts]
        given = function(
            prompts=[row["prompt"] for row in rows],
            completions=completions,
            completion_ids=[list(row) for row in ids],
            **{key: [row[key] for row in rows] for key in rows[0] if key != "prompt"},
        )
        if len(given) != len(rows):
            raise ValueError(
                f"reward {getattr(function, '__name__', function)!r} gave {len(given)} numbers "
                f"for {len(rows)} responses"
            )
        return torch.tensor([float("nan") if x is None else float(x) for x in given])


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


def _load(model: PeftModel, run: str | Path, which: int, fingerprint: str) -> RewardAdapter:
    start = reward_start(run, fingerprint)
    if start.adapter is None:
        raise ModelError(f"{run}: a fully fine-tuned reward model is no adapter; use tuning: qlora")
    load_adapter(model, start.adapter, adapter_name("reward", which), trainable=False)
    head = load_head(open_run(run, "reward").head, model.device)
    return RewardAdapter(Path(run).name, which, head.requires_grad_(requires_grad=False))
