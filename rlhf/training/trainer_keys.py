"""The ``trainer:`` block of a config: fields of the trainer's arguments that we have no key for."""

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from transformers import TrainingArguments

from rlhf.config import StageConfig
from rlhf.errors import ConfigError

A = TypeVar("A", bound=TrainingArguments)

_OF_TRL = {
    "SFTConfig": {
        "activation_offloading", "loss_type", "pad_to_multiple_of", "router_aux_loss_coef",
    },
    "RewardConfig": {"activation_offloading", "center_rewards_coefficient", "pad_to_multiple_of"},
    "DPOConfig": {
        "activation_offloading", "f_alpha_divergence_coef", "f_divergence_type", "ld_alpha",
        "pad_to_multiple_of", "router_aux_loss_coef", "use_weighting",
    },
    "KTOConfig": {
        "activation_offloading", "desirable_weight", "loss_type", "pad_to_multiple_of",
        "router_aux_loss_coef",
    },
    "RLOOConfig": {
        "mask_truncated_completions", "normalize_advantages", "pad_to_multiple_of",
        "reward_clip_range", "router_aux_loss_coef",
    },
    "GRPOConfig": {
        "delta", "importance_sampling_level", "mask_truncated_completions", "pad_to_multiple_of",
        "router_aux_loss_coef", "top_entropy_quantile",
    },
}  # fmt: skip
"""TRL's own fields that reach its losses; of the others we have done the work before it starts."""
_UNREAD = {
    "disable_tqdm", "do_eval", "do_predict", "do_train", "gradient_checkpointing_kwargs",
    "include_for_metrics", "local_rank", "prediction_loss_only", "resume_from_checkpoint",
}  # fmt: skip
"""Fields of Transformers that decide nothing in any stage."""
_OF_PAIRS = frozenset({"average_tokens_across_devices", "data_seed"})
_ONLINE = _OF_PAIRS | {
    "eval_accumulation_steps", "eval_do_concat_batches", "train_sampling_strategy",
}  # fmt: skip
_UNREAD_BY = {
    "SFTConfig": {"data_seed"},
    "RewardConfig": _OF_PAIRS,
    "DPOConfig": _OF_PAIRS,
    "KTOConfig": {"average_tokens_across_devices", "train_sampling_strategy"},
    "PPOArguments": _ONLINE | {
        "dataloader_drop_last", "dataloader_in_order", "dataloader_multiprocessing_context",
        "dataloader_num_workers", "dataloader_persistent_workers", "dataloader_prefetch_factor",
        "label_smoothing_factor", "torch_empty_cache_steps",
    },
    "RLOOConfig": _ONLINE,
    "GRPOConfig": _ONLINE,
    "OnlineDPOConfig": _ONLINE,
}  # fmt: skip
"""And those that decide nothing where these are the arguments."""
_RIGHT_KEY = {
    "activation_checkpointing": "gradient_checkpointing",
    "gradient_checkpointing_kwargs": "trainer.activation_checkpointing_kwargs",
    "output_dir": "out",
    "run_name": "out",
    "bf16": "model.dtype",
    "fp16": "model.dtype",
    "eval_strategy": "data.eval",
    "do_eval": "data.eval",
    "load_best_model_at_end": "early_stopping_patience",
    "max_length": "data.max_length",
    "max_completion_length": "max_new_tokens",
    "num_generations": "samples_per_prompt",
    "num_iterations": "num_ppo_epochs",
    "epsilon": "clip_range",
    "epsilon_high": "clip_range_high",
    "beta": "kl_coef",
    "data_seed": "seed",
    "resume_from_checkpoint": "--resume",
}
"""What is set under another name, by that of the trainer; the same name goes without saying."""


def checked(kind: type[A], config: StageConfig, ours: Mapping[str, Any]) -> A:
    """The arguments ``ours`` and those of ``trainer:``, each known, free and of its field's type.

    Raises:
        ConfigError: a key does not exist, is set by the stage, changes nothing, or has a bad value.
    """
    for key in config.trainer:
        _refuse(kind, config, ours, key)
    extra = {key: _value(kind, key, value) for key, value in config.trainer.items()}
    try:
        made, without = kind(**ours, **extra), kind(**ours)
    except ValueError as error:
        raise ConfigError(" ".join(str(error).split())) from error
    for key, value in extra.items():
        set_anyway = getattr(without, key)
        if getattr(made, key) == set_anyway != value:
            raise ConfigError(f"trainer.{key}: the stage sets it, to {set_anyway}; leave it out")
    return made


def _refuse(kind: type[A], config: StageConfig, ours: Mapping[str, Any], key: str) -> None:
    """Refuse a key that is not for ``trainer:``."""
    own = {f.name for f in fields(config)}
    known = {f.name for f in fields(kind) if f.init}
    basic = {f.name for f in fields(TrainingArguments) if f.init}
    free = (basic | _OF_TRL.get(kind.__name__, set())) - ours.keys() - own
    if key not in known | own:
        near = difflib.get_close_matches(key, free, n=1, cutoff=0.5)
        hint = f"did you mean `{near[0]}`?" if near else f"see the fields of {kind.__name__}"
        raise ConfigError(f"unknown key `trainer.{key}`; {hint}")
    right = key if key in own else _RIGHT_KEY.get(key)
    remedy = f"set `{right}` instead" if right else "leave it out"
    if key in ours or key in own:
        raise ConfigError(f"trainer.{key}: the stage sets it; {remedy}")
    if key not in free or key in _UNREAD | _UNREAD_BY.get(kind.__name__, set()):
        raise ConfigError(f"trainer.{key}: nothing in this stage reads it; {remedy}")


def _value(kind: type[A], key: str, value: Any) -> Any:  # noqa: ANN401 - whatever stands in the YAML
    of_field = TypeAdapter[Any](
        get_type_hints(kind)[key], config=ConfigDict(arbitrary_types_allowed=True)
    )
    try:
        return of_field.validate_python(value)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise ConfigError(
            f"`trainer.{key}`: {message[0].lower()}{message[1:]}, not {value!r}"
        ) from error
