"""Forward passes over many responses: a few rows of similar length at a time."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from rlhf.model.roles import Role, acting_as
from rlhf.model.scoring import Sequences
from rlhf.rollouts.rollout import select


@dataclass(frozen=True, slots=True, eq=False)
class Passes:
    """How a model is read in each of its roles."""

    model: PeftModel
    autocast: Callable[[], AbstractContextManager[Any]]
    size: int
    """Rows in one pass."""

    def over(
        self,
        batch: Sequences,
        read: Callable[[Sequences], Tensor],
        role: Role,
        which: int = 0,
    ) -> Tensor:
        """What ``read`` finds in rows of ``batch``, (batch) or (batch, response), by ``role``.

        ``which`` tells several reward adapters apart. One role reads all rows before the next does:
        switching costs more than a small forward.
        """
        [found] = self.several(batch, lambda part: (read(part),), role, which)
        return found

    def several(
        self,
        batch: Sequences,
        read: Callable[[Sequences], Sequence[Tensor]],
        role: Role,
        which: int = 0,
    ) -> list[Tensor]:
        """The same where one pass finds several things."""
        order = batch.mask.sum(dim=1).argsort(stable=True)
        with self.autocast(), acting_as(self.model, role, which):
            found = [read(select(batch, rows)) for rows in order.split(self.size)]
        back, width = order.argsort(), batch.response_mask.shape[1]
        kinds = zip(*found, strict=True)
        return [torch.cat([_padded(part, width) for part in kind])[back] for kind in kinds]


def _padded(part: Tensor, width: int) -> Tensor:
    return part if part.dim() == 1 else nn.functional.pad(part, (0, width - part.shape[1]))
