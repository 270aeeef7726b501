"""What is planned for is what is stored: bytes of real tensors against the arithmetic."""

from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit, Params4bit
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.cache_utils import DynamicCache

import rlhf.model.engine.cache
from rlhf.config import LoraConfig, ModelConfig
from rlhf.errors import ModelError
from rlhf.memory import weights
from rlhf.memory.shapes import FAMILIES, KNOWN, Shape, read_shape
from rlhf.model.adapters import copy_adapter, new_adapter
from rlhf.model.engine.cache import roomy_cache
from rlhf.model.engine.generate import Sampling, sample_ids
from rlhf.model.heads import ScoreHead
from rlhf.model.load import BaseSpec, load_base, load_tokenizer
from tests.live import stored


@pytest.mark.parametrize("storage", ["nf4", "int8", "none"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_base_takes_the_bytes_that_are_planned(make_base, family: str, storage: Any):
    base = str(make_base(family))
    shape = read_shape(base)
    if shape.experts and storage == "int8":
        with pytest.raises(ModelError, match="cannot be stored as int8"):
            load_base(BaseSpec(base, storage=storage))
        return
    planned = weights.trunk_bytes(shape, storage, 4) + weights.rest_bytes(shape, 4)
    model = load_base(BaseSpec(base, storage=storage))
    assert stored(model) == planned + shape.embeddings * 4


@pytest.mark.parametrize(
    "tuning", ["qlora", "dora", "rslora", "adalora", "ia3", "prefix", "prompt", "p_tuning"]
)
@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "phi3"])
def test_an_adapter_has_the_tensors_that_are_planned(make_base, family: str, tuning: Any):
    base = str(make_base(family))
    config = ModelConfig(base=base, tuning=tuning, lora=LoraConfig(rank=3))
    storage = "nf4" if tuning == "qlora" else "none"
    model = new_adapter(load_base(BaseSpec(base, storage=storage)), config)
    sizes = [p.numel() for p in model.parameters() if p.requires_grad]
    assert sorted(sizes) == sorted(weights.adapter_tensors(read_shape(base), config))


def test_some_layers_only(base):
    config = ModelConfig(base=str(base), lora=LoraConfig(rank=4, target_modules=["q_proj"]))
    model = new_adapter(load_base(BaseSpec(str(base))), config)
    sizes = [p.numel() for p in model.parameters() if p.requires_grad]
    assert sizes == weights.adapter_tensors(read_shape(str(base)), config)


def four_roles(base: str, config: ModelConfig):
    model = new_adapter(load_base(BaseSpec(base)), config)
    for name in ("ref", "reward", "value"):
        copy_adapter(model, "default", name, trainable=name == "value")
    return model, [ScoreHead(64), ScoreHead(64)]


def test_four_adapters_on_one_4_bit_base_with_two_heads_take_what_is_planned(base):
    config = ModelConfig(base=str(base), lora=LoraConfig(rank=5))
    shape = read_shape(str(base))
    model, heads = four_roles(str(base), config)
    planned = (
        weights.trunk_bytes(shape, "nf4", 4)
        + weights.rest_bytes(shape, 4)
        + shape.embeddings * 4
        + 4 * weights.adapter_bytes(shape, config)
        + 2 * 4 * sum(weights.head_tensors(shape))
    )
    assert stored(model, *heads) == planned


def states(optimizer: torch.optim.Optimizer) -> int:
    """Bytes of what an optimizer keeps for itself, without tables that all its tensors share."""
    kept = [
        tensor
        for state in optimizer.state.values()
        for name, tensor in state.items()
        if isinstance(tensor, Tensor) and not name.startswith("qmap")
    ]
    return sum(tensor.untyped_storage().nbytes() for tensor in kept)


@pytest.mark.parametrize("optim", ["adamw_torch", "adamw_torch_fused", "adamw_bnb_8bit", "sgd"])
def test_an_optimizer_keeps_what_is_planned_after_a_step(optim: str):
    from transformers import Trainer, TrainingArguments

    sizes = [7, 4095, 4096, 70_000]
    tensors = [nn.Parameter(torch.randn(size)) for size in sizes]
    kind, options = Trainer.get_optimizer_cls_and_kwargs(
        TrainingArguments("unused", optim=optim, use_cpu=True, report_to=[])
    )
    optimizer = kind(tensors, **options)
    for tensor in tensors:
        tensor.grad = torch.randn_like(tensor)
    optimizer.step()
    assert states(optimizer) == weights.optimizer_bytes(sizes, optim)
    assert weights.optimizer_bytes(sizes, f"paged_{optim}") == weights.optimizer_bytes(sizes, optim)
    assert weights.optimizer_bytes(sizes, "adafactor") is None


@pytest.mark.parametrize("drawn", [9, 65, 66, 130, 131])
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3", "gemma2"])
def test_the_cache_of_sampling_takes_what_is_planned(make_base, monkeypatch, family, drawn):
    base = str(make_base(family))
    model, tokenizer = load_base(BaseSpec(base)), load_tokenizer(base)
    caches: list[DynamicCache] = []

    def seen(of: Any) -> DynamicCache:
        caches.append(roomy_cache(of))
        return caches[-1]

    monkeypatch.setattr("rlhf.model.engine.generate.roomy_cache", seen)
    monkeypatch.setattr("rlhf.model.engine.generate.stop_token_ids", lambda _: (319,))
    # longer than the window of those that slide
    sample_ids(model, tokenizer, [[5] * 70] * 3, Sampling(max_new_tokens=drawn, seed=1))
    assert len(caches) == 1
    found = 0
    for layer in cast("Any", caches[0].layers):
        # a slice of the keys keeps the whole of them alive for a step; what is meant is the slice
        held = (layer.keys, layer.values) if layer.is_sliding else layer._buffers
        found += sum(tensor.nbytes for tensor in held)
    # the last token is drawn and never read
    assert found == weights.cache_bytes(read_shape(base), 3, 70, drawn - 1, 4)
    assert rlhf.model.engine.cache._ROOM == weights.CACHE_ROOM


@pytest.mark.parametrize("base", KNOWN)
def test_a_known_base_of_full_size_holds_what_is_planned(base: str):
    """Without its weights: modules of the real shape, on the meta device."""
    shape = read_shape(base)
    with torch.device("meta"):
        described = dict(KNOWN[base])
        config = AutoConfig.for_model(described.pop("model_type"), **described)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    assert shape.parameters == sum(p.numel() for p in model.parameters())
    linears = [m for n, m in model.named_modules() if type(m) is nn.Linear and n != "lm_head"]
    in_linears = sum(m.weight.numel() for m in linears)
    assert shape.in_linears == in_linears
    # half a byte, a byte for 64 numbers, four for 64 * 256, and two tables and a mean per layer
    packed = in_linears // 2 + in_linears // 64 + in_linears // 2**14 * 4
    assert weights.trunk_bytes(shape, "nf4", 2) == packed + len(linears) * (272 + 1) * 4
    names = {n.rpartition(".")[2]: m for n, m in model.model.layers[0].named_modules()}
    for linear in shape.linears:
        module = names[linear.name]
        assert (module.in_features, module.out_features) == (linear.inputs, linear.outputs)


def test_llama_8b_by_hand():
    """The figures of the note that the design rests on: 5.70 GB of base, .168 GB an adapter."""
    shape = read_shape("meta-llama/Llama-3.1-8B")
    assert shape.parameters == 8_030_261_248
    base = weights.trunk_bytes(shape, "nf4", 2) + weights.rest_bytes(shape, 2)
    assert (base + shape.embeddings * 2) / 1e9 == pytest.approx(5.70, abs=0.005)
    assert weights.adapter_bytes(shape, ModelConfig(base="x")) == 41_943_040 * 4
    # 32 layers, keys and values, 8 heads of 128, 2 bytes: 131 kB for each token, and room for 64
    assert weights.cache_bytes(shape, 1, 1, 0, 2) == 65 * 131_072


sizes = st.integers(1, 40).map(lambda n: n * 64)


@given(inputs=sizes, outputs=sizes)
def test_a_layer_in_4_bits_takes_what_is_planned(inputs: int, outputs: int):
    from rlhf.memory.shapes import Linear

    layer = Linear4bit(inputs, outputs, bias=False, quant_type="nf4")
    weight = layer.weight
    assert isinstance(weight, Params4bit)
    weight.data = torch.randn(outputs, inputs)
    layer = layer.to("cpu")
    assert stored(layer) == weights.weight_bytes(Linear("x", inputs, outputs), "nf4", 4)


def test_a_model_of_another_kind_is_refused_and_those_that_can_be_planned_are_named():
    with pytest.raises(ModelError, match="no memory plan for model_type 'bert'; it is one of llam"):
        Shape.of({"model_type": "bert"}, "x")
    with pytest.raises(ModelError, match="`vocab_size` is missing"):
        Shape.of({"model_type": "llama", "num_attention_heads": 1, "num_hidden_layers": 1}, "x")


def test_a_config_json_is_enough(base, tmp_path):
    (tmp_path / "config.json").write_text((base / "config.json").read_text())
    assert read_shape(str(tmp_path)) == read_shape(str(tmp_path / "config.json"))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="not a config"):
        read_shape(str(tmp_path))
    with pytest.raises(ModelError, match="no such folder, and no config"):
        read_shape("nobody/nothing")


def test_tied_embeddings_are_stored_once():
    shape = read_shape("Qwen/Qwen3-0.6B-Base")
    assert shape.tied
    assert replace(shape, tied=False).embeddings == 2 * shape.embeddings == 2 * 151936 * 1024
