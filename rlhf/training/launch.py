"""What a launcher was asked for, compared with what there is."""

import os
from typing import TYPE_CHECKING

from rlhf.errors import ConfigError

if TYPE_CHECKING:  # the command line looks at launches before it imports what takes seconds
    from transformers import TrainingArguments

_OF_MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")
_NOT_OURS = {
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM (--use_megatron_lm)",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism config (--use_parallelism_config)",
}
"""What accelerate's launcher tells of ways that are not data parallel, FSDP or DeepSpeed."""
_REMEDY = "start the processes with `torchrun --nproc-per-node NUMBER -m rlhf …`"


def check_launch() -> None:
    """Refuse to train otherwise than the launcher was asked for.

    ``accelerate launch --cpu --num_processes 2`` starts one process, without a word. It tells no
    number either, but only for several it says where they would meet. Processes that MPI starts
    would each train a model of its own.

    Raises:
        ConfigError: several processes were asked for and there is one, or a way of sharing the work
            that no stage has.
    """
    for name, option in _NOT_OURS.items():
        if os.environ.get(name, "false").lower() == "true":
            raise ConfigError(
                f"no stage trains with {option}; launch with one of configs/accelerate/"
            )
    if "WORLD_SIZE" in os.environ:
        return
    if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ:
        raise ConfigError(
            "accelerate launch was asked for several processes and started one, as it does with "
            f"--cpu; {_REMEDY}, or leave out --num_processes"
        )
    if any(int(os.environ.get(name, "1")) > 1 for name in _OF_MPI):
        raise ConfigError(f"MPI's processes do not train together here; {_REMEDY}")


def refuse_other_precision(arguments: "TrainingArguments") -> None:
    """Refuse a ``mixed_precision`` of the launch that is not the stage's own.

    Raises:
        ConfigError: they differ. Transformers would take the launch's where the stage has none.
    """
    wanted = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    ours = "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "no"
    if wanted not in ("no", ours):
        raise ConfigError(
            f"the launch asks for mixed_precision: {wanted}, and this stage for {ours}; launch "
            "with mixed_precision: no, and let the stage decide (model.dtype)"
        )
