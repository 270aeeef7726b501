"""The stages on a GPU: the same traps in bfloat16, and what they need of memory and time.

``python -m pytest tests/gpu -s`` prints one JSON line per stage.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit

from rlhf.config import DPOConfig, PPOConfig, RewardConfig, SFTConfig
from rlhf.model.load import BaseSpec, compute_dtype, load_base
from rlhf.ppo.arguments import PPOArguments
from rlhf.ppo.trainer import PPOTrainer
from rlhf.runs import open_run
from rlhf.stages import dpo, ppo, reward, sft
from tests import tiny
from tests.stages import QLORA, config, watching

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"),
]


def test_every_stage_trains_on_one_4_bit_base_that_stays_as_it_was(
    base: Path, tmp_path: Path, monkeypatch, capsys
):
    demonstrations = tiny.write_demonstrations(tmp_path / "demonstrations.jsonl", 12)
    preferences = tiny.write_preferences(tmp_path / "preferences.jsonl", 12)
    policy, judge = str(tmp_path / "sft"), str(tmp_path / "reward")
    model = QLORA | {"base": str(base)}
    rollouts: dict[str, Any] = {
        "max_steps": -1, "num_rollouts": 2, "rollout_batch_size": 8, "num_mini_batches": 2,
        "max_new_tokens": 8, "value_warmup_rollouts": 0,
    }  # fmt: skip
    with watching(monkeypatch) as seen:
        sft.run(config(SFTConfig, tmp_path / "sft", demonstrations, model=model))
        reward.run(config(RewardConfig, tmp_path / "reward", preferences, sft=policy))
        dpo.run(config(DPOConfig, tmp_path / "dpo", preferences, sft=policy))
        ppo.run(
            config(PPOConfig, tmp_path / "ppo", preferences, policy=policy, reward=judge,
                   **rollouts)
        )  # fmt: skip
    assert compute_dtype() in (torch.bfloat16, torch.float16)
    for stage in seen:
        assert stage.quantized
        assert stage.before == stage.after
        assert {t.dtype for t in stage.trained.values()} == {torch.float32}
    for name in ("sft", "reward", "dpo", "ppo"):
        facts = open_run(tmp_path / name).facts
        wanted = {key: facts[key] for key in ("device", "wall_seconds", "peak_memory_mb")}
        with capsys.disabled():
            sys.stdout.write(json.dumps({"stage": name, **wanted}) + "\n")


def test_the_first_ratio_is_one_in_16_bit(base: Path, tmp_path: Path):
    from datasets import Dataset
    from peft import LoraConfig

    def short(completion_ids, **_):
        return [-float(len(ids)) for ids in completion_ids]

    args = PPOArguments(
        str(tmp_path), num_rollouts=1, rollout_batch_size=8, per_device_train_batch_size=2,
        max_new_tokens=8, value_warmup_rollouts=0, logging_steps=1, report_to=[],
        bf16=compute_dtype() == torch.bfloat16, save_strategy="no",
    )  # fmt: skip
    lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
    prompts = Dataset.from_dict({"prompt": ["hi", "where is it?"]})
    trainer = PPOTrainer(str(base), short, args, prompts, peft_config=lora)
    trainer.train()
    first = next(entry for entry in trainer.state.log_history if "policy/max_ratio" in entry)
    assert first["policy/max_ratio"] == pytest.approx(1, abs=0.05)  # 8 bits of mantissa
    assert first["objective/kl"] == pytest.approx(0, abs=0.05)
    layers = [m for m in load_base(BaseSpec(str(base))).modules() if isinstance(m, Linear4bit)]
    assert {layer.compute_dtype for layer in layers} == {compute_dtype()}
