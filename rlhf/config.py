"""Every knob of every stage: typed, frozen, strict. A YAML file is one of these written out."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass

from rlhf import processes
from rlhf.errors import ConfigError
from rlhf.plain import apply_override, read_yaml, sentence

Tuning = Literal[
    "full", "lora", "qlora", "dora", "rslora", "adalora", "ia3", "prefix", "prompt", "p_tuning"
]
Quantization = Literal["auto", "none", "int8", "nf4"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Format = Literal[
    "auto", "records", "preference", "messages", "prompt_completion", "unpaired",
    "hh", "alpaca", "sharegpt", "votes", "text",
]  # fmt: skip

STRICT = ConfigDict(extra="forbid", strict=True)

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LoraConfig:
    """The shape of LoRA, DoRA, rsLoRA and AdaLoRA adapters."""

    rank: Count = 16
    """Rank of the update."""
    alpha: Count | None = None
    """Scale of the update, alpha / rank; twice the rank if left out."""
    dropout: Fraction = 0.0
    """Dropout on the adapter's input, in SFT and reward training. PPO and DPO force 0."""
    target_modules: Literal["all-linear"] | list[str] = "all-linear"
    """Which linear layers are adapted."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelConfig:
    """The base model and what is trained of it."""

    base: str
    """A folder with a Transformers model, or a name on the Hugging Face hub."""
    revision: str | None = None
    """Commit or tag on the hub."""
    tuning: Tuning = "qlora"
    """One word for what trains. qlora is LoRA on an nf4 base."""
    quantization: Quantization = "auto"
    """How the frozen base is stored; auto is nf4 for qlora and none otherwise."""
    dtype: Dtype = "auto"
    """Compute dtype; auto is float32 on a CPU, bfloat16 or float16 on a GPU."""
    lora: LoraConfig = LoraConfig()
    """Used by lora, qlora, dora, rslora and adalora."""
    num_virtual_tokens: Count = 16
    """Length of the prefix or prompt of prefix, prompt and p_tuning."""

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.tuning == "full" and self.quantization not in ("auto", "none"):
            raise ValueError(
                f"tuning: full cannot train a {self.quantization} base; set quantization: none"
            )
        if self.tuning == "qlora" and self.quantization not in ("auto", "nf4"):
            raise ValueError(
                "tuning: qlora means an nf4 base; "
                f"for quantization: {self.quantization} set tuning: lora"
            )
        return self

    @property
    def storage(self) -> Literal["none", "int8", "nf4"]:
        """How the base is stored once ``auto`` is resolved."""
        if self.quantization == "auto":
            return "nf4" if self.tuning == "qlora" else "none"
        return self.quantization


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SourceConfig:
    """One place that records come from."""

    path: str
    """A file, a folder (a dataset saved by `datasets`, or a label export), or a hub name."""
    format: Format = "auto"
    """What the rows mean; auto looks at the column names."""
    split: str | None = None
    """Split of a dataset; train if there are several and none is named."""
    weight: Positive = 1.0
    """How often the source is drawn, relative to its size."""
    limit: Count | None = None
    """Use the first so many records only."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataConfig:
    """What a stage trains and is evaluated on."""

    train: Annotated[list[SourceConfig], Field(min_length=1)]
    """Training sources, mixed."""
    eval: list[SourceConfig] = Field(default_factory=list[SourceConfig])
    """Evaluation sources; without any, a share of the training prompts is held out."""
    eval_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the prompts (never of the pairs) held out where `eval` is empty; 0 for none."""
    max_length: Annotated[int, Field(ge=8)] = 1024
    """Longest prompt and response together, in tokens; what is longer is left out and counted."""
    max_dropped: Fraction = 0.1
    """The stage refuses to start when a larger share of the rows would be left out."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StageConfig:
    """What all training stages share; names are those of Transformers' TrainingArguments."""

    out: str
    """The run folder to write."""
    data: DataConfig
    seed: Annotated[int, Field(ge=0)] = 0
    learning_rate: Positive = 2e-4
    per_device_train_batch_size: Count = 8
    """Sequences (or pairs) in one forward pass."""
    per_device_eval_batch_size: Count = 16
    gradient_accumulation_steps: Count = 1
    num_train_epochs: Positive = 1.0
    max_steps: Annotated[int, Field(ge=-1)] = -1
    """Optimizer steps; -1 to count epochs instead."""
    warmup_steps: NonNegative = 0.05
    """Steps, or a share of all steps when below 1."""
    lr_scheduler_type: str = "linear"
    weight_decay: NonNegative = 0.0
    max_grad_norm: Positive = 1.0
    gradient_checkpointing: bool = False
    """Trade time for memory."""
    eval_steps: Positive = 0.25
    """Evaluate every so many steps, or this share of all steps when below 1."""
    save_steps: Positive = 0.25
    """Checkpoint every so many steps, or this share of all steps when below 1."""
    logging_steps: Positive = 10
    early_stopping_patience: Count | None = None
    """Stop after so many evaluations without a better one and keep the best; None for never."""
    report_to: list[str] = Field(default_factory=list[str])
    """Trackers known to Transformers: tensorboard, trackio, wandb …"""
    trainer: dict[str, Any] = Field(default_factory=dict[str, Any])
    """Any further field of the trainer's arguments."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PretrainConfig(StageConfig):
    """A base model from scratch, or one trained further on plain text or conversations."""

    base: str | None = None
    """Continue from this base; None to start from random weights of `architecture`."""
    architecture: dict[str, Any] | None = None
    """Arguments of a Transformers config, with its `model_type`."""
    tokenizer: str | None = None
    """Folder or hub name of the tokenizer; None for that of `base`."""
    vocab_size: Count | None = None
    """Train a tokenizer of at most so many tokens on the training text instead."""

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if (self.base is None) == (self.architecture is None):
            raise ValueError("name either `base` to train on, or the `architecture` of a new one")
        if self.base is None and (self.tokenizer is None) == (self.vocab_size is None):
            raise ValueError("name either a `tokenizer`, or the `vocab_size` of a new one")
        if self.base is not None and self.vocab_size is not None:
            raise ValueError("a base keeps its tokenizer; leave out `vocab_size`")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SFTConfig(StageConfig):
    """Imitate demonstrations: the loss counts assistant turns only."""

    model: ModelConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _AfterSFT(StageConfig):
    sft: str | None = None
    """The finished SFT run to start from; its base, storage and adapter are used again."""
    model: ModelConfig | None = None
    """A base to start from instead of an SFT run."""

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if (self.sft is None) == (self.model is None):
            raise ValueError("name where to start: either `sft` (a run folder) or `model`")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RewardConfig(_AfterSFT):
    """A reward adapter and fp32 score head, fitted to preferences (Bradley and Terry, 1952)."""

    learning_rate: Positive = 1e-4
    use_margin: bool = False
    """Subtract the votes' margin inside the loss (Touvron et al. 2023, eq. 2)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DPOConfig(_AfterSFT):
    """Direct preference optimization (Rafailov et al. 2023)."""

    learning_rate: Positive = 2e-5
    beta: Positive = 0.1
    """Strength of the pull to the reference."""
    loss_type: Literal["sigmoid", "ipo", "hinge", "robust"] = "sigmoid"
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0


ValueModel = Literal["adapter", "head"]
RolloutEngine = Literal["transformers", "vllm"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PPOConfig(StageConfig):
    """Proximal policy optimization (Schulman et al. 2017) against reward runs."""

    policy: str
    """The finished SFT (or DPO) run to align; also the frozen reference."""
    reward: str
    """The finished reward run."""
    learning_rate: Positive = 1e-5
    value_learning_rate: Positive = 2e-5
    num_rollouts: Count = 100
    """Rollout batches to collect; each is trained on and thrown away."""
    rollout_batch_size: Count = 64
    """Responses in one rollout, over all devices."""
    samples_per_prompt: Count = 1
    num_ppo_epochs: Count = 2
    """Passes over each rollout."""
    num_mini_batches: Count = 4
    """Optimizer steps in one pass."""
    max_new_tokens: Count = 128
    """Longest response."""
    temperature: Positive = 1.0
    """Of sampling and of every logprob."""
    kl_coef: NonNegative = 0.05
    """Price of one nat of KL from the reference."""
    kl_placement: Literal["reward", "loss"] = "reward"
    """k1 in each token's reward, or k2 beside the policy loss: both lead to the optimum
    pi_ref * exp(r / kl_coef), other estimators do not ("A comedy of estimators", 2025)."""
    kl_target: Positive | None = None
    """Adapt kl_coef towards this KL per response (Ziegler et al. 2019, 2.2); None keeps it."""
    kl_horizon: Positive = 10000.0
    """Responses over which kl_coef adapts."""
    gamma: Fraction = 1.0
    """Discount."""
    lam: Fraction = 0.95
    """GAE's lambda for the policy."""
    lam_value: Fraction = 1.0
    """GAE's lambda for the value's target."""
    clip_range: Positive = 0.2
    """How far the probability ratio may move from 1."""
    clip_range_high: Positive | None = None
    """Upper bound where it differs (Yu et al. 2025)."""
    dual_clip: Annotated[float, Field(gt=1)] | None = 3.0
    """Bound of the loss for bad actions (Ye et al. 2020)."""
    clip_range_value: Positive | None = 0.2
    """How far the value may move from the old one."""
    value_model: ValueModel = "adapter"
    """adapter: its own, started from the reward run. head: a linear map of the policy's states,
    which it does not move; a third cheaper."""
    vf_coef: Positive = 1.0
    """Weight of the value loss."""
    value_warmup_steps: Annotated[int, Field(ge=0)] = 10
    """Rollouts on which only the value learns."""
    whiten_advantages: bool = True
    score_norm: Literal["frozen", "none"] = "frozen"
    """frozen: score minus mean over deviation of the policy's first responses."""
    score_clip: Positive | None = 5.0
    """Bound of the normalised score."""
    missing_eos_penalty: NonNegative = 1.0
    """Taken from the score of a response that was cut off."""
    overlong_buffer: Annotated[int, Field(ge=0)] = 0
    """Over so many last tokens the penalty grows from 0 to its full size (Yu et al. 2025, eq. 13),
    so that responses learn to end before they are cut off; 0 for none."""
    stop_kl: Positive | None = 0.1
    """Nats per token from the policy that sampled, above which it rests until the next rollout and
    only the value goes on; 0.1 is far above the 0.001 to 0.01 of a healthy run."""
    rollout_engine: RolloutEngine = "transformers"
    """transformers: this process samples. vllm: a server that is sent the policy's adapter before
    each rollout. Experimental: not run on a GPU yet."""
    vllm_url: str = "http://127.0.0.1:8000"
    """Where `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve BASE --enable-lora --logprobs-mode
    processed_logprobs` listens; it must see the folder `out` under the same path."""
    is_cap: Annotated[float, Field(ge=1)] | None = 2.0
    """Most that a token's policy loss is multiplied by to make up for a sampler in other arithmetic
    (vLLM, or 16-bit kernels): min(pi / pi_sampler, is_cap), Yao et al. 2025. Without a cap one
    token that the sampler thought unlikely would outweigh a rollout; at their 2 only such tokens
    are cut. None takes samples for the trainer's own."""

    @model_validator(mode="after")
    def _divisible(self) -> Self:
        if self.rollout_batch_size % self.samples_per_prompt:
            raise ValueError("rollout_batch_size must be a multiple of samples_per_prompt")
        pieces_of_step(
            self.rollout_batch_size, self.num_mini_batches, self.per_device_train_batch_size
        )
        if self.gradient_accumulation_steps != 1:
            raise ValueError(
                "gradient_accumulation_steps follows from rollout_batch_size, num_mini_batches "
                "and per_device_train_batch_size; leave it out"
            )
        if self.num_train_epochs != 1.0 or self.max_steps != -1:
            raise ValueError(
                "num_rollouts says how long PPO runs; leave num_train_epochs and max_steps out"
            )
        check_address(self.vllm_url)
        return self


def check_address(url: str) -> None:
    """Refuse what is no address of a server.

    Raises:
        ValueError: it is not.
    """
    if not re.fullmatch(r"https?://[^/?#\s]+/?", url):
        raise ValueError(f"vllm_url ({url}) must be an address like http://127.0.0.1:8000")


def pieces_of_step(rollout: int, num_mini_batches: int, size: int) -> tuple[int, int]:
    """How many responses a forward pass of PPO's update holds, and how many passes make a step.

    The responses of a step are shared out evenly among the processes that train together, and a
    share goes through in passes of ``size``, or at once where it is smaller.

    Raises:
        ValueError: they do not divide.
    """
    num_processes = processes.count()
    share, over = divmod(rollout, num_mini_batches * num_processes)
    held = min(size, share)
    if over or share % held:
        among = f" * {num_processes} processes" if num_processes > 1 else ""
        raise ValueError(
            f"rollout_batch_size ({rollout}) must be a multiple of num_mini_batches * "
            f"per_device_train_batch_size ({num_mini_batches} * {size}){among}"
        )
    return held, share // held


CONFIG_OF: dict[str, type[StageConfig]] = {
    "pretrain": PretrainConfig,
    "sft": SFTConfig,
    "reward": RewardConfig,
    "dpo": DPOConfig,
    "ppo": PPOConfig,
}

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
