"""Several processes train together what one trains alone: two of them, on CPU, over gloo."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rlhf.config import CONFIG_OF, SFTConfig, StageConfig, to_dict
from rlhf.runs import open_run
from rlhf.stages import sft
from tests import ranks, tiny
from tests.stages import config

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
LORA = {"tuning": "lora", "lora": {"rank": 4}}
STEPS = {
    "max_steps": 5,
    # its steps are proportional to gradients, where Adam's blow up what rounds differently near 0
    "trainer": {"optim": "sgd"},
    "learning_rate": 0.5,
}
ALONE = {"per_device_train_batch_size": 8}
TOGETHER = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}


def launch(name: str, jobs: list[Any], folder: Path) -> subprocess.CompletedProcess[str]:
    """Two processes that run ``jobs`` under ``configs/accelerate/<name>.yaml``."""
    file = folder / "jobs.json"
    file.write_text(json.dumps(jobs))
    accelerate = [sys.executable, "-W", "ignore", "-m", "accelerate.commands.accelerate_cli"]
    how = ["launch", "--config_file", str(ROOT / "configs/accelerate" / f"{name}.yaml")]
    return subprocess.run(
        [*accelerate, *how, "--main_process_port", "0", "-m", "tests.ranks", str(file)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
    )


def distance(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """How far apart two lots of tensors are, over their length."""
    assert ours.keys() == theirs.keys()
    a, b = (torch.cat([lot[name].flatten() for name in sorted(lot)]) for lot in (ours, theirs))
    return float((a - b).norm() / b.norm())


@pytest.fixture(scope="module")
def trained(make_base, tmp_path_factory) -> Path:
    """A folder with ``alone/<stage>`` and ``together/<stage>``, and the gradients of both."""
    root = tmp_path_factory.mktemp("ranks")
    # 21 rows are two steps of 8 and one of 5, of which the second process has 2
    said = tiny.write_demonstrations(root / "demonstrations.jsonl", 21)
    pairs = tiny.write_preferences(root / "preferences.jsonl", 21)
    model = LORA | {"base": str(make_base())}
    sft.run(config(SFTConfig, root / "start", said, model=model, max_steps=1))

    def make(stage: str, where: str, **keys: Any) -> StageConfig:
        start = {"model": model} if stage == "sft" else {"sft": str(root / "start")}
        data = said if stage == "sft" else pairs
        made = config(CONFIG_OF[stage], root / where / stage, data, **STEPS, **start, **keys)
        return replace(made, data=replace(made.data, eval_fraction=0.0))

    jobs = []
    for stage in ("sft", "reward", "dpo"):
        ranks.run(make(stage, "alone", **ALONE))
        jobs.append([stage, to_dict(make(stage, "together", **TOGETHER)), {}])
    done = launch("ddp", jobs, root)
    assert done.returncode == 0, done.stderr
    return root


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_every_step_of_two_processes_is_that_of_one(stage: str, trained: Path):
    alone, together = trained / "alone" / stage, trained / "together" / stage
    want = load_file(ranks.gradients(alone, 0))
    steps = {name.split("/")[0] for name in want}
    assert len(steps) == 5, "two epochs, the first one whole"
    for rank in (0, 1):
        found = load_file(ranks.gradients(together, rank))
        for step in steps:
            of_step = [{k: v for k, v in x.items() if k.startswith(step)} for x in (found, want)]
            assert distance(*of_step) < 1e-5, (rank, step)
    assert distance(weights(together), weights(alone)) < 1e-5


def weights(run: Path) -> dict[str, torch.Tensor]:
    folder = open_run(run)
    head = [folder.head] if folder.head.exists() else []
    return {
        k: v
        for f in [*folder.adapter.glob("*.safetensors"), *head]
        for k, v in load_file(f).items()
    }
