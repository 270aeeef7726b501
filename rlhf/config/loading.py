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
from rlhf.errors import ConfigError
from rlhf.plain import apply_override, read_yaml, sentence

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

    Of a sibling's YAML the keys are left out that only siblings know, a ``samples_per_prompt`` that
    the stage cannot use gives way to its own, and where ``out`` is called after the sibling it is
    called after the stage. The second result says so in one line; it is empty if nothing was done.
    Overrides are taken at their word.

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
    own = {f.name: f for f in fields(CONFIG_OF[stage])}
    theirs = {f.name for sibling in siblings for f in fields(CONFIG_OF[sibling])}
    foreign = [key for key in data if key in theirs - own.keys()]
    out = Path(str(data.get("out", "")))
    if not (foreign or out.name in siblings or path.stem in siblings):
        return []
    changed = [f"{stage} has no use for {', '.join(foreign)}"] if foreign else []
    for key in foreign:
        del data[key]
    if out.name in siblings:
        data["out"] = str(out.with_name(stage))
        changed.append(f"the run is written to {data['out']}")
    wanted, samples = _samples(own), data.get("samples_per_prompt")
    if samples is not None and (samples == 1 < wanted or (stage == "online-dpo" and samples != 2)):
        del data["samples_per_prompt"]
        changed.append(f"samples_per_prompt is {wanted} instead of {samples}")
    return changed


def _samples(own: Mapping[str, Any]) -> int:
    """How many responses to a prompt a stage draws where it is not told."""
    if "samples_per_prompt" not in own:
        return 1
    default = own["samples_per_prompt"].default
    return cast("int", getattr(default, "default", default))


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
