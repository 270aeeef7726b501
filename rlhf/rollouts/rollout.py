"""What is learnt from: responses, and what every role says about them."""

from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor

from rlhf.model.scoring import Sequences
from rlhf.ppo.objectives import (
    Advantages,
    gae,
    kl_penalized_rewards,
    probability_ratio,
    truncated_importance_weights,
    whiten,
)

PerToken = Float[Tensor, "batch response"]
PerResponse = Float[Tensor, " batch"]


@dataclass(frozen=True, slots=True)
class Rollout:
    """A batch of responses. All per-token tensors are (batch, response)."""

    sequences: Sequences
    finished: Bool[Tensor, " batch"]
    """Whether the response ended with a stop token before it was cut off."""
    scores: PerResponse
    """As PPO uses them: weighted, normalised, clipped, and less the penalty for being cut off. NaN
    where no reward judged the response: nothing is learnt from it."""
    logprobs: PerToken
    """Of the policy before it learns from this, as the trainer computes them."""
    ref_logprobs: PerToken
    entropy: PerToken
    values: PerToken | None = None
    """None for methods that learn without one."""
    sampler_logprobs: PerToken | None = None
    """Of the policy as its sampler computed them, where that was another computation."""

    @property
    def mask(self) -> Bool[Tensor, "batch response"]:
        """Which response tokens exist."""
        return self.sequences.response_mask

    @property
    def judged(self) -> Bool[Tensor, " batch"]:
        """Which responses have a score."""
        return ~self.scores.isnan()

    @property
    def learnt(self) -> Bool[Tensor, "batch response"]:
        """Which response tokens are learnt from: those of responses that were judged."""
        return self.mask & self.judged[:, None]

    @property
    def kl(self) -> PerResponse:
        """k1: the sum of log pi - log pi_ref over each response; its mean estimates the KL."""
        return (self.logprobs - self.ref_logprobs).where(self.mask, 0.0).sum(dim=1)

    @property
    def k3(self) -> PerResponse:
        """k3 (Schulman 2020): never negative and less noisy than k1, for logging only."""
        ratio = probability_ratio(self.ref_logprobs, self.logprobs)
        return (ratio - 1 - ratio.log()).where(self.mask, 0.0).sum(dim=1)

    def select(self, rows: Tensor) -> "Rollout":
        """Some responses, without the padding that only the others needed."""
        taken = select(self.sequences, rows)
        width = taken.response_mask.shape[1]
        per_token = {
            name: None if x is None else x[rows, :width]
            for name in ("logprobs", "ref_logprobs", "entropy", "values", "sampler_logprobs")
            for x in [getattr(self, name)]
        }
        return replace(
            self,
            sequences=taken,
            finished=self.finished[rows],
            scores=self.scores[rows],
            **per_token,
        )

    def weights(self, cap: float | None) -> PerToken | None:
        """What each token's policy loss is multiplied by; None where the sampler is exact."""
        if cap is None or self.sampler_logprobs is None:
            return None
        return truncated_importance_weights(
            self.logprobs, self.sampler_logprobs, self.mask, cap=cap
        )

    def advantages(
        self, *, kl_coef: float, gamma: float, lam: float, lam_value: float, whitened: bool
    ) -> Advantages:
        """Advantages and returns of every token, whitened over the whole rollout if asked for.

        Responses that were not judged have none, and no part in the whitening.
        """
        assert self.values is not None
        mask = self.learnt
        rewards = kl_penalized_rewards(
            self.scores, self.logprobs, self.ref_logprobs, mask, kl_coef=kl_coef
        )
        result = gae(rewards, self.values, mask, gamma=gamma, lam=lam, lam_value=lam_value)
        if not whitened:
            return result
        return replace(result, advantages=whiten(result.advantages, mask))


def select(batch: Sequences, rows: Tensor) -> Sequences:
    """Some rows of ``batch``, without the padding that only the others needed."""
    width = int(batch.mask[rows].sum(dim=1).max())
    longest = max(1, int(batch.response_mask[rows].sum(dim=1).max()))
    return Sequences(
        batch.ids[rows, :width],
        batch.mask[rows, :width],
        batch.where[rows, :longest].clamp(max=width - 1),
        batch.response_mask[rows, :longest],
    )
