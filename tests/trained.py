"""Finished runs in a moment: real folders with random adapters, for tests of what reads them."""

from dataclasses import dataclass
from pathlib import Path

import torch

from rlhf.config import LoraConfig, ModelConfig, Quantization, Tuning
from rlhf.model.adapters import new_adapter, save_adapter
from rlhf.model.heads import ScoreHead, head_size, save_head
from rlhf.model.load import load_base, load_tokenizer
from rlhf.model.start import Start
from rlhf.runs import new_run


@dataclass(frozen=True)
class _Config:
    out: str
    seed: int


def random_run(
    out: Path,
    base: Path,
    stage: str = "sft",
    *,
    seed: int = 1,
    strength: float = 0.2,
    quantization: Quantization = "none",
    tuning: Tuning = "lora",
    parents: dict[str, Path] | None = None,
) -> Path:
    """A ``stage`` run on ``base`` whose adapter moves it, the further the greater ``strength``."""
    config = ModelConfig(
        base=str(base), tuning=tuning, quantization=quantization, lora=LoraConfig(rank=4)
    )
    start = Start.of_config(config)
    with new_run(stage, _Config(str(out), seed), parents=parents) as run:
        base_model = load_base(start.spec)
        width = head_size(base_model)
        model = new_adapter(base_model, config)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name or "ia3_" in name:
                    parameter.normal_(std=strength, generator=generator)
        save_adapter(model, run.adapter)
        if stage == "reward":
            torch.manual_seed(seed)
            save_head(ScoreHead(width), run.head)
        load_tokenizer(str(base)).save_pretrained(str(run.tokenizer))
        run.record(base=start.facts())
    return out
