"""The knobs of the stages that learn from data: typed, frozen, strict."""

from typing import Annotated, Any, Literal, Self, cast

from pydantic import BeforeValidator, ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

Tuning = Literal[
    "full", "lora", "qlora", "dora", "rslora", "adalora", "ia3", "prefix", "prompt", "p_tuning"
]
Quantization = Literal["auto", "none", "int8", "nf4"]
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Labels = Literal["majority", "votes"]
Format = Literal[
    "auto", "records", "preference", "messages", "prompt_completion", "unpaired",
    "hh", "alpaca", "sharegpt", "votes", "text", "arena", "argilla", "label_studio",
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
    min_agreement: Fraction | None = None
    """Least share of all votes that the preferred response must have. None leaves out what most
    raters called bad on both sides, and has SFT imitate only what at least half preferred; 0 keeps
    every preference."""
    min_votes: Count = 1
    """Least number of votes on a preference; one that does not say has one."""


def _sources(given: Any) -> Any:  # noqa: ANN401 - whatever stands in the YAML
    """Paths alone, in a list or with commas between them, as sources."""
    if isinstance(given, str):
        given = [path.strip() for path in given.split(",")]
    if not isinstance(given, list):
        return given
    sources = cast("list[Any]", given)
    return [{"path": one} if isinstance(one, str) else one for one in sources]


Sources = Annotated[list[SourceConfig], BeforeValidator(_sources)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DataConfig:
    """What a stage trains and is evaluated on."""

    train: Annotated[Sources, Field(min_length=1)]
    """Training sources, mixed. `data.train=FILE`, `A,B` and `[A, B]` name paths alone."""
    eval: Sources = Field(default_factory=list[SourceConfig])
    """Evaluation sources; without any, a share of the training prompts is held out."""
    eval_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the prompts (never of the pairs) held out where `eval` is empty; 0 for none."""
    max_length: Annotated[int, Field(ge=8)] = 1024
    """Longest prompt and response together, in tokens; what is longer is left out and counted."""
    max_dropped: Fraction = 0.1
    """The stage refuses to start when a larger share of the rows would be left out."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RunConfig:
    """What every run says."""

    out: str = ""
    """The run folder to write; on the command line runs/STAGE-DATE-TIME if left out."""
    data: DataConfig
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StageConfig(RunConfig):
    """What all training stages share; names are those of Transformers' TrainingArguments."""

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
    """Stop after so many evaluations without a better one and keep the best, with a checkpoint at
    each evaluation whatever save_steps says; None for never."""
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
class _FromRun(StageConfig):
    sft: str | None = None
    """The finished SFT (or other policy) run to start from; its base, storage and adapter are used
    again."""
    model: ModelConfig | None = None
    """A base to start from instead of a run."""

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if (self.sft is None) == (self.model is None):
            raise ValueError("name where to start: either `sft` (a run folder) or `model`")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SFTConfig(_FromRun):
    """Imitate demonstrations: the loss counts assistant turns only."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RewardConfig(_FromRun):
    """A reward adapter and fp32 score head, fitted to preferences (Bradley and Terry, 1952)."""

    learning_rate: Positive = 1e-4
    use_margin: bool = False
    """Subtract the votes' margin inside the loss (Touvron et al. 2023, eq. 2)."""
    labels: Labels = "majority"
    """What repeated judgements of a pair teach: majority, that the response with more votes is
    better; votes, how many voted for each, ties as half, every vote weighing the same."""

    @model_validator(mode="after")
    def _margin_or_votes(self) -> Self:
        if self.use_margin and self.labels == "votes":
            raise ValueError("use_margin and labels: votes both use the votes; choose one")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DPOConfig(_FromRun):
    """Direct preference optimization (Rafailov et al. 2023)."""

    learning_rate: Positive = 2e-5
    beta: Positive = 0.1
    """Price of one nat of KL(policy || reference) over a whole response, in log-odds of a vote:
    where votes fall as sigmoid(r(a) - r(b)), sigmoid's optimum is pi_ref * exp(r / beta). ipo takes
    means over a response's tokens (TRL), so that its beta counts nats per token."""
    loss_type: Literal["sigmoid", "ipo", "hinge", "robust"] = "sigmoid"
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    labels: Labels = "majority"
    """What repeated judgements of a pair teach: majority, that the response with more votes is
    better; votes, how many voted for each, ties as half, every vote weighing the same."""

    @model_validator(mode="after")
    def _sigmoid_of_votes(self) -> Self:
        if self.labels == "votes" and (self.loss_type != "sigmoid" or self.label_smoothing):
            raise ValueError("labels: votes needs loss_type: sigmoid without label_smoothing")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class KTOConfig(_FromRun):
    """Kahneman-Tversky optimization (Ethayarajh et al. 2024), from good and bad responses.

    They need not come in pairs; a preference counts as one of each.
    """

    learning_rate: Positive = 2e-5
    beta: Positive = 0.1
    """What log pi/pi_ref of a whole response, less the batch's KL (eq. 8), is multiplied by: a pull
    to the reference without a pi_ref * exp(r / beta) that it would lead to."""
    undesirable_weight: Positive | None = None
    """Of a bad response, where a good one weighs 1; None so that all the bad ones together weigh as
    much as all the good ones (eq. 8)."""
    labels: Labels = "majority"
    """What repeated ratings of a response teach: majority, whether it is good; votes, each rating
    on its own."""

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if self.per_device_train_batch_size < 2:
            raise ValueError(
                "per_device_train_batch_size must be at least 2: KTO measures the KL on prompts "
                "with the responses of other rows"
            )
        return self
