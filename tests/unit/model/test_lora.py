"""Our short way through a LoRA layer against PEFT's own."""

from typing import Any

import pytest
import torch
from peft.tuners.lora.bnb import Linear4bit
from peft.tuners.lora.layer import Linear
from torch.testing import assert_close

from rlhf.config import ModelConfig, Tuning, build
from rlhf.model.adapters import copy_adapter, new_adapter
from rlhf.model.load import load_base
from rlhf.model.start import Start

IDS = torch.arange(20, 32).view(2, 6)


def adapted(base, tuning: Tuning, **lora: Any) -> Any:
    config = build(ModelConfig, {"base": str(base), "tuning": tuning, "lora": {"rank": 4, **lora}})
    model = new_adapter(load_base(Start.of_config(config).spec), config)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2, generator=generator)
    return model


def as_peft_does(model: Any) -> None:
    """Take our short way out again."""
    for module in model.modules():
        if isinstance(module, (Linear, Linear4bit)):
            module.__class__ = type(module).__mro__[1]


def said(model: Any) -> tuple[torch.Tensor, list[torch.Tensor]]:
    logits = model(input_ids=IDS).logits
    logits.square().mean().backward()
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    return logits.detach(), gradients


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("tuning", ["lora", "qlora", "dora", "rslora"])
def test_the_short_way_gives_what_peft_gives(make_base, architecture, tuning):
    model = adapted(make_base(architecture), tuning)
    ours, of_ours = said(model)
    as_peft_does(model)
    theirs, of_theirs = said(model)
    assert_close(ours, theirs)
    assert len(of_ours) == len(of_theirs) > 0
    for mine, other in zip(of_ours, of_theirs, strict=True):
        assert_close(mine, other, rtol=1e-4, atol=1e-6)  # another order of summation


def test_it_is_taken_where_it_can_be(make_base, monkeypatch):
    model = adapted(make_base(), "qlora")
    copy_adapter(model, "default", "ref")
    monkeypatch.setattr(Linear4bit, "forward", lambda *_, **__: pytest.fail("PEFT's way"))
    said(model)
    model.set_adapter("ref")
    with torch.no_grad():
        model(input_ids=IDS)


def test_without_an_adapter_the_base_speaks(make_base):
    model = adapted(make_base(), "lora")
    with torch.no_grad(), model.disable_adapter():
        bare = model(input_ids=IDS).logits
        want = load_base(Start.of_config(ModelConfig(base=str(make_base()), tuning="lora")).spec)
        assert torch.equal(bare, want(input_ids=IDS).logits)
    with torch.no_grad():
        assert not torch.allclose(bare, model(input_ids=IDS).logits)


def test_dropout_falls_on_the_update_alone(make_base):
    model = adapted(make_base(), "lora", dropout=0.5)
    torch.manual_seed(0)
    ours = model.train()(input_ids=IDS).logits
    as_peft_does(model)
    torch.manual_seed(0)
    assert_close(ours, model(input_ids=IDS).logits)
