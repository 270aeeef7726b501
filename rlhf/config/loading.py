"""From a YAML file and ``key=value`` to a config, and back."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar, cast

import yaml
from pydantic import TypeAdapter, ValidationError

from rlhf.config.online import (
    BestOfNConfig,
    GRPOConfig,
    OnlineDPOConfig,
    PPOConfig,
    RLOOConfig,
)
from rlhf.config.stages import (
    DPOConfig,
    KTOConfig,
    PretrainConfig,
    RewardConfig,
    RunConfig,
    SFTConfig,
)
from rlhf.config.yaml_io import apply_override, read_yaml, sentence
from rlhf.errors import ConfigError

CONFIG_OF: dict[str, type[RunConfig]] = {
    "pretrain": PretrainConfig,
    "sft": SFTConfig,
    "reward": RewardConfig,
    "dpo": DPOConfig,
    "kto": KTOConfig,
    "ppo": PPOConfig,
    "rloo": RLOOConfig,
    "grpo": GRPOConfig,
    "online-dpo": OnlineDPOConfig,
    "best-of-n": BestOfNConfig,
}

SIBLINGS = (("dpo", "kto"), ("ppo", "rloo", "grpo", "online-dpo", "best-of-n"))
"""Methods that learn from the same thing, and read each other's YAML."""

C = TypeVar("C")


def load_config(kind: type[C], path: Path | None, overrides: Sequence[str] = ()) -> C:
    """The config of type ``kind`` from a YAML file, with ``key=value`` overrides.

    Raises:
        ConfigError: naming every unknown key (with the nearest right one) and bad value at once.
    """
    data = read_yaml(path) if path else {}
    for override in overrides:
        apply_override(data, override)
    return build(kind, data, where=str(path) if path else "command line")


def load_stage(stage: str, path: Path, overrides: Sequence[str] = ()) -> tuple[RunConfig, str]:
    """The config of ``stage`` from its own YAML or from that of a sibling, and what was changed.

    Of a sibling's YAML the keys are left out that only siblings know, a number of samples or rows
    that the stage cannot use gives way to one that it can, and where ``out`` is called after the
    sibling it is called after the stage. The second result says so in one line; it is empty if
    nothing was done. Overrides are taken at their word.

    Raises:
        ConfigError: as :func:`load_config`.
    """
    kind, data = CONFIG_OF[stage], read_yaml(path)
    changed = _of_sibling(stage, data, path)
    for override in overrides:
        apply_override(data, override)
    note = f"{path} is a sibling's: {'; '.join(changed)}" if changed else ""
    return build(kind, data, where=str(path)), note


def _of_sibling(stage: str, data: dict[str, Any], path: Path) -> list[str]:
    """Make the YAML of a sibling that of ``stage``, in place; what was changed, in words."""
    siblings = next((set(family) - {stage} for family in SIBLINGS if stage in family), set[str]())
    own = {f.name for f in fields(CONFIG_OF[stage])}
    theirs = {f.name for sibling in siblings for f in fields(CONFIG_OF[sibling])}
    foreign = [key for key in data if key in theirs - own]
    out = Path(str(data.get("out", "")))
    if not (foreign or out.name in siblings or path.stem in siblings):
        return []
    changed = [f"{stage} has no use for {', '.join(foreign)}"] if foreign else []
    for key in foreign:
        del data[key]
    if out.name in siblings:
        data["out"] = str(out.with_name(stage))
        changed.append(f"the run is written to {data['out']}")
    for key, value in _unfit(stage, data).items():
        changed.append(f"{key} is {value} instead of {data[key]}")
        data[key] = value
    return changed


def _unfit(stage: str, data: Mapping[str, Any]) -> dict[str, int]:
    """What a sibling may say and ``stage`` cannot do, with what it does instead."""
    samples, size = data.get("samples_per_prompt"), data.get("per_device_train_batch_size")
    if stage == "online-dpo" and samples not in (None, 2):
        return {"samples_per_prompt": 2}
    if stage in ("rloo", "grpo", "best-of-n") and samples == 1:
        return {"samples_per_prompt": 4}
    if stage == "kto" and size == 1:  # of DPO's pairs, which are two rows here
        return {"per_device_train_batch_size": 2}
    return {}


def build(kind: type[C], data: Mapping[str, Any], *, where: str = "config") -> C:
    """The config of type ``kind`` from plain data; ``where`` opens the error message."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(dict(data), default=str))
    except ValidationError as error:
        problems = "; ".join(sentence(kind, e) for e in error.errors())
        raise ConfigError(f"{where}: {problems}") from error


def to_yaml(config: object) -> str:
    """``config`` as the YAML that loads it."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def to_dict(config: object) -> dict[str, Any]:
    """``config`` as plain data."""
    return asdict(cast("Any", config))
