"""Checkpoints that hold what is trained, bit for bit, and not the base."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Trainer

from rlhf.model.adapters import rank_state, restore_ranks

_TRAINED = "trained.safetensors"
_RANKS = "ranks.safetensors"


class ExactCheckpoints(Trainer):
    """A trainer that saves and restores every trainable tensor, whoever made it.

    PEFT's own checkpoints leave out what is ours (score heads) or is needed in training only
    (p-tuning's encoder, AdaLoRA's importances), and restore some adapters frozen.
    """

    @property
    def network(self) -> nn.Module:
        """The model, unwrapped."""
        return cast("nn.Module", self.model)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:  # noqa: ANN401
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._save(output_dir, state_dict)
            return
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        save_file(_on_cpu(_trained(self.network)), folder / _TRAINED)
        if ranks := rank_state(self.network):
            save_file(_on_cpu(ranks), folder / _RANKS)

    def _load_from_checkpoint(
        self, resume_from_checkpoint: str, model: nn.Module | None = None
    ) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        state = load_file(Path(resume_from_checkpoint) / _TRAINED)
        trained = _trained(self.network)
        assert state.keys() == trained.keys(), state.keys() ^ trained.keys()
        for name, tensor in trained.items():
            tensor.copy_(state[name])
        ranks = Path(resume_from_checkpoint) / _RANKS
        if ranks.exists():
            restore_ranks(self.network, load_file(ranks))

    def _load_best_model(self) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super()._load_best_model()
        else:
            self._load_from_checkpoint(str(self.state.best_model_checkpoint))

    def create_model_card(self, *_: object, **__: object) -> None:
        """Nothing: a run writes one card, at its end."""


def _trained(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.data for name, p in model.named_parameters() if p.requires_grad}


def _on_cpu(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
