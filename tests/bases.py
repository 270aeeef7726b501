"""Tiny random bases of many kinds, sound and unsound, and what `rlhf sft` makes of each."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    BitsAndBytesConfig,
)

from tests import tiny
from tests.tiny import ARCHITECTURES

_SIZES = ARCHITECTURES["llama"]
_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 64}
_OLD_SIZES = {k: v for k, v in _SIZES.items() if k != "num_key_value_heads"}
_CONFIGS: dict[str, dict[str, Any]] = {
    **ARCHITECTURES,
    "bert": _OLD_SIZES,
    "bloom": {"vocab_size": 320, "hidden_size": 64, "n_layer": 2, "n_head": 4},
    "cohere": _SIZES | {"logit_scale": 0.25},
    "falcon": _OLD_SIZES,
    "falcon_h1": _SIZES
    | {
        "head_dim": 16,
        "mamba_d_ssm": 64,
        "mamba_n_heads": 4,
        "mamba_d_head": 16,
        "mamba_n_groups": 1,
        "mamba_d_state": 16,
        "mamba_chunk_size": 8,
        "lm_head_multiplier": 0.5,
    },
    # its own dropout would move the first loss
    "gpt2": ARCHITECTURES["gpt2"] | {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0},
    "granite": _SIZES | {"logits_scaling": 4.0},
    "gemma3": {
        "text_config": ARCHITECTURES["gemma3_text"],
        "vision_config": {
            "hidden_size": 64,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "image_size": 28,
            "patch_size": 14,
        },
        "mm_tokens_per_image": 4,
    },
    "gpt_oss": _SIZES
    | {"head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 64},
    "lfm2": _SIZES | {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "mamba": {"vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 16},
    "mamba2": {
        "vocab_size": 320,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "state_size": 16,
        "num_heads": 8,
        "head_dim": 16,
        "n_groups": 1,
        "chunk_size": 8,
    },
    "mixtral": _SIZES | {"num_local_experts": 4},
    "olmo2": _SIZES,
    "qwen3_moe": _SIZES | _EXPERTS | {"head_dim": 16, "num_experts": 4},
    "qwen3_next": _SIZES
    | _EXPERTS
    | {
        "head_dim": 16,
        "num_experts": 4,
        "shared_expert_intermediate_size": 64,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "recurrent_gemma": _SIZES
    | {
        "lru_width": 64,
        "block_types": ["recurrent", "attention"],
        "attention_window_size": 64,
    },
    "rwkv": {"vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 2},
    "t5": {"vocab_size": 320, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2},
    "xlnet": {"vocab_size": 320, "d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 128},
}
Base = Callable[[Path], object]
"""Writes a base into a folder."""


@dataclass(frozen=True)
class Row:
    """A base, how it is tuned, and "works" or the sentence; "…" stands for anything."""

    base: str
    make: Base
    outcome: str = "works"
    tuning: str = "qlora"


def of(model_type: str, kind: Any = AutoModelForCausalLM) -> Base:
    """A random base of this type; weights large enough that attention matters."""

    def make(folder: Path) -> None:
        tok = tiny.tokenizer()
        ends = {
            "bos_token_id": None,
            "eos_token_id": tok.eos_token_id,
            "pad_token_id": tok.pad_token_id,
        }
        config = AutoConfig.for_model(model_type, **_CONFIGS[model_type] | ends)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            model = kind.from_config(config, dtype=torch.float32)
            for parameter in model.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(3)
        model.save_pretrained(folder)
        tok.save_pretrained(folder)

    return make


def _classifier(folder: Path, architectures: list[str] | None = None) -> None:
    """Llama's trunk below a head for classes; some tools write another name into the config."""
    of("llama", AutoModelForSequenceClassification)(folder)
    if architectures:
        config = AutoConfig.from_pretrained(folder)
        config.architectures = architectures
        config.save_pretrained(folder)


def _with_tensors(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Base:
    def make(folder: Path) -> None:
        of("llama")(folder)
        weights = folder / "model.safetensors"
        save_file(change(load_file(weights)), weights, metadata={"format": "pt"})

    return make


def _cut_off(folder: Path) -> None:
    of("llama")(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def stored(**settings: Any) -> Base:
    """Saved after it was quantised."""

    def make(folder: Path) -> None:
        whole = folder.with_name(f"{folder.name}-whole")
        of("llama")(whole)
        model = AutoModelForCausalLM.from_pretrained(
            whole, quantization_config=BitsAndBytesConfig(**settings), device_map="cpu"
        )
        model.save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
        shutil.rmtree(whole)

    return make


NF4 = {
    "load_in_4bit": True,
    "bnb_4bit_quant_type": "nf4",
    "bnb_4bit_use_double_quant": True,
    "bnb_4bit_compute_dtype": torch.bfloat16,
}


def _with_tokens(*tokens: str, special: bool) -> Base:
    """More tokens than the embedding has rows."""

    def make(folder: Path) -> None:
        of("llama")(folder)
        tok = tiny.tokenizer()
        fill = [f"<fill{i}>" for i in range(_SIZES["vocab_size"] - len(tok))]
        tok.add_tokens([*fill, *tokens], special_tokens=special)
        tok.save_pretrained(folder)

    return make


def _opening_with_bos(folder: Path) -> None:
    """As Llama's before it was taught to chat: `<s>` before any text, and no template."""
    of("llama")(folder)
    tok = tiny.tokenizer()
    tok.add_special_tokens({"bos_token": "<s>"})
    tok.chat_template = None
    tok.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tok.bos_token_id)]
    )
    tok.save_pretrained(folder)


def _without(part: str) -> Base:
    return _with_tensors(lambda tensors: {k: v for k, v in tensors.items() if part not in k})


_DOWN = "model.layers.1.mlp.down_proj.weight"
ROWS = [
    Row("llama", of("llama")),
    Row("gpt2", of("gpt2")),
    Row("bloom (ALiBi)", of("bloom")),
    Row("phi3", of("phi3")),
    Row("olmo2", of("olmo2")),
    Row("gemma3 with its image encoder", of("gemma3")),
    Row("mixtral", of("mixtral")),
    Row("qwen3_moe", of("qwen3_moe")),
    Row("gpt_oss", of("gpt_oss")),
    Row("qwen3_next", of("qwen3_next")),
    Row("lfm2", of("lfm2")),
    Row("cohere, which scales its logits", of("cohere")),
    Row("granite, which scales its logits", of("granite")),
    Row("falcon_h1", of("falcon_h1")),
    Row("mamba2", of("mamba2")),
    Row(
        "recurrent_gemma",
        of("recurrent_gemma"),
        "RecurrentGemmaForCausalLM makes its logits in a way that is not known here (by up to … "
        "from its output layer's), so it would be trained on wrong probabilities; take another "
        "base",
    ),
    Row(
        "mamba",
        of("mamba"),
        "MambaForCausalLM cannot compute as it is stored (…); use tuning: lora, which quantises "
        "nothing, or another base",
    ),
    Row("falcon", of("falcon"), "works", "lora"),
    Row(
        "falcon",
        of("falcon"),
        "no layer of a FalconForCausalLM can be stored as nf4, bitsandbytes knows none of them; "
        "use tuning: lora, or another base",
    ),
    Row("stored in nf4, as we store it", stored(**NF4)),
    Row(
        "stored in nf4, as we store it",
        stored(**NF4),
        "is stored quantised already (nf4), which cannot be undone; give the base in 16 or 32 "
        "bits, or use tuning: qlora if it is stored in nf4",
        "lora",
    ),
    Row(
        "stored in nf4, as we store it",
        stored(**NF4),
        "is stored quantised already (nf4), which cannot be undone; give the base in 16 or 32 "
        "bits, or use tuning: qlora if it is stored in nf4",
        "full",
    ),
    Row(
        "stored in nf4 without double quantisation",
        stored(**NF4 | {"bnb_4bit_use_double_quant": False}),
        "is stored quantised already, and not in our nf4 (bnb_4bit_use_double_quant: False "
        "instead of True); give the base in 16 or 32 bits, which is then stored as nf4 when it is "
        "loaded",
    ),
    Row(
        "stored in fp4",
        stored(**NF4 | {"bnb_4bit_quant_type": "fp4"}),
        "is stored quantised already, and not in our nf4 (bnb_4bit_quant_type: fp4 instead of "
        "nf4); give the base in 16 or 32 bits, which is then stored as nf4 when it is loaded",
    ),
    Row(
        "stored in int8",
        stored(load_in_8bit=True),
        "is stored quantised already, and not in our nf4 (load_in_4bit: False instead of True; …); "
        "give the base in 16 or 32 bits, which is then stored as nf4 when it is loaded",
    ),
    Row(
        "bert",
        of("bert"),
        "BertLMHeadModel is not causal: its last token moves the logits of earlier ones (by up to "
        "…), so it would be trained with sight of the answer; take a decoder-only base",
    ),
    Row(
        "xlnet",
        of("xlnet"),
        "XLNetLMHeadModel is not causal: its last token moves the logits of earlier ones (by up to "
        "…), so it would be trained with sight of the answer; take a decoder-only base",
    ),
    Row(
        "t5",
        of("t5", AutoModelForSeq2SeqLM),
        "t5 is an encoder-decoder, and only a causal language model can be trained and sampled "
        "here; take a decoder-only base",
    ),
    Row(
        "a classifier",
        _classifier,
        "holds a LlamaForSequenceClassification, which is no causal language model; take the base "
        "that it was made from (…ForCausalLM)",
    ),
    Row(
        "a classifier that calls itself a language model",
        lambda folder: _classifier(folder, ["LlamaForCausalLM"]),
        "tensors are not those of the model: 1 missing (lm_head.weight), 1 unexpected "
        "(score.weight); a LlamaForCausalLM with all of its weights is needed",
    ),
    Row(
        "without its second layer",
        _without(".layers.1."),
        "tensors are not those of the model: 9 missing (model.layers.1.input_layernorm.weight, "
        "model.layers.1.mlp.down_proj.weight, model.layers.1.mlp.gate_proj.weight, …); a "
        "LlamaForCausalLM with all of its weights is needed",
    ),
    Row(
        "with a tensor of another shape",
        _with_tensors(lambda tensors: tensors | {_DOWN: torch.zeros(64, 64)}),
        f"1 tensors have another shape than config.json says ({_DOWN}); put the config back that "
        "the weights were saved with",
    ),
    Row(
        "with NaN in a tensor",
        _with_tensors(lambda tensors: tensors | {_DOWN: tensors[_DOWN] * torch.nan}),
        "its logits are not numbers; its weights are broken, or need model.dtype: float32",
        "lora",
    ),
    Row(
        "with a file that is cut off",
        _cut_off,
        "no model that can be loaded (Error while deserializing header: …); give a folder with "
        "config.json, model.safetensors and a tokenizer, or a name on the Hugging Face hub",
    ),
    Row(
        "a tokenizer larger than the embedding",
        _with_tokens("parcel", "customer", special=False),
        "2 tokens lie beyond the base's embedding of 320 rows ('parcel', 'customer'); give the "
        "tokenizer that belongs to the base, or resize its embedding (resize_token_embeddings)",
    ),
    Row("a special token beyond the embedding that no template writes",
        _with_tokens("<image>", special=True)),
    Row("a tokenizer that adds `<s>`, without a template", _opening_with_bos),
]  # fmt: skip
