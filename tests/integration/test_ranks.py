"""Several processes train together what one trains alone: two of them, on CPU, over gloo."""

import json
import os
import re
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
PPO = {
    "max_steps": -1,
    "rollout_batch_size": 16,
    "num_rollouts": 3,
    "num_mini_batches": 2,
    "num_ppo_epochs": 2,
    "per_device_train_batch_size": 4,
    "max_new_tokens": 12,
    "value_warmup_steps": 1,
    "kl_target": 0.5,
    "kl_horizon": 100.0,
    "value_learning_rate": 0.1,
    "learning_rate": 0.1,
}
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
        data = said if stage == "sft" else pairs
        if stage != "ppo":
            keys |= {"model": model} if stage == "sft" else {"sft": str(root / "start")}
        made = config(CONFIG_OF[stage], root / where / stage, data, **{**STEPS, **keys})
        return replace(made, data=replace(made.data, eval_fraction=0.0))

    def learn(where: str, **keys: Any) -> StageConfig:
        parents = {"policy": str(root / "start"), "reward": str(root / "alone/reward")}
        return make("ppo", where, **{**PPO, **parents, **keys})

    jobs = []
    for stage in ("sft", "reward", "dpo"):
        ranks.run(make(stage, "alone", **ALONE))
        jobs.append([stage, to_dict(make(stage, "together", **TOGETHER)), {}])
    ranks.run(learn("alone"))
    small = {"per_device_train_batch_size": 2}
    broken = to_dict(learn("broken", **small, save_steps=4))
    jobs += [
        ["ppo", to_dict(learn("together", **small)), {}],
        ["ppo", broken, {"fail_at": 6}],
        ["ppo", broken, {"resume": True}],
    ]
    done = launch("ddp", jobs, root)
    assert done.returncode == 0, done.stderr
    return root


STAGES = {"sft": 5, "reward": 5, "dpo": 5, "ppo": 12}
"""And how many steps each takes."""


@pytest.mark.parametrize("stage", STAGES)
def test_every_step_of_two_processes_is_that_of_one(stage: str, trained: Path):
    alone, together = trained / "alone" / stage, trained / "together" / stage
    want = by_step(ranks.gradients(alone, 0))
    assert len({step for step, _ in want}) == STAGES[stage]
    for rank in (0, 1):
        found = by_step(ranks.gradients(together, rank))
        assert found.keys() == want.keys()
        for step in want:
            assert distance(found[step], want[step]) < 1e-5, (rank, step)
    assert distance(weights(together), weights(alone)) < 1e-5


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_report_what_one_reports(stage: str, trained: Path):
    shown = re.compile("loss$|grad_norm|accuracy|margin|objective/|val/|loss/|response_length")
    lines = [open_run(trained / x / stage).read_metrics() for x in ("alone", "together")]
    for alone, together in zip(*lines, strict=True):
        for name in alone:
            if shown.match(name):
                assert together[name] == pytest.approx(alone[name], rel=1e-3, abs=1e-5), name


def test_ppo_on_two_processes_broken_off_and_resumed_is_bit_for_bit_the_whole(trained: Path):
    whole, broken = trained / "together/ppo", trained / "broken/ppo"
    assert open_run(broken).facts["resumed"] == ["checkpoint-4"]
    ours, theirs = weights(broken), weights(whole)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def by_step(file: Path) -> dict[tuple[str, str], dict[str, torch.Tensor]]:
    """Gradients by step and role: a role that is small would not be seen beside a large one."""
    found: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
    for name, gradient in load_file(file).items():
        step, _, parameter = name.partition("/")
        role = "value" if "value" in parameter.split(".") + parameter.split("_") else "trained"
        found.setdefault((step, role), {})[parameter] = gradient
    return found


def distance(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """How far apart two lots of tensors are, over their length."""
    assert ours.keys() == theirs.keys()
    a, b = (torch.cat([lot[name].flatten() for name in sorted(lot)]) for lot in (ours, theirs))
    return float((a - b).norm() / b.norm())


def weights(run: Path) -> dict[str, torch.Tensor]:
    folder = open_run(run)
    files = [*folder.adapter.glob("*.safetensors")] + [folder.head] * folder.head.exists()
    return {name: tensor for file in files for name, tensor in load_file(file).items()}
