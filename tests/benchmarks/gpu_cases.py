"""What `gpu.py` measures: each stage as its config has it, and one thing otherwise at a time."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from sys import maxsize
from typing import Any
from unittest.mock import PropertyMock, patch

import torch

from rlhf.config import (
    DPOConfig,
    ModelConfig,
    PPOConfig,
    RewardConfig,
    StageConfig,
    build,
)
from rlhf.config.yaml_io import read_yaml
from rlhf.memory.phases import Setup
from rlhf.memory.plan import PLANNED
from rlhf.memory.shapes import read_shape
from rlhf.model import scoring
from rlhf.rollouts import collector, rollout
from tests.benchmarks.random_base import write_data
from tests.benchmarks.roofline import Peaks, Work

CONFIGS = Path(__file__).parents[2] / "configs"
SMALL = "small"
"""The shape for a machine without a GPU; its batches are small too."""
_SMALL_KEYS: dict[str, Any] = {
    "data": {"max_length": 32}, "per_device_train_batch_size": 4, "per_device_eval_batch_size": 4,
}  # fmt: skip
_SMALL_PPO = {"rollout_batch_size": 8, "num_mini_batches": 1, "max_new_tokens": 12}
_STEPS = 3
_ACCUMULATION = 2


@dataclass(frozen=True)
class Case:
    """A stage, and what is done otherwise than its config says."""

    name: str
    stage: str
    keys: dict[str, Any] = field(default_factory=dict[str, Any])
    varied: bool = False
    """Prompts of different lengths."""
    other: str | None = None
    """Something else that no key of a config changes; see ``enter``."""


_PLAIN = {"gradient_checkpointing": False}
CASES = (
    Case("sft", "sft"),
    Case("sft without checkpointing", "sft", _PLAIN),
    Case("reward", "reward"),
    Case("reward without checkpointing", "reward", _PLAIN),
    Case("dpo", "dpo"),
    Case("dpo without checkpointing", "dpo", _PLAIN),
    Case("ppo", "ppo"),
    Case("ppo without checkpointing", "ppo", _PLAIN),
    Case("ppo with a value head", "ppo", {"value_model": "head"}),
    Case("ppo with whole logits", "ppo", other="whole logits"),
    Case("ppo with logprobs from the sampler", "ppo", other="logprobs from the sampler"),
    Case("ppo with logprobs from a second pass", "ppo", other="logprobs from a second pass"),
    Case("ppo on varied prompts", "ppo", varied=True),
    Case("ppo on varied prompts, unsorted", "ppo", varied=True, other="unsorted"),
)


@dataclass(frozen=True)
class Place:
    """The folder of one shape: its base, and the runs on it."""

    work: Path
    shape: str

    @property
    def base(self) -> Path:
        """The folder that describes the base."""
        return self.work / self.shape / "base"

    def run(self, name: str) -> Path:
        """The run of a case."""
        return self.work / self.shape / name.replace(", ", "-").replace(" ", "-")


def prepare(case: Case, place: Place) -> tuple[StageConfig, Setup]:
    """A stage's config for this shape, on data whose every row is as long as may be."""
    is_small = place.shape == SMALL
    family = "llama3-8b" if is_small else place.shape
    keys = read_yaml(CONFIGS / family / f"{case.stage}.yaml") | (_SMALL_KEYS if is_small else {})
    if case.stage == "ppo":
        keys |= _SMALL_PPO if is_small else {}
        keys |= {"num_rollouts": 2, "num_ppo_epochs": 1, "value_warmup_rollouts": 0}
        keys |= {"policy": str(place.run("sft")), "reward": str(place.run("reward"))}
        response, rows = keys["max_new_tokens"], 2 * keys["rollout_batch_size"]
    else:
        keys |= {"max_steps": _STEPS, "gradient_accumulation_steps": _ACCUMULATION}
        response = keys["data"]["max_length"] - 2
        rows = _STEPS * _ACCUMULATION * keys["per_device_train_batch_size"]
    length = keys["data"]["max_length"]
    pairs, talks = write_data(
        place.work / place.shape,
        rows=rows, prompt=length - response, response=response, varied=case.varied,
    )  # fmt: skip
    model = {"base": str(place.base), "lora": {"rank": 4 if is_small else 16}}
    if case.stage == "sft":
        keys["model"] = model
    elif case.stage != "ppo":
        keys["sft"] = str(place.run("sft"))
    train = [{"path": str(talks if case.stage == "sft" else pairs)}]
    keys |= {
        "out": str(place.run(case.name)),
        "data": {"train": train, "max_length": length, "max_dropped": 0.0, "eval_fraction": 0.0},
        "save_steps": 10**6,
        **case.keys,
    }
    shape, on_gpu = read_shape(str(place.base)), torch.cuda.is_available()
    setup = Setup(shape, build(ModelConfig, model), on_gpu=on_gpu)
    return build(PLANNED[case.stage], keys), setup


def enter(stack: ExitStack, other: str | None) -> None:
    """Switch on or off what no key of a config does."""
    if other == "whole logits":
        stack.enter_context(patch.object(scoring, "_MANY_LOGITS", maxsize))
    if other == "unsorted":

        def as_they_come(rows: list[int], **_: object) -> list[int]:
            return list(rows)

        stack.enter_context(patch.object(rollout, "sorted", as_they_come, create=True))
    if other is not None and other.startswith("logprobs"):
        exact = PropertyMock(return_value=other == "logprobs from the sampler")
        stack.enter_context(patch.object(collector.Collector, "sampler_is_exact", exact))


def tokens(config: StageConfig, steps: int) -> dict[str, int]:
    """How many tokens each phase is about; those of scoring and training count once for all roles.

    ``steps`` is how many optimizer steps were measured.
    """
    length = config.data.max_length
    if not isinstance(config, PPOConfig):
        rows = config.per_device_train_batch_size * config.gradient_accumulation_steps * steps
        return {"training": rows * length * (1 + isinstance(config, RewardConfig | DPOConfig))}
    size = config.rollout_batch_size
    return {
        "sampling": size * config.max_new_tokens,
        "scoring": size * length,
        "training": size * length * config.num_ppo_epochs,
    }


def fastest(case: Case, config: StageConfig, setup: Setup, peak: Peaks, steps: int) -> Any:
    """Seconds that the roofline allows each phase."""
    work = Work(setup.shape, setup.model, setup.compute)
    count, length = tokens(config, steps), config.data.max_length
    repeats = config.gradient_checkpointing
    if not isinstance(config, PPOConfig):
        outputs = 0 if isinstance(config, RewardConfig) else count["training"]
        flops = work.training_flops(count["training"], length, outputs, repeats=repeats)
        if isinstance(config, DPOConfig):
            flops += work.forward_flops(count["training"], length, outputs)
        return {"training": flops / peak.flops}
    size, response = config.rollout_batch_size, config.max_new_tokens
    own = config.value_model == "adapter"
    second = case.other == "logprobs from a second pass" or (
        setup.compute < 4 and case.other != "logprobs from the sampler"
    )

    def passes(with_outputs: int, without: int) -> float:
        told = work.forward_flops(size * length, length, size * response)
        return with_outputs * told + without * work.forward_flops(size * length, length, 0)

    learnt = work.training_flops(count["training"], length, size * response, repeats=repeats)
    if own:
        learnt += work.training_flops(count["training"], length, 0, repeats=repeats)
    return {
        "sampling": work.sampling_seconds(peak, size, length - response, response),
        "scoring": passes(1 + second, 1 + own) / peak.flops,
        "training": learnt / peak.flops,
    }
