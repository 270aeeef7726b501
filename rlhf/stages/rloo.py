"""REINFORCE leave-one-out: each response against the mean of the others to the same prompt."""

from pathlib import Path
from typing import Any

from trl.trainer.rloo_config import RLOOConfig as RLOOArguments
from trl.trainer.rloo_trainer import RLOOTrainer

from rlhf.config import RLOOConfig
from rlhf.rollouts.trl_trainer import Method, run_online
from rlhf.stages.grouped import GroupedTrainer, grouped_knobs


def run(config: RLOOConfig, *, resume: bool = False) -> Path:
    """Align the policy with a reward model; the finished run folder."""
    return run_online(METHOD, config, resume=resume)


class LeaveOneOutTrainer(  # pyright: ignore[reportIncompatibleMethodOverride] - they name a parameter differently
    GroupedTrainer, RLOOTrainer
):
    """TRL's baselines and loss."""

    def _generate_single_turn(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        *_: Any,  # noqa: ANN401
    ) -> list[list[int]]:
        return self.responses


METHOD = Method("rloo", LeaveOneOutTrainer, RLOOArguments, grouped_knobs)
