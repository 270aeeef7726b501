from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.testing import assert_close

from rlhf.config import LoraConfig, ModelConfig, Tuning
from rlhf.errors import ModelError
from rlhf.model import adapters
from rlhf.model.adapters import (
    ALIGNABLE,
    copy_adapter,
    load_adapter,
    load_weights,
    new_adapter,
    orthogonality,
    refuse,
    save_adapter,
    schedule_ranks,
    trains_with_dropout,
    unrounded,
)
from rlhf.model.load import BaseSpec, load_base

ADAPTERS = [t for t in get_args(Tuning) if t != "full"]
SECOND = ["lora", "qlora", "dora", "rslora", "ia3"]
IDS = torch.arange(24).reshape(2, 12) + 5


def build(base: Path, tuning: Tuning) -> tuple[PeftModel, BaseSpec]:
    config = ModelConfig(
        base=str(base), tuning=tuning, lora=LoraConfig(rank=4), num_virtual_tokens=3
    )
    spec = BaseSpec.of(config)
    return new_adapter(load_base(spec), config), spec


def shaken(model: PeftModel) -> PeftModel:
    """Adapter weights away from where they start, which for most methods is no change at all."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model.eval()


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits[:, -IDS.shape[1] :]


@pytest.mark.parametrize("tuning", ADAPTERS)
def test_every_method_comes_back_as_it_was_saved(tuning: Tuning, base: Path, tmp_path: Path):
    torch.manual_seed(0)
    model, spec = build(base, tuning)
    before = logits(shaken(model))
    assert (before - logits(load_base(spec))).abs().max() > 1e-4
    save_adapter(model, tmp_path)
    assert_close(logits(load_adapter(load_base(spec), tmp_path)), before)


@pytest.mark.parametrize("tuning", ADAPTERS)
def test_only_the_adapter_trains_and_it_is_fp32(tuning: Tuning, base: Path):
    model, _ = build(base, tuning)
    names = {n for n, p in model.named_parameters() if p.requires_grad}
    assert names
    assert all(".default" in name for name in names)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_adapters_are_fp32_on_any_base(dtype, base: Path, tmp_path: Path):
    config = ModelConfig(base=str(base), dtype=dtype, tuning="qlora")
    model = new_adapter(load_base(BaseSpec.of(config)), config)
    save_adapter(model, tmp_path)
    again = load_adapter(load_base(BaseSpec.of(config)), tmp_path)
    for one in (model, again):
        assert {p.dtype for p in one.parameters() if p.requires_grad} == {torch.float32}


@pytest.mark.parametrize("tuning", SECOND)
def test_a_copy_answers_like_its_source_and_is_frozen(tuning: Tuning, base: Path):
    model, _ = build(base, tuning)
    before = logits(shaken(model))
    copy_adapter(model, "default", "ref")
    assert [n for n, p in model.named_parameters() if ".ref" in n and p.requires_grad] == []
    shaken(model)
    assert (logits(model) - before).abs().max() > 1e-4
    model.set_adapter("ref")
    assert_close(logits(model), before)


def test_a_copy_that_is_there_is_overwritten(base: Path):
    model, _ = build(base, "lora")
    copy_adapter(model, "default", "ref")
    shaken(model)
    copy_adapter(model, "default", "ref")
    after = logits(model)
    model.set_adapter("ref")
    assert_close(logits(model), after)


def test_an_adapter_of_any_name_is_saved_at_the_root_of_its_folder(base: Path, tmp_path: Path):
    model, _ = build(base, "lora")
    copy_adapter(model, "default", "value")
    save_adapter(model, tmp_path, "value")
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "adapter_config.json",
        adapters.WEIGHTS,
    ]
    assert not any("value" in key for key in load_file(tmp_path / adapters.WEIGHTS))


def test_a_second_adapter_is_loaded_beside_the_first(base: Path, tmp_path: Path):
    model, spec = build(base, "qlora")
    save_adapter(shaken(model), tmp_path)
    both = load_adapter(load_adapter(load_base(spec), tmp_path), tmp_path, "ref", trainable=False)
    assert set(both.peft_config) == {"default", "ref"}
    assert both.active_adapter == "default"
    assert [n for n, p in both.named_parameters() if ".ref" in n and p.requires_grad] == []


def test_an_adapter_of_another_architecture_is_refused(make_base, tmp_path: Path):
    model, _ = build(make_base("gpt2"), "lora")
    save_adapter(model, tmp_path)
    with pytest.raises(ModelError, match="does not fit the model"):
        load_adapter(load_base(BaseSpec(str(make_base()), storage="none")), tmp_path)


def test_an_adapter_with_other_tensors_than_its_own_is_refused_by_name(make_base, tmp_path: Path):
    model, spec = build(make_base(), "lora")
    save_adapter(model, tmp_path)
    state = load_file(tmp_path / adapters.WEIGHTS)
    first = min(state)
    adapters.save_file(
        {name.replace(first, "odd"): t for name, t in state.items()}, tmp_path / adapters.WEIGHTS
    )
    other = rf"1 missing \({first}\), 1 unexpected \(odd\)"
    with pytest.raises(ModelError, match=other):
        load_adapter(load_base(spec), tmp_path)
    with pytest.raises(ModelError, match=other):
        load_weights(model, tmp_path, "default")


def test_a_folder_without_an_adapter_is_refused(base: Path, tmp_path: Path):
    with pytest.raises(ModelError, match=r"no adapter_config\.json"):
        load_adapter(load_base(BaseSpec(str(base))), tmp_path)


def test_ia3_says_which_architectures_it_does_not_know(make_base):
    with pytest.raises(ModelError, match="tuning: lora, which fits every architecture"):
        build(make_base("phi3"), "ia3")


def test_rounding_inside_the_block_is_undone(base: Path):
    model, _ = build(base, "qlora")
    before = {n: p.clone() for n, p in model.named_parameters() if p.requires_grad}
    with unrounded(model):
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.to(torch.bfloat16)
    after = dict(model.named_parameters())
    for name, value in before.items():
        assert_close(after[name], value, rtol=0, atol=0)


def test_each_stage_takes_a_method_or_says_why_not():
    for stage, able in ALIGNABLE.items():
        for tuning in get_args(Tuning):
            if tuning in able:
                refuse(stage, tuning)
            else:
                with pytest.raises(ModelError, match=rf"^{stage} cannot train tuning: {tuning} \("):
                    refuse(stage, tuning)


def test_orthogonality_is_the_penalty_that_peft_adds_to_an_output_nobody_reads(base: Path):
    model, _ = build(base, "adalora")
    shaken(model).train()
    with torch.no_grad():
        with_penalty = model(input_ids=IDS, labels=IDS).loss
        without = model.get_base_model()(input_ids=IDS, labels=IDS).loss
    penalty = orthogonality(model)
    assert penalty is not None
    assert penalty.requires_grad
    assert penalty > 0.01
    assert_close(penalty.detach(), with_penalty - without, rtol=1e-4, atol=1e-6)


def test_other_methods_have_no_such_penalty(base: Path):
    assert orthogonality(build(base, "lora")[0]) is None


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 1000])
def test_adalora_gets_a_schedule_that_peft_accepts(base: Path, steps: int):
    model, _ = build(base, "adalora")
    schedule_ranks(model, steps)
    config: Any = model.peft_config["default"]
    assert config.total_step == steps
    assert config.tinit <= steps - config.tfinal


def test_dropout_is_what_the_adapter_was_made_with(base: Path):
    for dropout in (0.0, 0.1):
        config = ModelConfig(base=str(base), lora=LoraConfig(rank=2, dropout=dropout))
        model = new_adapter(load_base(BaseSpec.of(config)), config)
        assert trains_with_dropout(model) == (dropout > 0)
    assert not trains_with_dropout(load_base(BaseSpec(str(base))))
