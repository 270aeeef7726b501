"""Stages on tiny models: their configs, and what a trainer held while it ran."""

import gc
import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from transformers import Trainer

from rlhf.config import RunConfig, build
from rlhf.model.roles import ADAPTER_OF

# accelerate collects garbage at the start of each training; the libraries are not garbage
gc.freeze()

C = TypeVar("C", bound=RunConfig)

QLORA: dict[str, Any] = {"tuning": "qlora", "lora": {"rank": 4}}
PPO: dict[str, Any] = {
    "max_steps": -1,
    "rollout_batch_size": 4,
    "num_mini_batches": 1,
    "num_ppo_epochs": 1,
    "num_rollouts": 2,
    "max_new_tokens": 8,
    "value_warmup_rollouts": 0,
    "value_learning_rate": 1e-2,
}
"""PPO with rollouts of one batch each."""


def config(kind: type[C], out: Path, data: Path, **keys: Any) -> C:
    """A short training at a rate that leaves marks."""
    return build(
        kind,
        {
            "out": str(out),
            "data": {"train": [{"path": str(data)}], "max_length": 200, "eval_fraction": 0.3},
            "per_device_train_batch_size": 4,
            "max_steps": 2,
            "logging_steps": 1,
            "learning_rate": 1e-2,
            "warmup_steps": 0,
            # at the end only
            "eval_steps": 100,
            "save_steps": 100,
            **keys,
        },
    )


@dataclass(frozen=True)
class Watched:
    """A trainer after its loop, and the base's hashes from before and after."""

    trainer: Any
    before: dict[str, str]
    after: dict[str, str]
    trained: dict[str, torch.Tensor]

    @property
    def model(self) -> Any:
        return self.trainer.model

    @property
    def quantized(self) -> list[str]:
        return [n for n, m in self.model.named_modules() if isinstance(m, Linear4bit)]


@contextmanager
def watching(monkeypatch: pytest.MonkeyPatch) -> Generator[list[Watched]]:
    """What every Trainer held whose loop ended inside the block."""
    seen: list[Watched] = []
    train = Trainer.train

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = base_hash(self.model)
        result = train(self, *args, **kwargs)
        trained = {
            n: p.detach().clone() for n, p in self.model.named_parameters() if p.requires_grad
        }
        seen.append(Watched(self, before, base_hash(self.model), trained))
        return result

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train", watched)
        yield seen


def base_hash(model: Any) -> dict[str, str]:
    """Of every tensor that no adapter owns and nothing trains, quantisation state included."""
    hashes: dict[str, str] = {}
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.requires_grad or any(f".{adapter}" in name for adapter in ADAPTER_OF.values()):
            continue
        digest = hashlib.sha256(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
        if (state := getattr(tensor, "quant_state", None)) is not None:
            digest.update(state.absmax.cpu().numpy())
        hashes[name] = digest.hexdigest()
    return hashes
