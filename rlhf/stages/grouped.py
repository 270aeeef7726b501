"""What RLOO and GRPO share: several responses to a prompt, each judged against the others."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from rlhf.chat import encode_prompt
from rlhf.config import ClippedKnobs, GRPOConfig, RLOOConfig
from rlhf.config.online import Steps
from rlhf.model.scoring import response_states, token_logprobs_entropies
from rlhf.rollouts.collector import as_prompt
from rlhf.rollouts.trl_trainer import OnlineTrainer, joined


class GroupedTrainer(OnlineTrainer):
    """The price of KL is in the reward of the whole response, score - kl_coef * (log pi/pi_ref).

    Its policy gradient is that of E[score] - kl_coef * KL(pi || pi_ref), later tokens' KL included,
    whose optimum is pi_ref * exp(score / kl_coef): RLOO's own way, and for both the only one
    offered. TRL's GRPO would add k3 to the loss instead, whose gradient on the policy's own
    samples is that of KL(pi_ref || pi): another optimum. ("A comedy of estimators", 2025.) Neither
    a group's mean nor its deviation moves the optimum: there the rewards of a group are all equal.
    """

    _metrics: dict[str, dict[str, list[float]]]

    @property
    def uses_of_rollout(self) -> int:
        """Once per micro-batch and pass, though TRL looks at the prompts the first time only."""
        return self.steps.per_rollout * self.steps.pieces

    @property
    def repeats_of_prompt(self) -> int:
        """As many as there are responses."""
        return self.config.samples_per_prompt

    def measured_by_trl(self) -> dict[str, list[float]]:
        """The means of its micro-batches."""
        seen = dict(self._metrics["train"])
        self._metrics["train"].clear()
        return seen

    def _generate_and_score_completions(self, inputs: Sequence[dict[str, Any]]) -> Any:  # noqa: ANN401
        rollout = self.collect(inputs)
        rewards = rollout.scores - cast("ClippedKnobs", self.config).kl_coef * rollout.kl
        self.passed_on.rewards = rewards.tolist()
        return cast("Any", super())._generate_and_score_completions(inputs)

    def _tokenize_prompts(
        self, prompts: Sequence[Any]
    ) -> tuple[list[list[int]], None, dict[Any, Any]]:
        ids = [encode_prompt(self.collector.tokenizer, as_prompt(prompt)) for prompt in prompts]
        return ids, None, {}

    @property
    def responses(self) -> list[list[int]]:
        """What was drawn last, as token ids."""
        batch = self.rollout.sequences
        rows = zip(batch.response_ids, batch.response_mask, strict=True)
        return [ids[mask].tolist() for ids, mask in rows]

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,  # noqa: ANN401, ARG002 - the network, perhaps wrapped
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        *_: Any,  # noqa: ANN401
        **__: Any,  # noqa: ANN401
    ) -> tuple[Tensor, Tensor | None, None]:
        """As in PPO: positions follow the mask, the temperature is in, prompts' logits are not."""
        if not torch.is_grad_enabled():  # of the policy that sampled, which has said it already
            return self.rollout.logprobs, None, None
        batch = joined(input_ids, attention_mask, logits_to_keep)
        network = cast("Any", self.network)
        states = response_states(network, batch)
        temperature = self.config.temperature
        taken, entropy = token_logprobs_entropies(network, states, batch, temperature=temperature)
        return taken, entropy.detach(), None


def grouped_knobs(config: RLOOConfig | GRPOConfig, steps: Steps) -> dict[str, Any]:
    """TRL's arguments that RLOO and GRPO have in common."""
    return {
        "num_generations": config.samples_per_prompt,
        "num_generations_eval": 1,
        "max_completion_length": config.max_new_tokens,
        "num_iterations": config.num_ppo_epochs,
        "steps_per_generation": config.num_mini_batches * steps.pieces,
        "epsilon": config.clip_range,
        "epsilon_high": config.clip_range_high,
        "beta": 0.0,
    }
