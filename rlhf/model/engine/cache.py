"""Keys and values of the tokens so far, in buffers with room for those to come."""

from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import (
    DynamicCache,
    DynamicLayer,
    LinearAttentionCacheLayerMixin,
)

_ROOM = 64
"""Tokens that a buffer has room for when it is made; Transformers' own copies all for each."""


def roomy_cache(model: PreTrainedModel) -> DynamicCache:
    """An empty cache for ``model``; layers with a window of attention are Transformers' own."""
    cache = DynamicCache(config=model.config)
    cache.layers = [_Roomy() if type(layer) is DynamicLayer else layer for layer in cache.layers]
    return cache


def keep_rows(cache: DynamicCache, rows: Tensor) -> None:
    """Keep these rows of the batch only; ``rows`` are their places."""
    for layer in cache.layers:
        if isinstance(layer, LinearAttentionCacheLayerMixin):
            # Transformers gives these layers no other selection
            layer.reorder_cache(cast("torch.LongTensor", rows))
        else:
            cast("DynamicLayer", layer).batch_select_indices(rows)


class _Roomy(DynamicLayer):
    _buffers: list[Tensor]
    """Keys and values, (batch, heads, room, size)."""

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        *args: Any,  # noqa: ANN401, ARG002 - Transformers' signature
        **kwargs: Any,  # noqa: ANN401, ARG002
    ) -> tuple[Tensor, Tensor]:
        """Write the new tokens behind the others; all keys and values, as views."""
        before, new = self.get_seq_length(), (key_states, value_states)
        after = before + key_states.shape[2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._buffers = [_with_room(states) for states in new]
        elif after > self._buffers[0].shape[2]:
            parts = zip(self._buffers, new, strict=True)
            self._buffers = [
                _with_room(torch.cat([buffer[:, :, :before], states], dim=2))
                for buffer, states in parts
            ]
        else:
            for buffer, states in zip(self._buffers, new, strict=True):
                buffer[:, :, before:after] = states
        self.keys, self.values = (buffer[:, :, :after] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows only."""
        if not (length := self.get_seq_length()):
            return
        self._buffers = [buffer[indices] for buffer in self._buffers]
        self.keys, self.values = (buffer[:, :, :length] for buffer in self._buffers)


def _with_room(states: Tensor) -> Tensor:
    batch, heads, length, size = states.shape
    buffer = states.new_empty(batch, heads, length + _ROOM, size)
    buffer[:, :, :length] = states
    return buffer
