"""The one path to a model: what every stage relies on without looking."""

from typing import Any

import pytest
import torch
from bitsandbytes.nn.modules import Linear4bit
from peft import LoraConfig, PeftModel, get_peft_model
from torch.testing import assert_close

from rlhf.chat import encode_prompt
from rlhf.errors import ModelError
from rlhf.model.adapters import copy_adapter
from rlhf.model.engine.generate import Sampling, sample_ids
from rlhf.model.heads import ScoreHead, attach_score_head, head_size, load_head, save_head
from rlhf.model.load import BaseSpec, compute_dtype, fingerprint, load_base, load_tokenizer
from rlhf.model.roles import ADAPTER_OF, Role, acting_as, only_trainable_train, role_parameters
from rlhf.model.scoring import hidden_states, logprobs, response_logits, scores, sequences, values
from rlhf.records import Prompt
from tests import tiny

pytestmark = pytest.mark.integration
CPU = torch.device("cpu")
PROMPTS = [[5, 6, 7, 8], [9, 10]]
RESPONSES = [[11, 12], [13, 14, 15]]


def batch():
    return sequences(PROMPTS, RESPONSES, pad_id=2, device=CPU)


@pytest.fixture
def four_roles(base) -> PeftModel:
    """A base with an adapter in every role, all different."""
    torch.manual_seed(0)
    lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(load_base(BaseSpec(str(base))), lora)
    assert isinstance(model, PeftModel)
    for name in ("ref", "reward", "value"):
        model.add_adapter(name, lora)
    only_trainable_train(model)
    return model


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_response_logits_are_those_of_the_whole_model(architecture, make_base):
    model: Any = load_base(BaseSpec(str(make_base(architecture))))
    with torch.no_grad():
        ours = response_logits(model, batch())
        for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
            whole = model(torch.tensor([prompt + response])).logits[0].float()
            want = whole[len(prompt) - 1 : -1]
            assert_close(ours[row, : len(response)], want, rtol=1e-3, atol=1e-4)  # padding


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_a_score_is_read_at_the_last_token_and_the_model_and_the_trunk_agree(
    architecture, make_base
):
    model: Any = load_base(BaseSpec(str(make_base(architecture))))
    size = head_size(model)
    head = attach_score_head(model)
    assert head.in_features == size
    with torch.no_grad():
        ours = scores(model, head, batch())
        for row, (prompt, response) in enumerate(zip(PROMPTS, RESPONSES, strict=True)):
            want = model(torch.tensor([prompt + response])).logits[0, -1, 0]
            assert_close(ours[row], want, rtol=1e-3, atol=1e-4)  # padding
        per_token = values(model, head, batch())
        whole = head(hidden_states(model, torch.tensor([PROMPTS[1] + RESPONSES[1]])))[0, 1:-1, 0]
        assert_close(per_token[1], whole, rtol=1e-3, atol=1e-4)


def test_every_4_bit_layer_keeps_its_gradients_after_an_evaluation(base):
    def gradients(*, evaluated: bool) -> torch.Tensor:
        torch.manual_seed(0)
        lora = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
        model: Any = get_peft_model(load_base(BaseSpec(str(base))), lora)
        layers = [m for m in model.modules() if isinstance(m, Linear4bit)]
        assert layers
        # on a CPU without AVX512-BF16 only the flag tells
        assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
        if evaluated:
            sample_ids(model, load_tokenizer(str(base)), PROMPTS, Sampling(4, seed=0))
        model.train()
        logprobs(model, batch()).sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])

    fresh, after = gradients(evaluated=False), gradients(evaluated=True)
    assert torch.cosine_similarity(fresh, after, dim=0) > 0.999


def test_acting_is_what_peft_does_and_leaves_what_trains_alone(four_roles):
    def train() -> set[str]:
        return {n.split(".")[-2] for n, p in four_roles.named_parameters() if p.requires_grad}

    roles: tuple[Role, ...] = ("reference", "value", "reward")
    for role in roles:
        name = ADAPTER_OF[role]
        with torch.no_grad(), acting_as(four_roles, role):
            ours = response_logits(four_roles, batch())
            assert train() == {"default", "value"}
        assert four_roles.active_adapters == ["default"]
        four_roles.set_adapter(name)
        with torch.no_grad():
            assert torch.equal(ours, response_logits(four_roles, batch()))
        four_roles.set_adapter("default")
        only_trainable_train(four_roles)


def test_pefts_own_switch_freezes_the_adapter_that_it_leaves(four_roles):
    four_roles.set_adapter("ref")
    four_roles.set_adapter("default")
    assert not any(p.requires_grad for p in role_parameters(four_roles, "value"))


def test_each_role_gets_its_own_gradient_and_an_exception_ends_the_role(four_roles):
    with pytest.raises(ZeroDivisionError), acting_as(four_roles, "value"):
        raise ZeroDivisionError
    assert four_roles.active_adapters == ["default"]
    with acting_as(four_roles, "value"):
        response_logits(four_roles, batch()).sum().backward()
    assert all(p.grad is not None for p in role_parameters(four_roles, "value"))
    assert all(p.grad is None for p in role_parameters(four_roles, "policy"))


def test_an_adapter_that_is_added_later_is_switched_too(four_roles):
    with acting_as(four_roles, "reference"):
        pass
    copy_adapter(four_roles, "reward", "reward_1")
    with torch.no_grad(), acting_as(four_roles, "reward", 1):
        second = response_logits(four_roles, batch())
    with torch.no_grad(), acting_as(four_roles, "reward"):
        assert torch.equal(second, response_logits(four_roles, batch()))


def test_a_head_is_fp32_and_comes_back_bit_for_bit(tmp_path):
    head = ScoreHead(8)
    save_head(head, tmp_path / "head.safetensors")
    again = load_head(tmp_path / "head.safetensors")
    x = torch.randn(3, 8, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert again(x).dtype == torch.float32
        assert torch.equal(again(x), head(x))
    with pytest.raises(ModelError, match="no such score head"):
        load_head(tmp_path / "none")


def test_sampling_is_by_its_seed_and_leaves_the_generator_and_the_mode_alone(base):
    model, tokenizer = load_base(BaseSpec(str(base))), load_tokenizer(str(base))
    prompts = [encode_prompt(tokenizer, Prompt.from_text(t)) for t in ("hi", "where is it?", "a")]
    state = torch.random.get_rng_state()
    model.train()
    seen: list[int] = []
    one = sample_ids(model, tokenizer, prompts, Sampling(6, seed=1, batch_size=2), seen.append)
    assert one == sample_ids(model, tokenizer, prompts, Sampling(6, seed=1, batch_size=2))
    assert one != sample_ids(model, tokenizer, prompts, Sampling(6, seed=2, batch_size=2))
    assert torch.equal(state, torch.random.get_rng_state())
    assert model.training
    assert seen == [2, 1]
    assert all(1 <= len(row) <= 6 for row in one)


def test_greedy_decoding_does_not_depend_on_who_shares_the_batch(base):
    model, tokenizer = load_base(BaseSpec(str(base))), load_tokenizer(str(base))
    prompts = [encode_prompt(tokenizer, Prompt.from_text(t)) for t in ("hi", "where is my parcel?")]
    together = sample_ids(model, tokenizer, prompts, Sampling(6, 0.0))
    alone = [sample_ids(model, tokenizer, [p], Sampling(6, 0.0))[0] for p in prompts]
    assert together == alone


def test_a_fingerprint_is_of_the_weights_and_not_of_the_folder(make_base, tmp_path):
    one, other = make_base(), make_base(seed=1)
    tiny.save_base(tmp_path / "moved")
    assert fingerprint(BaseSpec(str(one))) == fingerprint(BaseSpec(str(tmp_path / "moved")))
    assert fingerprint(BaseSpec(str(one))) != fingerprint(BaseSpec(str(other)))


@pytest.mark.parametrize("storage", ["none", "int8", "nf4"])
def test_a_base_is_stored_as_asked_and_generates(storage, base):
    model = load_base(BaseSpec(str(base), storage=storage))
    layer = type(model.get_submodule("model.layers.0.mlp.up_proj")).__name__
    assert layer == {"none": "Linear", "int8": "Linear8bitLt", "nf4": "Linear4bit"}[storage]
    assert type(model.get_output_embeddings()).__name__ == "Linear"
    assert model.dtype == compute_dtype()
    [ids] = sample_ids(model, load_tokenizer(str(base)), [[5, 6]], Sampling(3, seed=0))
    assert ids


def test_a_folder_without_a_model_is_one_sentence(tmp_path):
    for load in (load_tokenizer, lambda path: load_base(BaseSpec(path)),
                 lambda path: fingerprint(BaseSpec(path))):  # fmt: skip
        with pytest.raises(ModelError, match="no model that can be loaded") as error:
            load(str(tmp_path))
        assert "\n" not in str(error.value)
