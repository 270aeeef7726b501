"""Tensors that several processes hold in parts (FSDP2), put together and taken apart again."""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


def is_sharded(model: nn.Module) -> bool:
    """Whether no process has the whole of ``model``."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``tensors`` on the CPU; where they are in parts, all processes must ask for them together."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        found[name] = full.detach().cpu().contiguous()
    return found


@torch.no_grad()
def put(into: Tensor, values: Tensor) -> None:
    """Copy ``values`` into a tensor, or what this process holds of them."""
    if isinstance(into, DTensor):
        values = distribute_tensor(
            values.to(cast("Tensor", into).device), into.device_mesh, into.placements
        )
    into.copy_(values)
