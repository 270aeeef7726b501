"""The knobs of the methods that learn from the policy's own responses: PPO and its siblings.

What they share has one name and one meaning in all their configs.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from rlhf import processes
from rlhf.config.stages import (
    STRICT,
    Count,
    Fraction,
    NonNegative,
    Positive,
    RunConfig,
    StageConfig,
)

ValueModel = Literal["adapter", "head"]
RolloutEngine = Literal["transformers", "vllm"]
Several = Annotated[int, Field(ge=2)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _Responses:
    policy: str
    """The finished SFT (or DPO) run to align; also the frozen reference."""
    reward: str
    """The finished reward run."""
    num_rollouts: Count = 100
    """Rollout batches to collect; each is trained on and thrown away."""
    rollout_batch_size: Count = 64
    """Responses in one rollout, over all devices."""
    samples_per_prompt: Count = 1
    max_new_tokens: Count = 128
    """Longest response."""
    temperature: Positive = 1.0
    """Of sampling and of every logprob."""
    missing_eos_penalty: NonNegative = 1.0
    """Taken from the score of a response that was cut off."""

    @model_validator(mode="after")
    def _whole_groups(self) -> Self:
        if self.rollout_batch_size % self.samples_per_prompt:
            raise ValueError(
                f"rollout_batch_size ({self.rollout_batch_size}) must be a multiple of "
                f"samples_per_prompt ({self.samples_per_prompt})"
            )
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OnlineConfig(_Responses, StageConfig):
    """What all methods share that train on responses as they are drawn and scored."""

    audit: list[str] = Field(default_factory=list[str])
    """Other reward runs on the same base, or `sandbox` for its gold score, that score each rollout
    and teach nothing. Where they fall while the score rises, the report shows that the reward is
    over-optimised (Gao et al. 2022)."""
    learning_rate: Positive = 1e-5
    num_mini_batches: Count = 4
    """Optimizer steps in one pass."""
    score_norm: Literal["frozen", "none"] = "frozen"
    """frozen: score minus mean over deviation of the policy's first responses."""
    score_clip: Positive | None = 5.0
    """Bound of the normalised score."""
    overlong_buffer: Annotated[int, Field(ge=0)] = 0
    """Over so many last tokens the penalty grows from 0 to its full size (Yu et al. 2025, eq. 13),
    so that responses learn to end before they are cut off; 0 for none."""

    @model_validator(mode="after")
    def _divisible(self) -> Self:
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
                "num_rollouts says how long training runs; leave num_train_epochs and max_steps out"
            )
        return self


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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _Clipped(OnlineConfig):
    num_ppo_epochs: Count = 2
    """Passes over each rollout."""
    kl_coef: NonNegative = 0.05
    """Price of one nat of KL from the reference."""
    clip_range: Positive = 0.2
    """How far the probability ratio may move from 1."""
    clip_range_high: Positive | None = None
    """Upper bound where it differs (Yu et al. 2025)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PPOConfig(_Clipped):
    """Proximal policy optimization (Schulman et al. 2017) against reward runs."""

    value_learning_rate: Positive = 2e-5
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
    stop_kl: Positive | None = 0.1
    """Nats per token from the policy that sampled, above which it rests until the next rollout and
    only the value goes on; 0.1 is far above the 0.001 to 0.01 of a healthy run."""

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        check_address(self.vllm_url)
        return self


def check_address(url: str) -> None:
    """Refuse what is no address of a server.

    Raises:
        ValueError: it is not.
    """
    if not re.fullmatch(r"https?://[^/?#\s]+/?", url):
        raise ValueError(f"vllm_url ({url}) must be an address like http://127.0.0.1:8000")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RLOOConfig(_Clipped):
    """REINFORCE with a prompt's other responses for a baseline (Ahmadian et al. 2024).

    The ratio and its clipping are those of whole responses.
    """

    samples_per_prompt: Several = 4
    """Responses to a prompt, each the others' baseline."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GRPOConfig(_Clipped):
    """Group relative policy optimization (Shao et al. 2024)."""

    samples_per_prompt: Several = 4
    """Responses to a prompt, which are compared with their mean."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What the difference from the group's mean is divided by: the deviation of the group, that of
    the rollout, or nothing (Liu et al. 2025, "Dr. GRPO")."""
    loss_type: Literal["grpo", "bnpo", "dr_grpo", "dapo"] = "dapo"
    """How tokens are averaged: dapo over all of a step's, grpo within each response first."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OnlineDPOConfig(OnlineConfig):
    """Direct preference optimization on the policy's own pairs, as judged by the reward run.

    Guo et al. 2024. Each optimizer step has fresh pairs; a rollout is num_mini_batches steps.
    """

    samples_per_prompt: Literal[2] = 2
    """Two responses to a prompt make a pair."""
    beta: Positive = 0.1
    """Strength of the pull to the reference."""
    loss_type: Literal["sigmoid", "ipo"] = "sigmoid"

    @model_validator(mode="after")
    def _whole_pairs(self) -> Self:
        size, _ = pieces_of_step(
            self.rollout_batch_size, self.num_mini_batches, self.per_device_train_batch_size
        )
        if size % 2:
            raise ValueError(
                "per_device_train_batch_size (and rollout_batch_size / num_mini_batches) counts "
                "responses and must be even, because two make a pair"
            )
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BestOfNConfig(_Responses, RunConfig):
    """The best of several responses to each prompt, by the reward run, to imitate in SFT."""

    samples_per_prompt: Several = 4
    """Responses to a prompt, of which the best is kept."""
