"""One base in memory under several policies, each of which stays what it is."""

import pytest
import torch
from peft import PeftModel
from torch.testing import assert_close

from rlhf.config import ModelConfig
from rlhf.model.adapters import new_adapter, save_adapter
from rlhf.model.bases import Bases
from rlhf.model.load import load_base
from rlhf.model.start import Start

IDS = torch.arange(5, 17)[None]


@pytest.fixture
def bare(base) -> Start:
    return Start.of_config(ModelConfig(base=str(base), tuning="lora"))


def trained(start: Start, folder, seed: int) -> Start:
    model = new_adapter(load_base(start.spec), ModelConfig(base=start.spec.path, tuning="lora"))
    draw = torch.Generator().manual_seed(seed)
    for name, tensor in model.named_parameters():
        if "lora_B" in name:
            tensor.data = torch.randn(tensor.shape, generator=draw) / 10
    save_adapter(model, folder)
    return Start(start.spec, "lora", start.tokenizer, start.fingerprint, folder)


def logits(actor):
    with actor.acting() as model:
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("order", ["base first", "base last"])
def test_the_bare_base_stays_bare_when_adapters_are_put_on_it(bare, tmp_path, order):
    alone = logits(Bases().actor(bare))
    starts = [trained(bare, tmp_path / "one", 1), trained(bare, tmp_path / "two", 2)]
    starts.insert(0 if order == "base first" else 2, bare)
    bases = Bases()
    actors = [bases.actor(start) for start in starts]
    assert len({id(actor.model) for actor in actors}) == 1
    assert all(isinstance(actor.model, PeftModel) for actor in actors)
    found = [logits(actor) for actor in actors]
    again = [logits(actor) for actor in reversed(actors)][::-1]
    assert_close(found, again)
    where = starts.index(bare)
    assert_close(found[where], alone)
    for start, one in zip(starts, found, strict=True):
        assert_close(one, logits(Bases().actor(start)))
    others = [one for index, one in enumerate(found) if index != where]
    assert all((one - alone).abs().max() > 0.01 for one in others)
    assert (others[0] - others[1]).abs().max() > 0.01
