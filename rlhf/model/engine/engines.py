"""What answers a rollout's prompts: this process, or a server that is sent the policy's adapter."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from peft import PeftModel
from transformers import PreTrainedTokenizerFast

from rlhf.model.engine.generate import Sampling, Watch, sample_ids
from rlhf.model.roles import acting_as


@dataclass(frozen=True, slots=True)
class Answers:
    """One response per prompt, as token ids, each cut after its first stop token."""

    responses: list[list[int]]
    logprobs: list[list[float]] | None = None
    """Of every token, as an engine that shows no steps says them."""


class Engine(Protocol):
    """Samples from the policy."""

    @property
    def shows_steps(self) -> bool:
        """Whether a watcher sees logits and states; otherwise the answers come with logprobs."""
        ...

    def follow(self) -> None:
        """The policy has moved: from now on, answer as it is now. All processes call this."""
        ...

    def answer(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, watch: Watch | None = None
    ) -> Answers:
        """One response per prompt, in their order."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class InProcess:
    """The trainer's own model: always the policy of this moment."""

    model: PeftModel
    tokenizer: PreTrainedTokenizerFast
    shows_steps = True

    def follow(self) -> None:
        """Nothing to do: the weights are the same tensors."""

    def answer(
        self, prompts: Sequence[Sequence[int]], sampling: Sampling, watch: Watch | None = None
    ) -> Answers:
        """See :func:`rlhf.model.engine.generate.sample_ids`."""
        with acting_as(self.model, "policy"):
            return Answers(sample_ids(self.model, self.tokenizer, prompts, sampling, watch=watch))
