"""The stages that learn from the policy's own responses: PPO and its siblings."""

import dataclasses
import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from rlhf import processes
from rlhf.config.knobs import ClippedKnobs, PPOKnobs, ResponseKnobs, RolloutKnobs
from rlhf.config.stages import STRICT, Positive, RunConfig, StageConfig

Several = Annotated[int, Field(ge=2)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _Runs:
    policy: str
    """The finished SFT (or DPO) run to align; also the frozen reference."""
    reward: str
    """The finished reward run."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OnlineConfig(RolloutKnobs, _Runs, StageConfig):
    """What all methods share that train on responses as they are drawn and scored."""

    audit: list[str] = Field(default_factory=list[str])
    """Other reward runs on the same base, or `sandbox` for its gold score, that score each rollout
    and teach nothing. Where they fall while the score rises, the report shows that the reward is
    over-optimised (Gao et al. 2022)."""
    learning_rate: Positive = 1e-5

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


@dataclasses.dataclass(frozen=True, slots=True)
class Steps:
    """How rollouts become optimizer steps."""

    piece: int
    """Responses in one forward pass of an update."""
    pieces: int
    """Passes in a step of one process."""
    per_rollout: int
    """Steps from one rollout to the next."""
    total: int

    @classmethod
    def of(cls, knobs: RolloutKnobs, per_device_train_batch_size: int) -> Self:
        """Those of a whole training.

        Raises:
            ValueError: the sizes do not divide.
        """
        piece, pieces = pieces_of_step(
            knobs.rollout_batch_size, knobs.num_mini_batches, per_device_train_batch_size
        )
        per_rollout = knobs.num_passes * knobs.num_mini_batches
        return cls(piece, pieces, per_rollout, knobs.num_rollouts * per_rollout)

    def whole_rollouts(self, steps: float) -> int:
        """``steps``, or the share of them that a number below 1 means, up to a rollout's end."""
        steps = steps * self.total if steps < 1 else steps
        return math.ceil(steps / self.per_rollout) * self.per_rollout


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PPOConfig(PPOKnobs, OnlineConfig):
    """Proximal policy optimization (Schulman et al. 2017) against reward runs."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RLOOConfig(ClippedKnobs, OnlineConfig):
    """REINFORCE with a prompt's other responses for a baseline (Ahmadian et al. 2024).

    The ratio and its clipping are those of whole responses.
    """

    samples_per_prompt: Several = 4
    """Responses to a prompt, each the others' baseline."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GRPOConfig(ClippedKnobs, OnlineConfig):
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
    """Nats by which log pi/pi_ref of whole responses count in the loss. Not kl_coef: the judge says
    which is better and never by how much, so that no pi_ref * exp(score / beta) is the optimum."""
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
class BestOfNConfig(ResponseKnobs, _Runs, RunConfig):
    """The best of several responses to each prompt, by the reward run, to imitate in SFT."""

    samples_per_prompt: Several = 4
    """Responses to a prompt, of which the best is kept."""
