"""Experts in 4 bits: as many of the weights as is said, the right numbers, the right gradients."""

import copy
import math
from typing import Any, cast

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn.modules import Linear4bit
from bitsandbytes.nn.parametrize import Bnb4bitParametrization
from torch import Tensor, nn
from torch.testing import assert_close

from rlhf.config import LoraConfig, ModelConfig
from rlhf.errors import ModelError
from rlhf.model.adapters import new_adapter
from rlhf.model.engine.generate import Sampling, sample_ids
from rlhf.model.experts import experts_of, storage_line, stored_numbers
from rlhf.model.load import BaseSpec, load_base, load_tokenizer

KINDS = ("mixtral", "qwen3_moe", "gpt_oss")
IDS = torch.arange(24).reshape(2, 12) + 5


def adapted(model: Any, base: str) -> Any:
    """A model with an adapter that does something."""
    torch.manual_seed(1)
    model = new_adapter(model, ModelConfig(base=base, lora=LoraConfig(rank=4)))
    for name, p in model.named_parameters():
        if "lora_B" in name:
            p.data.normal_(std=0.1)
    return model


def gradients(model: Any) -> dict[str, Tensor]:
    model.zero_grad()
    model(input_ids=IDS, labels=IDS).loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.requires_grad}


def dequantized(base: str) -> Any:
    """The same base in fp32, whose numbers are those that 4 bits stand for."""
    model, whole = load_base(BaseSpec(base)), load_base(BaseSpec(base, storage="none"))
    for name, module in model.named_modules():
        if isinstance(module, Linear4bit):
            weight: Any = module.weight
            numbers = dequantize_4bit(weight.data, weight.quant_state)
            cast("nn.Linear", whole.get_submodule(name)).weight.data.copy_(numbers)
    for module, name in experts_of(whole):
        [path] = [n for n, m in whole.named_modules() if m is module]
        setattr(module, name, torch.nn.Parameter(getattr(model.get_submodule(path), name)))
    return whole.requires_grad_(requires_grad=False)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_embedding_is_in_4_bits_and_the_router_is_whole(make_base, kind, capsys):
    base = str(make_base(kind))
    model: Any = load_base(BaseSpec(base))
    found, whole = stored_numbers(model), load_base(BaseSpec(base, storage="none"))
    ends = 2 * model.get_input_embeddings().weight.numel()
    assert found.total() == sum(p.numel() for p in whole.parameters()) - ends
    assert found["nf4"] / found.total() >= 0.95
    routers = [p for n, p in model.named_parameters() if "gate.weight" in n or "router.weight" in n]
    assert [p.dtype for p in routers] == [torch.float32] * 2
    share = f"{found['nf4'] / found.total():.1%} of those beside embeddings in nf4"
    assert capsys.readouterr().err.count(share) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_dequantized_model_and_sampling_changes_nothing(make_base, kind):
    base = str(make_base(kind))
    model: Any = adapted(load_base(BaseSpec(base)), base)
    first = gradients(model.train())
    oracle = gradients(adapted(dequantized(base), base).train())
    assert first.keys() == oracle.keys()
    assert max(float(g.abs().max()) for g in first.values()) > 1e-3
    for name, gradient in first.items():
        assert_close(gradient, oracle[name], rtol=1e-5, atol=1e-5)
    tokenizer = load_tokenizer(base)
    sample_ids(model.eval(), tokenizer, [[5, 6, 7]] * 2, Sampling(max_new_tokens=4, seed=1))
    model.gradient_checkpointing_enable()
    model.enable_input_require_grads()
    for name, gradient in gradients(model.train()).items():
        assert_close(gradient, first[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_no_dequantized_expert_is_kept_for_the_backward_pass(make_base, kind):
    base = str(make_base(kind))
    model: Any = adapted(load_base(BaseSpec(base)), base).train()
    experts = [module for module in model.modules() if isinstance(module, Bnb4bitParametrization)]
    largest = max(math.prod(cast("torch.Size", x.quant_state.shape)) for x in experts)
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=IDS, labels=IDS)
    assert max(tensor.untyped_storage().nbytes() for tensor in kept) < 4 * largest
    assert torch.nn.utils.parametrize._cache == {}


def test_a_copy_has_experts_of_its_own(make_base):
    model: Any = load_base(BaseSpec(str(make_base("mixtral"))))
    with torch.no_grad():
        before = model(IDS).logits
        other = copy.deepcopy(model)
        for module in other.modules():
            if isinstance(module, torch.nn.utils.parametrize.ParametrizationList):
                module.original.zero_()
        assert torch.equal(model(IDS).logits, before)
        assert not torch.equal(other(IDS).logits, before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tuning", ["qlora", "lora", "ia3"])
def test_adapters_change_the_attention_and_neither_router_nor_experts(make_base, kind, tuning):
    base = str(make_base(kind))
    config = ModelConfig(base=base, tuning=tuning, lora=LoraConfig(rank=4))
    model = new_adapter(load_base(BaseSpec.of(config)), config)
    trained = [n for n, p in model.named_parameters() if p.requires_grad]
    assert trained
    assert all("self_attn" in name for name in trained)


def test_what_cannot_be_stored_or_adapted_is_refused_in_words(make_base):
    base = str(make_base("mixtral"))
    with pytest.raises(ModelError, match=r"experts of a Mixtral.* cannot be stored as int8"):
        load_base(BaseSpec(base, storage="int8"))
    config = ModelConfig(base=base, lora=LoraConfig(target_modules=["q_proj", "w1", "w2", "w3"]))
    with pytest.raises(ModelError, match="w1, w2, w3 are in the experts"):
        new_adapter(load_base(BaseSpec(base)), config)


def test_a_base_that_is_mostly_passed_by_is_not_called_quantized(make_base):
    model = load_base(BaseSpec(str(make_base()), storage="none"))
    with pytest.raises(ModelError, match="only 0% of the weights of a LlamaForCausalLM"):
        storage_line(model, "nf4", "x")
