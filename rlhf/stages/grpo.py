"""Group relative policy optimization: each response against its group, in the group's units."""

from pathlib import Path
from typing import Any

from trl.trainer.grpo_config import GRPOConfig as GRPOArguments
from trl.trainer.grpo_trainer import GRPOTrainer

from rlhf.config import GRPOConfig
from rlhf.config.online import Steps
from rlhf.rollouts.trl_trainer import Method, run_online
from rlhf.stages.grouped import GroupedTrainer, grouped_knobs


def run(config: GRPOConfig, *, resume: bool = False) -> Path:
    """Align the policy with a reward model; the finished run folder."""
    return run_online(METHOD, config, resume=resume)


class GroupRelativeTrainer(  # pyright: ignore[reportIncompatibleMethodOverride] - they name a parameter differently
    GroupedTrainer, GRPOTrainer
):
    """TRL's advantages and loss."""

    def _generate_single_turn(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        *_: Any,  # noqa: ANN401
    ) -> tuple[list[list[int]], None]:
        return self.responses, None


def _knobs(config: GRPOConfig, steps: Steps) -> dict[str, Any]:
    own = {"scale_rewards": config.scale_rewards, "loss_type": config.loss_type}
    return grouped_knobs(config, steps) | own


METHOD = Method("grpo", GroupRelativeTrainer, GRPOArguments, _knobs)
