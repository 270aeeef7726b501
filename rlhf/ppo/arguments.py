"""PPO's knobs in the shape that Transformers' Trainer takes."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from transformers import TrainingArguments

from rlhf.config import OnlineConfig, RolloutEngine, ValueModel
from rlhf.config.online import check_address, pieces_of_step


@dataclass
class PPOArguments(TrainingArguments):
    """Arguments of :class:`rlhf.ppo.trainer.PPOTrainer`; each is explained in ``PPOConfig``.

    ``max_steps`` and ``gradient_accumulation_steps`` follow from the others, and so does
    ``micro_batch_size``, the sequences of one forward pass. Checkpoints and
    evaluations fall between rollouts: their steps are rounded up to whole ones.
    """

    learning_rate: float = 1e-5
    value_learning_rate: float = 2e-5
    per_device_eval_batch_size: int = 32
    num_rollouts: int = 100
    rollout_batch_size: int = 64
    samples_per_prompt: int = 1
    num_ppo_epochs: int = 2
    num_mini_batches: int = 4
    max_new_tokens: int = 128
    temperature: float = 1.0
    kl_coef: float = 0.05
    kl_target: float | None = None
    kl_horizon: float = 10000.0
    gamma: float = 1.0
    lam: float = 0.95
    lam_value: float = 1.0
    clip_range: float = 0.2
    clip_range_high: float | None = None
    dual_clip: float | None = 3.0
    clip_range_value: float | None = 0.2
    value_model: ValueModel = "adapter"
    vf_coef: float = 1.0
    value_warmup_steps: int = 10
    whiten_advantages: bool = True
    score_norm: Literal["frozen", "none"] = "frozen"
    score_clip: float | None = 5.0
    missing_eos_penalty: float = 1.0
    overlong_buffer: int = 0
    stop_kl: float | None = 0.1
    rollout_engine: RolloutEngine = "transformers"
    vllm_url: str = "http://127.0.0.1:8000"
    is_cap: float | None = 2.0
    reward_weights: list[float] | None = field(
        default=None, metadata={"help": "One weight per reward; all 1 if left out."}
    )

    def __post_init__(self) -> None:
        if self.rollout_batch_size % self.samples_per_prompt:
            raise ValueError("rollout_batch_size must be a multiple of samples_per_prompt")
        if self.rollout_engine not in (engines := get_args(RolloutEngine)):
            raise ValueError(f"rollout_engine must be one of {', '.join(engines)}")
        if self.is_cap is not None and self.is_cap < 1:
            raise ValueError("is_cap below 1 would weigh the trainer's own samples down")
        check_address(self.vllm_url)
        self.micro_batch_size, self.gradient_accumulation_steps = pieces_of_step(
            self.rollout_batch_size, self.num_mini_batches, self.per_device_train_batch_size
        )
        self.max_steps = self.num_rollouts * self.steps_per_rollout
        self.save_steps = self._whole_rollouts(self.save_steps)
        if self.eval_steps is not None:
            self.eval_steps = self._whole_rollouts(self.eval_steps)
        self.ignore_data_skip = True  # the prompts of a rollout follow from its number
        self.remove_unused_columns = False
        super().__post_init__()

    @property
    def steps_per_rollout(self) -> int:
        """Optimizer steps from one rollout to the next."""
        return self.num_ppo_epochs * self.num_mini_batches

    def _whole_rollouts(self, steps: float) -> int:
        steps = steps * self.max_steps if steps < 1 else steps
        return math.ceil(steps / self.steps_per_rollout) * self.steps_per_rollout


def ppo_knobs(config: OnlineConfig) -> dict[str, Any]:
    """The fields of a stage's config that PPO has and Transformers has not, as arguments."""
    trainer = {f.name for f in fields(TrainingArguments)}
    own = {f.name for f in fields(PPOArguments)} - trainer
    return {name: getattr(config, name) for name in own if hasattr(config, name)}
