"""Whether a stage will fit a GPU, from its config alone: nothing is loaded and no torch needed."""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from rlhf.config import (
    STRICT,
    Count,
    DPOConfig,
    ModelConfig,
    Positive,
    PPOConfig,
    PretrainConfig,
    RewardConfig,
    SFTConfig,
    StageConfig,
    build,
    load_config,
)
from rlhf.errors import ConfigError, ModelError, RunError
from rlhf.memory import weights
from rlhf.memory.activations import Attention
from rlhf.memory.phases import DEFAULT_OPTIM, Phase, Setup, phases
from rlhf.memory.shapes import Shape, read_shape
from rlhf.runs import is_run, open_run

RESERVE = 1 << 30
"""Left for CUDA's context, its libraries and the allocator's gaps; an allowance, not measured."""
_GIB = 1 << 30
PLANNED: dict[str, type[StageConfig]] = {
    "pretrain": PretrainConfig,
    "sft": SFTConfig,
    "reward": RewardConfig,
    "dpo": DPOConfig,
    "ppo": PPOConfig,
}
"""Stages whose memory is known; PPO's siblings need less than it does."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PlanOptions:
    """What is asked beside the config."""

    config: Path
    overrides: list[str] = Field(default_factory=list[str])
    stage: Literal["pretrain", "sft", "reward", "dpo", "ppo"] | None = None
    base: str | None = None
    """Folder, config.json or hub name of another base than the config's."""
    gpu_memory: Positive | None = None
    """Of the GPU, in GiB."""
    prompt_length: Count | None = None
    """Longest prompt of PPO; what ``data.max_length`` leaves if not told."""
    dtype: Literal["float32", "bfloat16"] | None = None
    """Of the trunk's arithmetic, where it is not what a GPU would take."""
    attention: Attention = "sdpa"


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """The budget of a stage, and whether it fits."""

    stage: str
    base: str
    phases: tuple[Phase, ...]
    gpu_memory: float | None
    advice: tuple[str, ...]
    """Overrides with which it fits; empty where it fits already, or no knob helps."""
    notes: tuple[str, ...]

    @property
    def peak(self) -> Phase:
        """The phase that takes most."""
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def fits(self) -> bool | None:
        """Whether the peak leaves the reserve free; None where no size was given."""
        return None if self.gpu_memory is None else _fits(self.phases, self.gpu_memory)


def run(options: PlanOptions) -> Plan:
    """The memory plan of a config.

    Raises:
        ConfigError, ModelError: the stage, the base or its shape cannot be told.
    """
    stage = options.stage or stage_of(options.config)
    config = load_config(PLANNED[stage], options.config, options.overrides)
    _check_room(config)
    setup, base = _setup(config, options)
    found = phases(config, setup)
    advice: tuple[str, ...] = ()
    if options.gpu_memory is not None and not _fits(found, options.gpu_memory):
        advice = _advise(config, setup, options.gpu_memory)
    return Plan(stage, base, found, options.gpu_memory, advice, tuple(_notes(config, setup)))


def stage_of(path: Path) -> str:
    """The stage whose name is in that of the file.

    Raises:
        ConfigError: none is, or several are.
    """
    named = [word for word in re.split("[^a-z]+", path.stem.lower()) if word in PLANNED]
    if len(named) != 1:
        raise ConfigError(
            f"{path}: its name does not say which stage it configures; "
            f"add --stage with one of {', '.join(PLANNED)}"
        )
    return named[0]


def _setup(config: StageConfig, options: PlanOptions) -> tuple[Setup, str]:
    model, reward = _models(config, options)
    if options.dtype is not None:
        model = replace(model, dtype=options.dtype)
    if isinstance(config, PretrainConfig) and config.architecture and not options.base:
        described = {**config.architecture, "vocab_size": config.vocab_size or _no_vocabulary()}
        shape, base = Shape.of(described, str(options.config)), "the config's architecture"
    else:
        shape, base = read_shape(model.base, model.revision), model.base
    if shape.num_experts and model.storage == "int8":
        raise ModelError(
            f"{base}: experts cannot be stored as int8; use tuning: qlora or quantization: none"
        )
    room, attention = options.prompt_length, options.attention
    return Setup(shape, model, reward, prompt_length=room, attention=attention), base


def _models(config: StageConfig, options: PlanOptions) -> tuple[ModelConfig, ModelConfig | None]:
    """How the base is stored and tuned, and for PPO how the reward run was."""
    if isinstance(config, PretrainConfig):
        base = options.base or config.base or "new"
        return ModelConfig(base=base, tuning="full", dtype="float32"), None
    reward = None
    if isinstance(config, PPOConfig):
        model = _of_run(config.policy, options)
        reward = _of_run(config.reward, options)
    else:
        assert isinstance(config, SFTConfig | RewardConfig | DPOConfig)
        model = _of_config(config, options)
    if options.base:
        model = replace(model, base=options.base, revision=None)
    return model, reward


def _of_config(config: StageConfig, options: PlanOptions) -> ModelConfig:
    """The model of a config, or of the runs that it goes back to."""
    match config:
        case SFTConfig() | RewardConfig() | DPOConfig() if config.model is not None:
            return config.model
        case SFTConfig() | RewardConfig() | DPOConfig():
            return _of_run(str(config.sft), options)
        case PPOConfig():
            return _of_run(config.policy, options)
        case _:
            raise ConfigError(f"{config.out}: a plan begins at an SFT, reward, DPO or PPO run")


def _of_run(path: str, options: PlanOptions) -> ModelConfig:
    """The model of a run: of its folder, or of the config beside ours that will write it."""
    if is_run(path):
        found = open_run(path, ("sft", "reward", "dpo", "ppo"))
        return _of_config(build(PLANNED[found.stage], found.config, where=path), options)
    for file in sorted(options.config.parent.glob("*.yaml")):
        for stage in PLANNED:
            if stage in re.split("[^a-z]+", file.stem.lower()) and file != options.config:
                other = load_config(PLANNED[stage], file)
                if Path(other.out) == Path(path):
                    return _of_config(other, options)
    if options.base is not None:
        return ModelConfig(base=options.base)
    raise RunError(
        f"{path}: there is no such run, and no config beside {options.config} writes it; "
        "give the base with --base, and a rank-16 adapter on it in nf4 is planned for"
    )


def _no_vocabulary() -> int:
    raise ConfigError("the architecture's vocabulary is not known; add vocab_size=NUMBER")


def _check_room(config: StageConfig) -> None:
    if isinstance(config, PPOConfig) and config.data.max_length <= config.max_new_tokens:
        raise ConfigError(
            f"max_new_tokens ({config.max_new_tokens}) leaves no room for a prompt in "
            f"data.max_length ({config.data.max_length}); raise the latter"
        )


def _fits(found: Sequence[Phase], gpu_memory: float) -> bool:
    return max(phase.total for phase in found) + RESERVE <= gpu_memory * _GIB


def _advise(config: StageConfig, setup: Setup, gpu_memory: float) -> tuple[str, ...]:
    """Turn the knobs of whichever phase peaks, one at a time, until all fit."""
    turned: dict[str, Any] = {}
    while not _fits(found := phases(config, setup), gpu_memory):
        peak = max(found, key=lambda phase: phase.total)
        change = next(_knobs(config, peak), None)
        if change is None:
            return ()
        turned |= change
        config = replace(config, **change)
    return tuple(f"{key}={str(value).lower()}" for key, value in turned.items())


def _knobs(config: StageConfig, peak: Phase) -> Iterator[dict[str, Any]]:
    """What makes a phase smaller, the cheapest first."""
    if peak.name == "training":
        yield from _training_knobs(config)
    judged = config.per_device_eval_batch_size
    if peak.name in ("evaluation", "scoring") and judged > 1:
        yield {"per_device_eval_batch_size": judged // 2}
    if isinstance(config, PPOConfig):
        drawn = config.sampling_batch_size or config.rollout_batch_size
        if peak.name == "sampling" and drawn > 1:
            yield {"sampling_batch_size": drawn // 2}
        if config.value_model == "adapter":
            yield {"value_model": "head"}


def _training_knobs(config: StageConfig) -> Iterator[dict[str, Any]]:
    size, steps = config.per_device_train_batch_size, config.gradient_accumulation_steps
    if not config.gradient_checkpointing:
        yield {"gradient_checkpointing": True}
    if size % 2 == 0:
        half: dict[str, Any] = {"per_device_train_batch_size": size // 2}
        if not isinstance(config, PPOConfig):  # which works out its accumulation itself
            half["gradient_accumulation_steps"] = 2 * steps
        yield half


def _notes(config: StageConfig, setup: Setup) -> Iterator[str]:
    """What the figures rest on."""
    if isinstance(config, PPOConfig):
        prompt = setup.prompt_length or config.data.max_length - config.max_new_tokens
        yield f"prompts of {prompt} tokens and responses of {config.max_new_tokens}, all of them"
    else:
        yield f"rows of {config.data.max_length} tokens, all of them"
    words = "16-bit arithmetic" if setup.compute == weights.FP32 // 2 else "fp32 arithmetic"
    yield f"{words}; computed, not measured"
    optim = str(config.trainer.get("optim", DEFAULT_OPTIM))
    if weights.optimizer_bytes([1], optim) is None:
        yield f"the states of optim: {optim} are not known here and counted as Adam's"
    if optim.startswith("paged_"):
        yield f"optim: {optim} moves its states out of the GPU where memory runs short"
    yield "without the CUDA context, libraries and gaps between tensors, for which 1 GiB is left"


def table(plan: Plan) -> str:
    """The plan as lines: an item each, a column for each phase, in GiB."""
    names = list(dict.fromkeys(item.name for phase in plan.phases for item in phase.items))
    columns = [{item.name: item.bytes for item in phase.items} for phase in plan.phases]
    rows = [["GiB", *(phase.name for phase in plan.phases)]]
    for name in names:
        sizes = [column.get(name) for column in columns]
        if any(sizes):
            rows.append([name, *("" if not size else f"{size / _GIB:.2f}" for size in sizes)])
    rows.append(["total", *(f"{phase.total / _GIB:.2f}" for phase in plan.phases)])
    first = max(len(row[0]) for row in rows)
    lines = [
        row[0].ljust(first) + "".join(cell.rjust(12) for cell in row[1:]).rstrip() for row in rows
    ]
    peak = plan.peak
    lines += ["", f"{plan.stage} on {plan.base}: {peak.total / _GIB:.1f} GiB, in {peak.name}"]
    if plan.gpu_memory is not None:
        lines.append(_verdict(plan))
    return "\n".join([*lines, *(f"({note})" for note in plan.notes)])


def _verdict(plan: Plan) -> str:
    if plan.fits:
        free = plan.gpu_memory * _GIB - plan.peak.total if plan.gpu_memory else 0
        return f"fits {plan.gpu_memory:g} GiB, with {free / _GIB:.1f} GiB to spare"
    if plan.advice:
        return f"does not fit {plan.gpu_memory:g} GiB; it does with {' '.join(plan.advice)}"
    return (
        f"does not fit {plan.gpu_memory:g} GiB with any knob of this config; take a smaller base, "
        "a shorter data.max_length, or a larger GPU"
    )


def facts(plan: Plan) -> dict[str, Any]:
    """The plan as plain data, in bytes."""
    return {
        "stage": plan.stage,
        "base": plan.base,
        "phases": {
            phase.name: {"total": phase.total, "items": {i.name: i.bytes for i in phase.items}}
            for phase in plan.phases
        },
        "peak": {"phase": plan.peak.name, "bytes": plan.peak.total},
        "gpu_memory_gib": plan.gpu_memory,
        "fits": plan.fits,
        "advice": list(plan.advice),
        "notes": list(plan.notes),
    }
