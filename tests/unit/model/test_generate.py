import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rlhf.chat import encode_prompt
from rlhf.config import ModelConfig
from rlhf.model.adapters import new_adapter
from rlhf.model.engine.generate import Sampling, draw, noise, sample_ids, widest_float
from rlhf.model.load import load_base, load_tokenizer
from rlhf.model.start import Start
from rlhf.records import Prompt


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("tuning", ["lora", "prefix", "prompt", "p_tuning"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_response_does_not_depend_on_who_shares_the_batch(
    make_base, architecture, tuning, temperature
):
    base = make_base(architecture)
    config = ModelConfig(base=str(base), tuning=tuning, quantization="none")
    model = new_adapter(load_base(Start.of_config(config).spec), config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.3, generator=generator)
    tokenizer = load_tokenizer(str(base))
    prompts = [encode_prompt(tokenizer, Prompt.from_text("hello " * n)) for n in (9, 1, 4, 1)]
    told = []
    together = sample_ids(model, tokenizer, prompts, Sampling(10, temperature, 3), told.append)
    assert sum(told) == 4
    for number, prompt in enumerate(prompts):
        alone = Sampling(10, temperature, 3, first=number)
        assert [together[number]] == sample_ids(model, tokenizer, [prompt], alone)


LOGITS = hnp.arrays(np.float32, (3, 7), elements=st.floats(-5, 5, width=32))


@given(LOGITS, st.floats(0.2, 3))
def test_tokens_are_drawn_as_often_as_their_probability_says(logits, temperature):
    every = torch.linspace(0, 1, 1001, dtype=torch.float64)[:-1]
    for row in torch.tensor(logits):
        drawn = draw(row.expand(1000, -1), temperature, every)
        seen = drawn.bincount(minlength=7) / 1000
        assert (seen - (row / temperature).softmax(0)).abs().max() <= 1.01e-3


def test_a_token_without_probability_is_never_drawn():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, 0.0, -torch.inf]]).expand(3, -1)
    least = torch.finfo(torch.float64).tiny
    chances = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    assert draw(logits, 1.0, chances).tolist() == [1, 3, 3]
    assert draw(logits[:1], 1.0, torch.tensor([least], dtype=torch.float64)).tolist() == [1]


def test_noise_follows_from_the_seed_and_the_number_alone():
    whole = noise(5, Sampling(4, seed=7))
    assert torch.equal(noise(2, Sampling(4, seed=7, first=3)), whole[3:])
    assert torch.equal(noise(5, Sampling(2, seed=7)), whole[:, :2])
    assert not torch.equal(noise(5, Sampling(4, seed=8)), whole)
    assert 0 <= whole.min() < whole.max() < 1
    torch.manual_seed(0)
    free = noise(5, Sampling(4))
    assert not torch.equal(noise(5, Sampling(4)), free)


class _Wide(TorchDispatchMode):
    """Notes the devices on which 64-bit floats are made."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64:
                self.devices.add(tensor.device.type)
        return out


def test_tokens_are_drawn_on_a_device_that_has_no_64_bit_floats():
    with FakeTensorMode(), _Wide() as seen:
        logits, chance = torch.empty(2, 5, device="mps"), torch.empty(2, device="mps")
        tokens = draw(logits, 1.0, chance)
    assert tokens.device.type == "mps"
    assert seen.devices == {"cpu"}
    assert widest_float(torch.device("mps")) == torch.float32
    assert widest_float(torch.device("cuda")) == torch.float64
