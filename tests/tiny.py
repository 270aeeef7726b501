"""Tiny models of the common architectures and a byte-level tokenizer, built in memory."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from rlhf.records import Demonstration, Message, Preference, Prompt, to_json

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}"
    "{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WORDS = (
    "the parcel is on its way to you and it will be there on Monday. I am sorry, I can not "
    "tell you the address of another customer. Please send us the number of your order. "
) * 4

_COMMON: dict[str, Any] = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
_GEMMA = _COMMON | {"head_dim": 16, "sliding_window": 64}
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 64}
# each architecture's own arguments; nf4 wants layers of a multiple of 64
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": _COMMON,
    "qwen2": _COMMON,
    "qwen3": _COMMON | {"head_dim": 16},
    "mistral": _COMMON | {"sliding_window": 64},
    "gemma2": _GEMMA | {"query_pre_attn_scalar": 16},
    "gemma3_text": _GEMMA | {"query_pre_attn_scalar": 16},
    "phi": _COMMON,
    "phi3": _COMMON | {"pad_token_id": 0},
    "gpt_neox": {k: v for k, v in _COMMON.items() if k != "num_key_value_heads"},
    "opt": {
        "vocab_size": 320,
        "hidden_size": 64,
        "ffn_dim": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 256,
        # as in OPT-350m, where the output embeddings are narrower than the trunk
        "word_embed_proj_dim": 32,
    },
    "gpt2": {"vocab_size": 320, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256},
}

MIXTURES: dict[str, dict[str, Any]] = {
    "mixtral": _COMMON | _EXPERTS | {"num_local_experts": 4},
    "qwen3_moe": _COMMON | _EXPERTS | {"num_experts": 4, "head_dim": 16},
    "gpt_oss": _GEMMA | _EXPERTS | {"num_local_experts": 4},
}
"""Of experts."""


def tokenizer(*, pad_is_eos: bool = False) -> PreTrainedTokenizerFast:
    """Bytes and a few merges; with ``pad_is_eos`` there is no token for padding alone."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|im_end|>", "<|im_start|>"] + ([] if pad_is_eos else ["<|pad|>"])
    trainer = trainers.BpeTrainer(
        vocab_size=310,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([WORDS], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>" if pad_is_eos else "<|pad|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
        clean_up_tokenization_spaces=False,
    )


def save_base(
    folder: Path, architecture: str = "llama", *, pad_is_eos: bool = False, seed: int = 0
) -> Path:
    """A random base of ``architecture`` with its tokenizer, saved at ``folder``."""
    tok = tokenizer(pad_is_eos=pad_is_eos)
    ends = {"bos_token_id": None, "eos_token_id": tok.eos_token_id}
    config = AutoConfig.for_model(
        architecture,
        **({**(ARCHITECTURES | MIXTURES)[architecture], **ends, "pad_token_id": tok.pad_token_id}),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                # zero biases would hide a bias that is lost, initial std .02 all of attention
                if parameter.ndim == 1 and "norm" not in name:
                    parameter.normal_(std=0.1)
                elif parameter.ndim in (2, 3):
                    parameter.mul_(5)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return folder


ITEMS = ("mug", "lamp", "radio", "coat", "chair", "kettle", "bag", "clock")
PLACES = ("Leeds", "York", "Bath", "Derby", "Ely", "Truro")


def prompts(number: int) -> list[Prompt]:
    """So many different questions."""
    return [
        Prompt.from_text(f"Where is my {ITEMS[i % 8]} for {PLACES[i // 8 % 6]} number {i}?")
        for i in range(number)
    ]


def write_demonstrations(path: Path, number: int = 24) -> Path:
    """Questions with a reply each, of different lengths."""
    rows = [
        Demonstration((*p.messages, Message("assistant", "It is on its way. " * (1 + i % 3))))
        for i, p in enumerate(prompts(number))
    ]
    path.write_text("".join(json.dumps(to_json(row)) + "\n" for row in rows))
    return path


def write_preferences(path: Path, number: int = 24) -> Path:
    """Polite replies preferred over curt ones, with margins; lengths say nothing."""
    rows = [
        Preference(
            p,
            chosen="I am sorry, it will be there on Monday." + " Please wait." * (i % 3),
            rejected="No idea, ask somebody else about it." + " Go away." * (i * 7 % 4),
            margin=(1 + i % 3) / 3,
        )
        for i, p in enumerate(prompts(number))
    ]
    path.write_text("".join(json.dumps(to_json(row)) + "\n" for row in rows))
    return path
