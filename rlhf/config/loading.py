"""From a YAML file and ``key=value`` to a config, and back."""

import json
import shlex
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
from rlhf.config.yaml_io import MISSING, apply_override, read_yaml, sentence
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
"""Methods that learn from the same thing; what they share has one name in their configs."""

MINIMAL = {
    "pretrain": {"base": "BASE"},
    "sft": {"model.base": "BASE"},
    **{stage: {"sft": "RUN"} for stage in ("reward", "dpo", "kto")},
    **{stage: {"policy": "RUN", "reward": "RUN"} for stage in SIBLINGS[1]},
}
"""What each stage has to be told besides its data."""
_STAND_INS = {"data": {"train": "FILE"}, "train": "FILE", "path": "FILE", "base": "BASE"}
"""What could stand in place of a missing key; of any other key, a run."""

Data = dict[str, Any]
C = TypeVar("C")


def load_config(kind: type[C], path: Path | None, overrides: Sequence[str] = ()) -> C:
    """The config of type ``kind`` from a YAML file, with ``key=value`` overrides.

    Raises:
        ConfigError: naming every unknown key (with the nearest right one) and bad value at once.
    """
    return build(kind, _read(path, overrides), where=str(path) if path else "command line")


def load_stage(stage: str, path: Path | None, overrides: Sequence[str] = ()) -> RunConfig:
    """The config of ``stage``: :func:`load_config` for the command line.

    Raises:
        ConfigError: as there, with a command that would do: one that names what is missing, or one
            that takes out of a sibling's YAML what the stage has no use for.
    """
    data = _read(path, overrides)
    where = str(path) if path else "command line"
    try:
        return build(CONFIG_OF[stage], data, where=where)
    except ConfigError as error:
        if path and (remedy := _from_sibling(stage, path, data, overrides)):
            raise ConfigError(f"{where}: {remedy}") from error
        if any(key.partition(".")[0] not in data for key in (*MINIMAL[stage], "data")):
            raise ConfigError(f"{error}; for example `rlhf {minimal(stage)}`") from error
        raise


def minimal(stage: str) -> str:
    """The shortest words after ``rlhf`` that train, as capital letters say where names belong."""
    words = [f"{key}={value}" for key, value in (MINIMAL[stage] | {"data.train": "FILE"}).items()]
    return " ".join([stage, *words])


def _read(path: Path | None, overrides: Sequence[str]) -> Data:
    data = read_yaml(path) if path else {}
    for override in overrides:
        apply_override(data, override)
    return data


def _from_sibling(stage: str, path: Path, data: Data, overrides: Sequence[str]) -> str | None:
    """What ``stage`` has no use for in a sibling's config, and the command that does without.

    None where it is no sibling's either, or ``stage`` could not even so.
    """
    kind = CONFIG_OF[stage]
    siblings = [name for family in SIBLINGS if stage in family for name in family if name != stage]
    if not any(_fits(CONFIG_OF[name], data) for name in siblings):
        return None
    unfit = {str(e["loc"][0]): e for e in _problems(kind, data) if e["loc"]}
    given = [o for o in overrides if o.partition("=")[0] not in unfit]
    given += [f"~{key}" for key in _read(path, given) if key in unfit]
    out = Path(str(data.get("out", "")))
    if out.name in siblings and not any(o.startswith("out=") for o in given):
        given.append(f"out={out.with_name(stage)}")
    if not _fits(kind, _read(path, given)):
        return None
    foreign = [key for key in unfit if key not in {f.name for f in fields(cast("Any", kind))}]
    wrong = [sentence(kind, e) for key, e in unfit.items() if key not in foreign]
    unused = [f"{stage} has no use for {', '.join(foreign)}"] if foreign else []
    command = shlex.join(["rlhf", stage, str(path), *given])
    return "; ".join([*unused, *wrong, f"run `{command}`"])


def build(kind: type[C], data: Mapping[str, Any], *, where: str = "config") -> C:
    """The config of type ``kind`` from plain data; ``where`` opens the error message."""
    try:
        return _validated(kind, data)
    except ValidationError as error:
        problems = "; ".join(dict.fromkeys(sentence(kind, e) for e in _problems(kind, data)))
        raise ConfigError(f"{where}: {problems}") from error


def _validated(kind: type[C], data: Mapping[str, Any]) -> C:
    return TypeAdapter(kind).validate_json(json.dumps(dict(data), default=str))


def _fits(kind: type[Any], data: Mapping[str, Any]) -> bool:
    return not _problems(kind, data)


def _problems(kind: type[Any], data: Mapping[str, Any]) -> list[Any]:
    """All of pydantic's errors, those included that it finds only where no key is missing."""
    try:
        _validated(kind, data)
    except ValidationError as error:
        found = error.errors()
        missing = [e["loc"] for e in found if e["type"] in MISSING]
        return [*found, *(_problems(kind, _filled(data, missing)) if missing else [])]
    return []


def _filled(data: Mapping[str, Any], missing: Sequence[tuple[int | str, ...]]) -> Data:
    """A copy of ``data`` with something in the places that are missing."""
    copy: Data = json.loads(json.dumps(dict(data), default=str))
    for *parents, last in missing:
        node: Any = copy
        for parent in parents:
            node = node[parent]
        node[last] = _STAND_INS.get(str(last), "RUN")
    return copy


def to_yaml(config: object) -> str:
    """``config`` as the YAML that loads it."""
    return yaml.safe_dump(to_dict(config), sort_keys=False, allow_unicode=True)


def to_dict(config: object) -> dict[str, Any]:
    """``config`` as plain data."""
    return asdict(cast("Any", config))
