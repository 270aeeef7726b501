"""The cache with room ahead against Transformers' own."""

from types import SimpleNamespace
from typing import Any, cast

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers.cache_utils import DynamicCache

from rlhf.model.engine.cache import roomy_cache

CONFIG = LlamaConfig(num_hidden_layers=2)
STEPS = st.lists(st.one_of(st.integers(1, 90), st.lists(st.integers(0, 2), max_size=4)), max_size=8)


@given(STEPS)
def test_it_holds_what_transformers_cache_holds(steps):
    ours: Any = roomy_cache(cast("Any", SimpleNamespace(config=CONFIG)))
    theirs: Any = DynamicCache(config=CONFIG)
    rows = 3
    for step in steps:
        if isinstance(step, int):
            keys, values = torch.randn(2, rows, 2, step, 4).unbind()
            for layer in range(2):
                got, want = (c.update(keys, values, layer) for c in (ours, theirs))
                assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
        elif kept := [i for i in step if i < rows]:
            ours.batch_select_indices(torch.tensor(kept))
            theirs.batch_select_indices(torch.tensor(kept))
            rows = len(kept) if theirs.get_seq_length() else rows
        assert ours.get_seq_length() == theirs.get_seq_length()


def test_a_token_is_written_in_place():
    ours: Any = roomy_cache(cast("Any", SimpleNamespace(config=CONFIG)))
    first, _ = ours.update(torch.zeros(1, 1, 3, 4), torch.zeros(1, 1, 3, 4), 0)
    second, _ = ours.update(torch.ones(1, 1, 1, 4), torch.ones(1, 1, 1, 4), 0)
    assert second.data_ptr() == first.data_ptr()
    assert second.shape[2] == 4


def test_a_layer_with_a_window_stays_transformers_own():
    config = LlamaConfig(num_hidden_layers=2)
    config.layer_types = ["sliding_attention", "full_attention"]
    config.sliding_window = 8
    ours = roomy_cache(cast("Any", SimpleNamespace(config=config)))
    theirs = DynamicCache(config=config)
    assert type(ours.layers[0]) is type(theirs.layers[0])
    assert type(ours.layers[1]) is not type(theirs.layers[1])
