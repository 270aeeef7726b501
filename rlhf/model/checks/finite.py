"""No model is saved that holds something else than numbers."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from rlhf.errors import ModelError


def refuse_non_finite(tensors: Iterable[tuple[str, Tensor]], step: int) -> None:
    """Say so where a tensor that was trained holds NaN or infinity.

    Of tensors in parts each process looks at its own.

    Raises:
        ModelError: one does.
    """
    for name, tensor in tensors:
        held = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        if not torch.isfinite(held).all():
            raise ModelError(
                f"after step {step} the tensor {name} holds NaN or infinity: training has broken "
                "down, and nothing is saved; lower learning_rate or max_grad_norm, and see that "
                "data and rewards hold no extreme numbers"
            )


def trained(model: nn.Module) -> list[tuple[str, Tensor]]:
    """What the optimizer moves, by name."""
    return [(name, p.data) for name, p in model.named_parameters() if p.requires_grad]
