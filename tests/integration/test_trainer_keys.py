"""A key under ``trainer:`` reaches the trainer as it was given, or is refused by its name."""

import importlib
from dataclasses import MISSING, fields, replace
from typing import Any

import pytest
from transformers import TrainingArguments

from rlhf.config import CONFIG_OF, StageConfig
from rlhf.errors import ConfigError
from rlhf.ppo.arguments import PPOArguments
from rlhf.training import arguments
from rlhf.training.trainer_keys import checked
from tests import tiny
from tests.stages import PPO, QLORA, config
from tests.trained import random_run

pytestmark = pytest.mark.integration

TRAINED = [stage for stage, kind in CONFIG_OF.items() if issubclass(kind, StageConfig)]
FIELDS = [field for field in fields(TrainingArguments) if field.init]
NEEDS_MORE = {
    "accelerator_config": {"even_batches": False},
    "activation_checkpointing_kwargs": {"use_reentrant": False},
    "ddp_backend": None,  # needs several processes
    "deepspeed": None,  # is not installed here
    "debug": "underflow_overflow",
    "fsdp": None,  # needs several processes
    "fsdp_config": {"min_num_params": 5},
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "hub_strategy": "end",
    "hub_token": "x",
    "include_num_input_tokens_seen": "all",
    "include_for_metrics": ["loss"],
    "log_level": "error",
    "log_level_replica": "error",
    "logging_strategy": "epoch",
    "optim": "sgd",
    "parallelism_config": None,  # needs several processes
    "tf32": None,  # needs a GPU
    "torch_compile_backend": "eager",
    "train_sampling_strategy": "sequential",
    "warmup_steps": 3,
}
"""Values that a field's type does not tell; None where a single CPU can take no other."""
READ_INTO_OBJECTS = {"accelerator_config", "debug"}


class StopError(Exception):
    """The stage has got as far as its arguments."""


@pytest.fixture(scope="module")
def asked(base, tmp_path_factory) -> dict[str, tuple[Any, Any, Any]]:
    """What each stage asks of the trainer's arguments: their type, its config, and what it sets."""
    root = tmp_path_factory.mktemp("keys")
    said = tiny.write_demonstrations(root / "demonstrations.jsonl")
    pairs = tiny.write_preferences(root / "preferences.jsonl")
    start, reward = (str(random_run(root / one, base, one)) for one in ("sft", "reward"))
    starts = {"pretrain": {"base": str(base)}, "sft": {"model": QLORA | {"base": str(base)}}}
    found: dict[str, tuple[Any, Any, Any]] = {}

    def make(stage: str) -> Any:
        keys = starts.get(stage, {"sft": start})
        if "policy" in (known := {f.name for f in fields(CONFIG_OF[stage])}):
            keys = {"policy": start, "reward": reward}
            keys |= {k: v for k, v in PPO.items() if k in known}
            keys |= {"samples_per_prompt": 2} if stage in ("rloo", "grpo") else {}
        made = config(
            CONFIG_OF[stage],
            root / "out",
            pairs if "policy" in keys or "sft" in keys else said,
            **keys,
        )
        if stage == "pretrain":
            source = replace(made.data.train[0], format="messages")
            made = replace(made, data=replace(made.data, train=[source], eval=[source]))
        return made

    with pytest.MonkeyPatch.context() as patch:
        for stage in TRAINED:

            def stop(kind, made, ours, stage=stage):
                if kind is PPOArguments and stage != "ppo":  # what it would share with PPO
                    return checked(kind, made, ours)
                found[stage] = (kind, made, ours)
                raise StopError

            patch.setattr(arguments, "checked", stop)
            module = importlib.import_module(f"rlhf.stages.{stage.replace('-', '_')}")
            with pytest.raises(StopError):
                module.run(make(stage))
    return found


def another(field: Any) -> Any:
    """A value of the field's type that is not its default."""
    if field.name in NEEDS_MORE:
        return NEEDS_MORE[field.name]
    default = None if field.default is MISSING else field.default
    words = str(field.type)
    if isinstance(default, bool) or ("bool" in words and default is None):
        return not default
    if isinstance(default, int) or "int" in words:
        return (default or 0) + 2
    if isinstance(default, float) or "float" in words:
        return (default or 0.0) / 2 + 0.25
    return ["x"] if "list" in words else {"x": 1} if "dict" in words else "x"


@pytest.mark.parametrize("stage", TRAINED)
def test_every_field_of_the_trainer_is_honoured_or_refused_by_name(stage: str, asked):
    kind, made, ours = asked[stage]
    honoured, refused = set[str](), set[str]()
    for field in FIELDS:
        if (value := another(field)) is None:
            continue
        key = field.name
        outcome = outcome_of(kind, replace(made, trainer={key: value}), ours)
        if isinstance(outcome, ConfigError):
            assert key in str(outcome), (key, value, outcome)
            refused.add(key)
        else:
            kept = getattr(outcome, key)
            assert kept == value or key in READ_INTO_OBJECTS, (key, value, kept)
            honoured.add(key)
    assert honoured >= {"adam_beta1", "optim", "logging_first_step", "eval_delay"}
    assert refused >= {
        "gradient_checkpointing", "activation_checkpointing", "learning_rate", "seed", "output_dir",
        "save_steps", "save_strategy", "eval_steps", "eval_strategy", "report_to",
        "logging_steps", "per_device_train_batch_size", "use_cpu",
    }  # fmt: skip


def outcome_of(*asked: Any) -> Any:
    """The arguments, or why there are none."""
    try:
        return checked(*asked)
    except ConfigError as error:
        return error


@pytest.mark.parametrize("stage", TRAINED)
def test_no_key_of_the_config_is_taken_under_trainer_too(stage: str, asked):
    kind, made, ours = asked[stage]
    for key in {f.name for f in fields(kind)} & {f.name for f in fields(made)}:
        with pytest.raises(ConfigError, match=f"trainer.{key}: the stage sets it; set `{key}`"):
            checked(kind, replace(made, trainer={key: getattr(made, key)}), ours)


@pytest.mark.parametrize(
    ("stage", "key", "remedy"),
    [
        (
            "sft",
            "gradient_checkpointing",
            "the stage sets it; set `gradient_checkpointing` instead",
        ),
        ("dpo", "activation_checkpointing", "the stage sets it; set `gradient_checkpointing`"),
        ("sft", "bf16", "set `model.dtype` instead"),
        ("reward", "max_length", "set `data.max_length` instead"),
        ("sft", "packing", "nothing in this stage reads it; leave it out"),
        ("grpo", "top_p", "nothing in this stage reads it"),
        ("grpo", "num_generations", "set `samples_per_prompt` instead"),
        ("rloo", "epsilon", "set `clip_range` instead"),
        ("ppo", "ignore_data_skip", "the stage sets it, to True; leave it out"),
        ("ppo", "dataloader_num_workers", "nothing in this stage reads it"),
        ("sft", "data_seed", "nothing in this stage reads it; set `seed` instead"),
        ("kto", "resume_from_checkpoint", "set `--resume` instead"),
    ],
)
def test_a_refusal_names_the_right_key(stage: str, key: str, remedy: str, asked):
    kind, made, ours = asked[stage]
    with pytest.raises(ConfigError) as caught:
        checked(kind, replace(made, trainer={key: False}), ours)
    assert f"trainer.{key}: " in str(caught.value)
    assert remedy in str(caught.value)
