#!/usr/bin/env bash
# A Mixtral loaded with `load_in_4bit` keeps its experts in 16 or 32 bits, without a word: since
# Transformers 5 a layer's experts are one 3-D parameter, and bitsandbytes replaces `nn.Linear` only.
#
# Seen 2026-12-01 with transformers 5.23.0, bitsandbytes 0.50.2, torch 2.13.0, CPU; a random Mixtral
# of two layers with eight experts each: `is_loaded_in_4bit` is True, the attention's projections are
# `Linear4bit`, and the experts, 96 % of the weights beside the embeddings, are plain float32.
# Exits non-zero if this changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.13.0 transformers==5.23.0 bitsandbytes==0.50.2 \
    accelerate==1.15.0 numpy==2.4.6
cat >"$work/load.py" <<'PY'
import sys

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, MixtralConfig, MixtralForCausalLM

config = MixtralConfig(
    vocab_size=256, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_local_experts=8,
    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
)
MixtralForCausalLM(config).save_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(
    sys.argv[1], dtype=torch.float32, device_map="cpu",
    quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
)
packed = whole = 0
for name, parameter in model.named_parameters():
    if "embed" in name or "lm_head" in name:
        continue
    if (state := getattr(parameter, "quant_state", None)) is not None:
        packed += state.shape.numel()
    else:
        whole += parameter.numel()
        if parameter.ndim == 3:
            print(name, tuple(parameter.shape), parameter.dtype)
share = packed / (packed + whole)
print(f"is_loaded_in_4bit={model.is_loaded_in_4bit}, {share:.0%} of the weights in 4 bits")
assert model.is_loaded_in_4bit and share < 0.2
PY
"$work/venv/bin/python" "$work/load.py" "$work/mixtral" 2>/dev/null
