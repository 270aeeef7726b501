"""The knobs of methods that learn from the policy's own responses, apart from any run or data.

What they share has one name and one meaning, so that each reads the others' YAML; a trainer that is
used as a library takes the same records.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from rlhf.config.stages import STRICT, Count, Fraction, NonNegative, Positive

ValueModel = Literal["adapter", "head"]
RolloutEngine = Literal["transformers", "vllm"]

RENAMED = {
    "value_warmup_steps": "value_warmup_rollouts",
    "is_cap": "importance_weight_cap",
}
"""Knobs under their old names."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ResponseKnobs:
    """How responses are drawn."""

    num_rollouts: Count = 100
    """Rollout batches to collect; each is trained on and thrown away."""
    rollout_batch_size: Count = 64
    """Responses in one rollout, over all devices."""
    sampling_batch_size: Count | None = None
    """Responses that are drawn at once, where a whole rollout is too much for a small card."""
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
class RolloutKnobs(ResponseKnobs):
    """How rollouts are scored and learnt from."""

    num_mini_batches: Count = 4
    """Optimizer steps in one pass."""
    score_norm: Literal["frozen", "none"] = "frozen"
    """frozen: score minus mean over deviation of the policy's first responses."""
    score_clip: Positive | None = 5.0
    """Bound of the normalised score."""
    overlong_buffer: Annotated[int, Field(ge=0)] = 0
    """Over so many last tokens the penalty grows from 0 to its full size (Yu et al. 2025, eq. 13),
    so that responses learn to end before they are cut off; 0 for none."""

    @property
    def num_passes(self) -> int:
        """How often a rollout is learnt from."""
        return 1


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClippedKnobs(RolloutKnobs):
    """What methods share whose loss clips the probability ratio."""

    num_ppo_epochs: Count = 2
    """Passes over each rollout."""
    kl_coef: NonNegative = 0.05
    """Price of one nat of KL(policy || reference) over a whole response, in units of the score: PPO
    charges each token its log-ratio (k1), RLOO and GRPO the response its sum, all in the reward and
    never in the loss. The optimum is pi_ref * exp(score / kl_coef) for each of them."""
    clip_range: Positive = 0.2
    """How far the probability ratio may move from 1."""
    clip_range_high: Positive | None = None
    """Upper bound where it differs (Yu et al. 2025)."""

    @property
    def num_passes(self) -> int:
        """How often a rollout is learnt from."""
        return self.num_ppo_epochs


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PPOKnobs(ClippedKnobs):
    """Those of proximal policy optimization (Schulman et al. 2017)."""

    value_learning_rate: Positive = 2e-5
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
    value_warmup_rollouts: Annotated[int, Field(ge=0)] = 10
    """Rollouts on which only the value learns."""
    whiten_advantages: bool = True
    rollout_engine: RolloutEngine = "transformers"
    """transformers: this process samples. vllm: a server that is sent the policy's adapter before
    each rollout. Experimental: not run on a GPU yet."""
    vllm_url: str = "http://127.0.0.1:8000"
    """Where `VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve BASE --enable-lora --logprobs-mode
    processed_logprobs` listens; it must see the folder `out` under the same path."""
    importance_weight_cap: Annotated[float, Field(ge=1)] | None = 2.0
    """Most that a token's policy loss is multiplied by to make up for a sampler in other arithmetic
    (vLLM, or 16-bit kernels): min(pi / pi_sampler, cap), Yao et al. 2025. Without a cap one
    token that the sampler thought unlikely would outweigh a rollout; at their 2 only such tokens
    are cut. None takes samples for the trainer's own."""
    stop_kl: Positive | None = 0.1
    """Nats per token from the policy that sampled, above which its updates are skipped until the
    next rollout and only the value goes on; 0.1 is far above the 0.001 to 0.01 of a healthy run."""

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
