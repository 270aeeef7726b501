"""Bases of real shapes with random weights: no hub, no file of weights, one layer at a time."""

import json
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.nn.modules import Linear4bit, Params4bit
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.quantizers.auto import AutoHfQuantizer

from rlhf.memory.shapes import KNOWN
from rlhf.model.load import BaseSpec, _quantization, compute_dtype, device, differentiable

SMALL: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 512, "hidden_size": 128, "intermediate_size": 448,
    "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2,
    "max_position_embeddings": 1024, "tie_word_embeddings": False,
}  # fmt: skip
"""For a machine without a GPU; activations outweigh the weights, as in a real run."""
SHAPES = {
    "small": SMALL,
    "qwen3-0.6b": KNOWN["Qwen/Qwen3-0.6B-Base"],
    "llama3-8b": KNOWN["meta-llama/Llama-3.1-8B"],
}
_WORDS = 256
_CHAT = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<eos>"
    "{% endgeneration %}{% else %}{{ m.content }} {% endif %}{% endfor %}"
)
_STD = 0.02


def write_base(folder: Path, shape: str) -> Path:
    """A folder that describes a base, with a tokenizer of a word per token and no weights.

    The file of weights holds one number, so that runs can tell that they share a base.
    """
    folder.mkdir(parents=True, exist_ok=True)
    words = {word: i for i, word in enumerate(["<pad>", "<eos>", *map(str, range(_WORDS))])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", chat_template=_CHAT
    ).save_pretrained(folder)
    described = dict(SHAPES[shape])
    ends = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 0}
    AutoConfig.for_model(described.pop("model_type"), **described, **ends).save_pretrained(folder)
    save_file({"none": torch.zeros(1)}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def random_base(spec: BaseSpec) -> PreTrainedModel:
    """What ``rlhf.model.load.load_base`` returns, with weights drawn where they are quantised."""
    dtype = compute_dtype(spec.dtype)
    config = AutoConfig.from_pretrained(spec.path)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    quantized = _quantization(spec, dtype)
    quantizer: Any = None
    if quantized is not None:
        quantizer = AutoHfQuantizer.from_config(quantized, pre_quantized=False)
        quantizer.preprocess_model(model=model, device_map={"": device()}, dtype=dtype)
    for module in list(model.modules()):
        _fill(module, dtype)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if "inv_freq" in dict(child.named_buffers(recurse=False)):
                setattr(parent, name, type(child)(config).to(device()))
    model.tie_weights()
    if quantizer is not None:
        quantizer.postprocess_model(model)
        model.hf_quantizer = quantizer
    model.generation_config = GenerationConfig()
    differentiable(model)
    return model.requires_grad_(requires_grad=spec.storage == "none").eval()


def _fill(module: nn.Module, dtype: torch.dtype) -> None:
    """Draw a module's own parameters on this process's device."""
    for name, parameter in list(module.named_parameters(recurse=False)):
        if not parameter.is_meta:
            continue
        where: dict[str, Any] = {"device": device(), "dtype": dtype}
        if parameter.dim() == 1:
            drawn = torch.ones(parameter.shape, **where)
        else:
            drawn = torch.empty(_whole(module, parameter), **where).normal_(std=_STD)
        if isinstance(module, Linear4bit) and name == "weight":
            packed: Any = Params4bit
            packed = packed(drawn, requires_grad=False, quant_type="nf4", module=module)
            module.weight = packed.to(device())
        else:
            setattr(module, name, nn.Parameter(drawn, requires_grad=False))


def _whole(module: nn.Module, parameter: nn.Parameter) -> tuple[int, ...]:
    """The shape before 4-bit packing."""
    if isinstance(module, Linear4bit):
        return module.out_features, module.in_features
    return tuple(parameter.shape)


def write_data(
    folder: Path, *, rows: int, prompt: int, response: int, varied: bool
) -> tuple[Path, Path]:
    """Preferences and demonstrations of these lengths in tokens, a file each.

    With ``varied`` the prompts are from a quarter of that length to all of it.
    """
    draw = torch.Generator().manual_seed(0)

    def words(number: int) -> str:
        return " ".join(map(str, torch.randint(_WORDS, (number,), generator=draw).tolist()))

    def long(row: int) -> int:
        return prompt - (row * 7919 % (3 * prompt // 4) if varied else 0)

    lines = [
        {"prompt": words(long(i)), "chosen": words(response - 1), "rejected": words(response - 1)}
        for i in range(rows)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    pairs = folder / f"pairs{'-varied' * varied}-{rows}-{prompt}-{response}.jsonl"
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    talks = pairs.with_name(pairs.name.replace("pairs", "talks"))
    talks.write_text(
        "".join(
            json.dumps({"prompt": line["prompt"], "completion": line["chosen"]}) + "\n"
            for line in lines
        )
    )
    return pairs, talks
