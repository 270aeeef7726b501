"""Which prompts a rollout answers, and in which order it is learnt: both follow from the seed."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset

from rlhf.config import ResponseKnobs


class PromptOrder:
    """The prompts of each rollout: every epoch in a new order, none left out."""

    def __init__(self, dataset: Dataset | Sequence[Any], knobs: ResponseKnobs, seed: int) -> None:
        self._dataset, self._knobs, self._seed = dataset, knobs, seed
        self._orders: dict[int, list[int]] = {}

    def indices(self, number: int) -> list[int]:
        """Which prompts rollout ``number`` answers."""
        size = len(self._dataset)
        count = self._knobs.rollout_batch_size // self._knobs.samples_per_prompt
        found: list[int] = []
        for place in range(number * count, (number + 1) * count):
            epoch, offset = divmod(place, size)
            if epoch not in self._orders:
                self._orders = {epoch: shuffled(size, self._seed, epoch)}
            found.append(self._orders[epoch][offset])
        return found

    def rows(self, number: int) -> list[dict[str, Any]]:
        """The rows of rollout ``number``, each as often as it is to be answered."""
        times = range(self._knobs.samples_per_prompt)
        return [dict(self._dataset[i]) for i in self.indices(number) for _ in times]


def shuffled(size: int, *seeds: int) -> list[int]:
    """An order of ``range(size)`` that follows from ``seeds`` alone."""
    mixed = int.from_bytes(hashlib.sha256(json.dumps(seeds).encode()).digest()[:7], "big")
    generator = torch.Generator().manual_seed(mixed)
    return torch.randperm(size, generator=generator).tolist()
