"""Logprobs of responses, whether or not all logits fit at once."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from rlhf.model import scoring
from rlhf.model.load import BaseSpec, load_base
from rlhf.model.scoring import logprobs, response_states, sequences, token_logprobs_entropies


@pytest.mark.parametrize("architecture", ["llama", "phi", "gemma2"])
def test_logits_that_are_never_held_at_once_give_the_same(make_base, monkeypatch, architecture):
    base: Any = load_base(BaseSpec(str(make_base(architecture)), storage="none"))
    batch = sequences([[5, 6, 7], [8]], [[9, 4], [3, 5, 6, 2]], pad_id=0, device=base.device)
    found = []
    for most in (10**9, 0):
        monkeypatch.setattr(scoring, "_MANY_LOGITS", most)
        monkeypatch.setattr(scoring, "_CHUNK", 7)
        states = response_states(base, batch)
        taken, entropy = token_logprobs_entropies(base, states, batch, temperature=0.7)
        assert torch.equal(taken, logprobs(base, batch, temperature=0.7))
        assert not taken[~batch.response_mask].any()
        base.zero_grad()
        (taken * torch.arange(8).reshape(2, 4)).sum().backward()
        weight = base.get_input_embeddings().weight
        found.append((taken.detach(), entropy.detach(), weight.grad.clone()))
    for whole, chunked in zip(*found, strict=True):
        assert whole.abs().sum() > 0
        assert_close(whole, chunked, rtol=1e-3, atol=1e-4)
