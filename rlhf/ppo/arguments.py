"""PPO's knobs in the shape that Transformers' Trainer takes."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

from pydantic import ValidationError
from transformers import TrainingArguments

from rlhf.config import PPOKnobs
from rlhf.config.knobs import RENAMED
from rlhf.config.online import Steps
from rlhf.errors import reason

_KNOBS = tuple(f.name for f in fields(PPOKnobs))


@dataclass(init=False)
class PPOArguments(TrainingArguments):
    """Arguments of :class:`rlhf.ppo.trainer.PPOTrainer`: Transformers' and those of ``PPOKnobs``.

    ``max_steps`` and ``gradient_accumulation_steps`` follow from the others (:attr:`steps`).
    Checkpoints and evaluations fall between rollouts: their steps are rounded up to whole ones.
    """

    knobs: PPOKnobs = field(default_factory=PPOKnobs)
    """PPO's own; each may also be given by itself, under its name."""
    reward_weights: list[float] | None = None
    """One weight per reward; all 1 if left out."""
    steps: Steps = field(init=False, repr=False)
    """How rollouts become optimizer steps."""

    def __init__(
        self,
        output_dir: str | None = None,
        *,
        knobs: PPOKnobs | None = None,
        reward_weights: list[float] | None = None,
        **keys: Any,  # noqa: ANN401 - any of PPO's or of Transformers'
    ) -> None:
        for old in RENAMED.keys() & keys.keys():
            raise ValueError(f"{old} is called {RENAMED[old]} now")
        own = {name: keys.pop(name) for name in _KNOBS if name in keys}
        try:
            self.knobs = replace(knobs or PPOKnobs(), **own) if own else knobs or PPOKnobs()
        except ValidationError as error:
            raise ValueError(reason(error)) from error
        self.reward_weights = reward_weights
        defaults: dict[str, Any] = {"learning_rate": 1e-5, "per_device_eval_batch_size": 32}
        super().__init__(output_dir=output_dir, **(defaults | keys))

    def __post_init__(self) -> None:
        self.steps = Steps.of(self.knobs, self.per_device_train_batch_size)
        self.gradient_accumulation_steps = self.steps.pieces
        self.max_steps = self.steps.total
        self.save_steps = self.steps.whole_rollouts(self.save_steps)
        if self.eval_steps is not None:
            self.eval_steps = self.steps.whole_rollouts(self.eval_steps)
        self.ignore_data_skip = True  # the prompts of a rollout follow from its number
        self.remove_unused_columns = False
        super().__post_init__()

    def to_dict(self) -> dict[str, Any]:
        """Everything in one flat dict, for trackers."""
        found = super().to_dict()
        del found["knobs"]
        return found | {name: getattr(self.knobs, name) for name in _KNOBS}
