"""Score and value heads: fp32, never quantised, saved beside the adapter."""

from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf.errors import ModelError
from rlhf.model.shards import whole


class ScoreHead(nn.Linear):
    """A linear map from a hidden state to one number, in fp32 whatever the trunk computes in."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__(hidden_size, 1, dtype=torch.float32)
        # std 1/sqrt(h+1) keeps first scores of order 1 (Stiennon et al. 2020)
        nn.init.normal_(self.weight, std=(hidden_size + 1) ** -0.5)
        nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - nn.Linear's name
        """(…, hidden) → (…, 1)."""
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


def head_size(model: PreTrainedModel) -> int:
    """Width of what a head reads: the input of the output embeddings (OPT's hidden_size is not)."""
    weight = cast("nn.Linear", model.get_output_embeddings()).weight
    return weight.shape[1]


def attach_score_head(model: PreTrainedModel) -> ScoreHead:
    """Put a fresh score head where ``model`` had its output embeddings.

    ``model(...).logits`` is then (batch, seq, 1). The cap that some architectures put on logits
    is lifted: it is not meant for scores.
    """
    head = ScoreHead(head_size(model)).to(model.device)
    model.config.tie_word_embeddings = False
    model.set_output_embeddings(head)
    for config in (model.config, model.config.get_text_config()):
        if getattr(config, "final_logit_softcapping", None) is not None:
            config.final_logit_softcapping = None
    return head


def save_head(head: ScoreHead, path: Path, *, writes: bool = True) -> None:
    """Write the head as safetensors; of several processes, all must call it and one ``writes``."""
    state = whole(head.state_dict())
    if writes:
        save_file(state, path)


def load_head(path: Path, device: torch.device | None = None) -> ScoreHead:
    """The head saved at ``path``.

    Raises:
        ModelError: the file is missing or is not a head.
    """
    if not path.is_file():
        raise ModelError(f"{path}: no such score head; is the folder a reward run?")
    state = load_file(path)
    if set(state) != {"weight", "bias"}:
        raise ModelError(f"{path}: holds {', '.join(sorted(state))}, expected weight and bias")
    head = ScoreHead(state["weight"].shape[1])
    head.load_state_dict(state)
    return head.to(device) if device else head
