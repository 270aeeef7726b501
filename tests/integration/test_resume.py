import importlib
import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback
from transformers.trainer_callback import CallbackHandler

from rlhf.config import CONFIG_OF, SIBLINGS, RunConfig, SFTConfig, build, to_dict
from rlhf.errors import RunError
from rlhf.runs import list_runs, open_run
from rlhf.stages import sft
from tests import tiny
from tests.killed import module_of
from tests.stages import PPO, QLORA, config

pytestmark = pytest.mark.integration

LONG = {"max_steps": 6, "save_steps": 2}
"""Two epochs of three steps or so: what is broken off before step 6 goes on inside the second."""
STAGES = ("sft", "reward", "dpo", "kto", "ppo", "rloo", "grpo", "online-dpo")


def run_stage(made: RunConfig, *, resume: bool = False) -> None:
    [stage] = [name for name, kind in CONFIG_OF.items() if type(made) is kind]
    importlib.import_module(module_of(stage)).run(made, resume=resume)


def weights(run: Path) -> dict[str, torch.Tensor]:
    folder = open_run(run)
    files = [*folder.adapter.glob("*.safetensors"), *folder.model.glob("*.safetensors")]
    files += [folder.head] if folder.head.exists() else []
    assert files
    return {f"{file.name}/{k}": v for file in files for k, v in load_file(file).items()}


def same(run: Path, other: Path) -> None:
    ours, theirs = weights(run), weights(other)
    assert ours.keys() == theirs.keys()
    different = [name for name in ours if not torch.equal(ours[name], theirs[name])]
    assert different == []


@pytest.fixture(scope="module")
def killed(base, tmp_path_factory) -> Path:
    """A folder where ``whole/<stage>`` ran through and ``dead/<stage>`` died after step 5."""
    root = tmp_path_factory.mktemp("killed")
    demonstrations = tiny.write_demonstrations(root / "demonstrations.jsonl", 16)
    preferences = tiny.write_preferences(root / "preferences.jsonl", 16)
    model = QLORA | {"base": str(base)}
    sft.run(config(SFTConfig, root / "start", demonstrations, model=model, max_steps=1))

    def make(stage: str, out: Path):
        keys = LONG | {"trainer": {"logging_first_step": True}}
        if stage == "sft":
            # dropout, so that the generators' states matter
            model = {"base": str(base), "tuning": "qlora", "lora": {"rank": 4, "dropout": 0.1}}
            return config(SFTConfig, out, demonstrations, model=model, **keys)
        if stage in SIBLINGS[1]:
            own = {f.name for f in fields(CONFIG_OF[stage])}
            keys |= {k: v for k, v in PPO.items() if k in own} | {"num_rollouts": 6}
            keys |= {"policy": str(root / "start"), "reward": str(root / "whole/reward")}
            if stage in ("rloo", "grpo"):
                keys["samples_per_prompt"] = 2
            return config(CONFIG_OF[stage], out, preferences, **keys)
        return config(CONFIG_OF[stage], out, preferences, sft=str(root / "start"), **keys)

    for stage in STAGES:
        run_stage(make(stage, root / "whole" / stage))
    doomed = [[stage, to_dict(make(stage, root / "dead" / stage))] for stage in STAGES]
    (root / "doomed.json").write_text(json.dumps(doomed))
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.killed", str(root / "doomed.json"), "5"],
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    return root


@pytest.mark.parametrize("stage", STAGES)
def test_a_killed_run_is_unfinished_and_resumes_to_the_very_same_weights(stage, killed):
    dead = killed / "dead" / stage
    assert dead not in [run.path for run in list_runs(killed)]
    with pytest.raises(RunError, match="--resume"):
        open_run(dead)
    [[_, plain]] = [c for c in json.loads((killed / "doomed.json").read_text()) if c[0] == stage]
    run_stage(build(CONFIG_OF[stage], plain), resume=True)
    same(dead, killed / "whole" / stage)
    assert open_run(dead).facts["resumed"] == ["checkpoint-4"]
    steps = [line["step"] for line in open_run(dead).read_metrics() if "loss" in line]
    assert steps == [1, 2, 3, 4, 5, 6]


class BreakError(RuntimeError):
    """Something went wrong in the middle."""


@pytest.fixture
def break_after_5(monkeypatch):
    """Every training breaks after its fifth step."""

    class Breaker(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):  # noqa: ARG002 - their names
            if state.global_step == 5:
                raise BreakError

    make = CallbackHandler.__init__

    def with_breaker(self, *args, **kwargs):
        make(self, *args, **kwargs)
        self.add_callback(Breaker())

    with monkeypatch.context() as patch:
        patch.setattr(CallbackHandler, "__init__", with_breaker)
        yield patch


@pytest.mark.parametrize("tuning", ["full", "adalora", "p_tuning", "dora"])
def test_other_methods_resume_to_the_very_same_weights_too(tuning, base, tmp_path, break_after_5):
    demonstrations = tiny.write_demonstrations(tmp_path / "demonstrations.jsonl", 16)
    model = QLORA | {"base": str(base), "tuning": tuning, "num_virtual_tokens": 3}
    broken = config(SFTConfig, tmp_path / "broken", demonstrations, model=model, **LONG)
    with pytest.raises(BreakError):
        sft.run(broken)
    break_after_5.undo()
    sft.run(broken, resume=True)
    sft.run(config(SFTConfig, tmp_path / "whole", demonstrations, model=model, **LONG))
    same(tmp_path / "broken", tmp_path / "whole")
