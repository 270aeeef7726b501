import pytest
import torch

from rlhf.chat import encode_prompt
from rlhf.config import ModelConfig
from rlhf.model.adapters import new_adapter
from rlhf.model.generate import Sampling, sample_ids
from rlhf.model.load import load_base, load_tokenizer
from rlhf.model.start import Start
from rlhf.records import Prompt


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("tuning", ["lora", "prefix", "prompt", "p_tuning"])
def test_a_response_does_not_depend_on_who_shares_the_batch(make_base, architecture, tuning):
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
    together = sample_ids(model, tokenizer, prompts, Sampling(10, 0.0), told.append)
    assert together == [sample_ids(model, tokenizer, [p], Sampling(10, 0.0))[0] for p in prompts]
    assert sum(told) == 4
