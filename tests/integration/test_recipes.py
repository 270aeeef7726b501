"""The recipes for real GPUs on random models of the same architecture: every stage takes a step."""

from collections.abc import Callable
from pathlib import Path

import pytest
from bitsandbytes.nn.modules import Linear4bit
from peft import PeftModel

from rlhf import cli
from rlhf.config import SFTConfig, load_config
from rlhf.model.start import Start, load_start
from rlhf.runs import open_run
from tests import tiny

pytestmark = pytest.mark.integration

CONFIGS = Path(__file__).parents[2] / "configs"
ARCHITECTURE = {"qwen3-0.6b": "qwen3", "llama3-8b": "llama"}


@pytest.mark.parametrize("family", ARCHITECTURE)
def test_every_stage_of_a_recipe_loads_and_steps(
    family: str, make_base: Callable[..., Path], tmp_path: Path
):
    base = str(make_base(ARCHITECTURE[family]))
    said = tiny.write_demonstrations(tmp_path / "demonstrations.jsonl")
    pairs = tiny.write_preferences(tmp_path / "preferences.jsonl")

    def reduced(stage: str, data: Path, **changes: object) -> list[str]:
        overrides = {
            "out": tmp_path / stage,
            "data.train": f"[{{path: {data}}}]",
            "data.eval": "[]",
            "data.max_length": 256,
            # its kernel is for GPUs
            "trainer": "{optim: adamw_torch}",
            **changes,
        }
        config = str(CONFIGS / family / f"{stage}.yaml")
        return [stage, config, *(f"{key}={value}" for key, value in overrides.items())]

    runs = {"sft": tmp_path / "sft", "policy": tmp_path / "sft", "reward": tmp_path / "reward"}
    step = {"max_steps": 1, "gradient_accumulation_steps": 1}
    start = {"sft": runs["sft"], **step}
    small = {"num_rollouts": 1, "rollout_batch_size": 8, "num_mini_batches": 2}
    for arguments in (
        reduced("sft", said, **{"model.base": base}, **step),
        reduced("reward", pairs, **start),
        reduced("dpo", pairs, **start),
        reduced(
            "ppo", pairs, policy=runs["policy"], reward=runs["reward"], max_new_tokens=8, **small
        ),
    ):
        assert cli.main(arguments) == 0
        run = open_run(tmp_path / arguments[0])
        assert run.facts["base"]["storage"] == "nf4"
        assert run.config["gradient_checkpointing"] is True


@pytest.mark.parametrize("family", ARCHITECTURE)
def test_a_recipe_adapts_every_linear_layer_of_an_nf4_base(
    family: str, make_base: Callable[..., Path]
):
    base = make_base(ARCHITECTURE[family])
    config = load_config(SFTConfig, CONFIGS / family / "sft.yaml", [f"model.base={base}"])
    assert config.model
    model, _ = load_start(Start.of_config(config.model), config.model)
    assert isinstance(model, PeftModel)
    stored = [m for m in model.modules() if isinstance(m, Linear4bit)]
    assert len(stored) == 2 * 7, "attention's four and the MLP's three, in both layers"
    ranks = {p.shape[0] for n, p in model.named_parameters() if "lora_A" in n}
    adapted = [n for n, _ in model.named_parameters() if "lora_A" in n]
    assert ranks == {config.model.lora.rank}
    assert len(adapted) == len(stored)
