"""Several processes train together what one trains alone: two of them, on CPU, over gloo."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from rlhf.config import CONFIG_OF, BestOfNConfig, RunConfig, SFTConfig, build, to_dict, to_yaml
from rlhf.errors import ConfigError
from rlhf.runs import open_run
from rlhf.stages import best_of_n, kto, sft
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
    # so that the last two steps are in no line of their own
    "logging_steps": 3,
}
PPO = {
    "logging_steps": 5,
    "max_steps": -1,
    "rollout_batch_size": 16,
    "num_rollouts": 3,
    "num_mini_batches": 2,
    "num_ppo_epochs": 2,
    "per_device_train_batch_size": 4,
    "max_new_tokens": 12,
    "value_warmup_rollouts": 1,
    "kl_target": 0.5,
    "kl_horizon": 100.0,
    # passed in the third step of the second rollout, by what both processes see together
    "stop_kl": 0.003,
    "value_learning_rate": 0.1,
    "learning_rate": 0.1,
}
SUPERVISED = ("pretrain", "sft", "reward", "dpo")
STAGES = dict.fromkeys(SUPERVISED, 5) | {"ppo": 12}
"""And how many steps each takes."""
HALVED = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}


@pytest.fixture(scope="module")
def make(make_base, tmp_path_factory) -> Callable[..., RunConfig]:
    """``make("dpo", "ddp")``: a config that writes to ``ddp/dpo``; what it needs is there."""
    root = tmp_path_factory.mktemp("ranks")
    # 21 rows are two steps of 8 and one of 5, of which the second process has 2
    said = tiny.write_demonstrations(root / "demonstrations.jsonl", 21)
    pairs = tiny.write_preferences(root / "preferences.jsonl", 21)
    model = LORA | {"base": str(make_base())}
    sft.run(config(SFTConfig, root / "start", said, model=model, max_steps=1))

    def made(stage: str, where: str, **keys: Any) -> RunConfig:
        talks = stage in ("pretrain", "sft")
        out, data = root / where / stage, said if talks else pairs
        start = {
            "pretrain": {"base": str(make_base())},
            "sft": {"model": model},
            "ppo": {"policy": str(root / "start"), "reward": str(root / "alone/reward"), **PPO},
        }.get(stage, {"sft": str(root / "start")})
        one = config(CONFIG_OF[stage], out, data, **{**STEPS, **start, **keys})
        source = replace(one.data.train[0], format="messages" if talks else "auto")
        return replace(one, data=replace(one.data, train=[source], eval_fraction=0.0))

    for stage in SUPERVISED:
        ranks.run(made(stage, "alone", per_device_train_batch_size=8))
    ranks.run(made("ppo", "alone"))
    return made


@pytest.fixture(scope="module")
def ddp(make: Callable[..., RunConfig]) -> Path:
    """The folder of what was trained alone and, in ``ddp``, by two processes."""
    jobs = [[stage, make(stage, "ddp", **HALVED), {}] for stage in SUPERVISED]
    broken = make("ppo", "broken", per_device_train_batch_size=2, save_steps=4)
    jobs += [
        ["ppo", make("ppo", "ddp", per_device_train_batch_size=2), {"other_start": 1}],
        ["ppo", broken, {"fail_at": 6}],
        ["ppo", broken, {"resume": True}],
    ]
    done = launch("ddp", jobs)
    assert done.returncode == 0, done.stderr
    return Path(broken.out).parents[1]


@pytest.fixture(scope="module")
def fsdp2(make: Callable[..., RunConfig]) -> subprocess.CompletedProcess[str]:
    """The same in ``fsdp2``, by two processes with half of the model each; the second one dies."""
    jobs = [[stage, make(stage, "fsdp2", **HALVED), {}] for stage in ("pretrain", "reward", "dpo")]
    broken = make("sft", "fsdp2", **HALVED, save_steps=2)
    jobs += [
        ["sft", broken, {"fail_at": 4}],
        ["sft", broken, {"resume": True}],
        ["ppo", make("ppo", "refused", per_device_train_batch_size=2), {}],
        ["sft", make("sft", "dead", **HALVED), {"fail_at": 3, "only": 1}],
    ]
    return launch("fsdp2", jobs)


def launch(name: str, jobs: list[Any]) -> subprocess.CompletedProcess[str]:
    """Two processes that run ``jobs`` under ``configs/accelerate/<name>.yaml``."""
    file = Path(jobs[0][1].out).parents[1] / f"{name}.json"
    file.write_text(json.dumps([[stage, to_dict(made), how] for stage, made, how in jobs]))
    return accelerate(name, "tests.ranks", str(file))


def accelerate(name: str, *module: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "accelerate.commands.accelerate_cli"]
    how = ["launch", "--config_file", str(ROOT / "configs/accelerate" / f"{name}.yaml")]
    return subprocess.run(
        [*command, *how, "--main_process_port", "0", "-m", *module],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"},
    )


@pytest.mark.parametrize("stage", STAGES)
def test_every_step_of_two_processes_is_that_of_one(stage: str, ddp: Path):
    same_training(ddp / "ddp" / stage, ddp / "alone" / stage)


@pytest.mark.usefixtures("fsdp2")
@pytest.mark.parametrize("stage", SUPERVISED)
def test_two_processes_with_half_of_the_model_each_take_the_steps_of_one(stage: str, ddp: Path):
    same_training(ddp / "fsdp2" / stage, ddp / "alone" / stage)


def facts(gradients: Path) -> dict[str, str]:
    with safe_open(gradients, "pt") as file:
        return file.metadata()


@pytest.mark.usefixtures("fsdp2")
def test_a_model_is_held_in_parts_where_it_was_asked_for(ddp: Path):
    for where, sharded in (("alone", "False"), ("ddp", "False"), ("fsdp2", "True")):
        assert facts(ranks.gradients(ddp / where / "dpo", 0))["sharded"] == sharded


def test_dropout_is_another_one_in_every_process(ddp: Path):
    seeds = {facts(ranks.gradients(ddp / "ddp" / "sft", rank))["seed"] for rank in (0, 1)}
    assert len(seeds) == 2


def same_training(together: Path, alone: Path) -> None:
    want = by_step(ranks.gradients(alone, 0))
    assert len({step for step, _ in want}) == STAGES[alone.name]
    for rank in (0, 1):
        found = by_step(ranks.gradients(together, rank))
        if open_run(together).facts.get("resumed") is None:
            assert found.keys() == want.keys()
        for step in found:
            assert distance(found[step], want[step]) < 1e-5, (rank, step)
    assert distance(weights(together), weights(alone)) < 1e-5


def test_the_policy_rests_once_both_processes_together_have_gone_too_far(ddp: Path):
    taught = {int(step) for step, role in by_step(ranks.gradients(ddp / "ddp/ppo", 0))
              if role == "trained"}  # fmt: skip
    # the value alone learns in the first rollout, and in the last step of the second
    assert taught == {4, 5, 6, 8, 9, 10, 11}


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_report_what_one_reports(stage: str, ddp: Path):
    shown = re.compile(
        "(train_)?loss$|grad_norm|accuracy|margin|objective/|val/|loss/|response_length"
    )
    lines = [open_run(ddp / x / stage).read_metrics() for x in ("alone", "ddp")]
    assert "train_loss" in lines[0][-1]
    for alone, together in zip(*lines, strict=True):
        for name in alone:
            if shown.match(name):
                assert together[name] == pytest.approx(alone[name], rel=1e-3, abs=1e-5), name


def test_ppo_on_two_processes_broken_off_and_resumed_is_bit_for_bit_the_whole(ddp: Path):
    assert open_run(ddp / "broken/ppo").facts["resumed"] == ["checkpoint-4"]
    ours, theirs = weights(ddp / "broken/ppo"), weights(ddp / "ddp/ppo")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_the_command_line_runs_in_both_processes_and_speaks_in_one(make, ddp: Path):
    one = make("ppo", "told", per_device_train_batch_size=2, num_rollouts=1)
    (ddp / "told.yaml").write_text(to_yaml(one))
    done = accelerate("ddp", "rlhf", "ppo", str(ddp / "told.yaml"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines().count(one.out) == 1
    assert done.stderr.count("ppo finished in") == 1
    assert open_run(one.out).report.exists()


def test_where_one_process_fails_the_launch_fails_and_no_run_is_finished(fsdp2, ddp: Path):
    assert fsdp2.returncode != 0
    assert "FailError" in fsdp2.stderr
    assert not (ddp / "dead/sft").exists()


def test_what_runs_in_one_process_says_so(make, monkeypatch):
    feedback, best = make("kto", "refused"), best_of_n_config(make("ppo", "refused"))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="kto works in one process"):
        kto.run(feedback)
    with pytest.raises(ConfigError, match="best-of-n works in one process"):
        best_of_n.run(best)


def best_of_n_config(like: Any) -> BestOfNConfig:
    keys = {name: to_dict(like)[name] for name in ("out", "policy", "reward", "data")}
    return build(BestOfNConfig, keys)


@pytest.mark.usefixtures("fsdp2")
def test_ppo_on_a_sharded_model_is_refused_in_one_sentence(ddp: Path):
    assert not (ddp / "refused/ppo").exists()
    assert "launch it with configs/accelerate/ddp.yaml" in (ddp / "refused/ppo.refused").read_text()


def by_step(file: Path) -> dict[tuple[str, str], dict[str, torch.Tensor]]:
    """Gradients by step and role: a role that is small would not be seen beside a large one."""
    found: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
    for name, gradient in load_file(file).items():
        step, _, parameter = name.partition("/")
        role = "value" if "value" in re.split("[._]", parameter) else "trained"
        found.setdefault((step, role), {})[parameter] = gradient
    return found


def distance(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    """How far apart two lots of tensors are, over their length."""
    assert ours.keys() == theirs.keys()
    a, b = (torch.cat([lot[name].flatten() for name in sorted(lot)]) for lot in (ours, theirs))
    return float((a - b).norm() / b.norm())


def weights(run: Path) -> dict[str, torch.Tensor]:
    folder = open_run(run)
    files = [*folder.adapter.glob("*.safetensors"), *folder.model.glob("*.safetensors")]
    files += [folder.head] * folder.head.exists()
    return {name: tensor for file in files for name, tensor in load_file(file).items()}
