"""What a model keeps in memory, in bytes: arithmetic on its shape, without torch.

Everything here is exact, to the byte; tests count the bytes of real tensors against it. What a
forward and a backward pass need besides is in :mod:`rlhf.memory.activations`. A GPU's allocator
rounds each tensor up to 512 bytes, which is not counted.
"""

import math
from typing import Literal

from rlhf.config import LoraConfig, ModelConfig
from rlhf.memory.shapes import Linear, Shape

Storage = Literal["none", "int8", "nf4"]

FP32 = 4
INT64 = 8

_NF4_BLOCK = 64
"""Weights that share a scale (Dettmers et al. 2023, section 3; bitsandbytes' default)."""
_SCALE_BLOCK = 256
"""Scales that share a scale, in double quantisation."""
_CODES = (16 + 256) * FP32
"""The values that 4 bits of a weight and 8 bits of a scale stand for; each layer has its own."""
_OFFSET = FP32
"""The mean of the scales, taken off before they are quantised."""
CACHE_ROOM = 64
"""Tokens that a buffer of the cache has room for when it is made."""
_EIGHT_BIT_BLOCK = 256
_EIGHT_BIT_FROM = 4096
"""bitsandbytes keeps the states of smaller tensors in fp32."""


def weight_bytes(linear: Linear, storage: Storage, dtype: int) -> int:
    """The weight of one linear layer; ``dtype`` is what a number takes where nothing is quantised.

    nf4 with double quantisation, as bitsandbytes 0.50 holds it: half a byte per number, one byte
    per 64 as their scale, four per 256 scales, and for each layer a mean and two tables.
    """
    numbers = linear.numbers
    if storage == "none":
        return numbers * dtype
    if storage == "int8":
        return numbers + linear.outputs * FP32
    scales = math.ceil(numbers / _NF4_BLOCK)
    return (
        math.ceil(numbers / 2) + scales + math.ceil(scales / _SCALE_BLOCK) * FP32 + _OFFSET + _CODES
    )


def trunk_bytes(shape: Shape, storage: Storage, dtype: int) -> int:
    """The weights of all linear layers of the trunk, and of its experts."""
    layers = (*shape.linears, *shape.experts)
    return shape.layers * sum(weight_bytes(linear, storage, dtype) for linear in layers)


def rest_bytes(shape: Shape, dtype: int) -> int:
    """What is never quantised, beside the embeddings: norms, biases, routers, rotary frequencies.

    The frequencies are in fp32 and held twice, as Transformers does; Gemma 3 has a set for layers
    that slide and one for those that do not. Gemmas also hold the scale of their embeddings.
    """
    sets = len(set(shape.windows)) if shape.family == "gemma3_text" else 1
    scale = FP32 if shape.family.startswith("gemma") else 0
    return shape.elsewhere * dtype + sets * 2 * (shape.head_dim // 2) * FP32 + scale


def adapter_tensors(shape: Shape, config: ModelConfig) -> list[int]:
    """The sizes, in numbers, of the tensors of one adapter; none for full fine-tuning."""
    tuning, lora = config.tuning, config.lora
    hidden, virtual = shape.hidden, config.num_virtual_tokens
    if tuning == "full":
        return []
    if tuning == "prefix":
        return [virtual * shape.layers * 2 * shape.kv_heads * shape.head_dim]
    if tuning == "prompt":
        return [virtual * hidden]
    if tuning == "p_tuning":
        return [virtual * hidden, *[hidden * hidden, hidden] * 3]
    per_layer = [
        size
        for linear in shape.linears
        for size in (_ia3(linear, shape) if tuning == "ia3" else _low_rank(linear, config, lora))
    ]
    return per_layer * shape.layers


def _ia3(linear: Linear, shape: Shape) -> list[int]:
    """PEFT's choice of layers, by family, and one for the input of the last layer of the MLP."""
    first = "k_proj" if shape.experts or shape.family in ("llama", "mistral") else "q_proj"
    if linear.name in (first, "v_proj"):
        return [linear.outputs]
    return [linear.inputs] if linear.name == "down_proj" else []


def _low_rank(linear: Linear, config: ModelConfig, lora: LoraConfig) -> list[int]:
    if not adapted(linear, lora):
        return []
    if config.tuning == "adalora":  # it starts with half as many ranks again, and a scale for each
        rank = math.ceil(1.5 * lora.rank)
        return [rank * linear.inputs, rank, linear.outputs * rank]
    magnitude = [linear.outputs] if config.tuning == "dora" else []
    return [lora.rank * linear.inputs, linear.outputs * lora.rank, *magnitude]


def adapted(linear: Linear, lora: LoraConfig) -> bool:
    """Whether a low-rank adapter sits on this layer."""
    return lora.target_modules == "all-linear" or linear.name in lora.target_modules


def adapter_bytes(shape: Shape, config: ModelConfig) -> int:
    """One adapter; they are fp32 whatever the base is stored in."""
    return sum(adapter_tensors(shape, config)) * FP32


def head_tensors(shape: Shape) -> list[int]:
    """A score or value head: a weight and a bias."""
    return [shape.hidden, 1]


def optimizer_bytes(tensors: list[int], optim: str) -> int | None:
    """What an optimizer of Transformers' name ``optim`` keeps for trained tensors of these sizes.

    Adam keeps two moments of each number. bitsandbytes' 8-bit Adam keeps a byte for each, with an
    fp32 scale per 256, and fp32 for small tensors. None where the optimizer is not known here.
    """
    name = optim.removeprefix("paged_")
    if name in ("adamw_torch", "adamw_torch_fused"):
        return sum(2 * size * FP32 + FP32 for size in tensors)  # and a count of steps
    if name in ("adamw_bnb_32bit", "adamw_32bit"):
        return sum(2 * size * FP32 for size in tensors)
    if name in ("adamw_bnb_8bit", "adamw_8bit"):
        return sum(map(_eight_bit, tensors))
    return 0 if name == "sgd" else None


def _eight_bit(size: int) -> int:
    if size < _EIGHT_BIT_FROM:
        return 2 * size * FP32
    return 2 * (size + math.ceil(size / _EIGHT_BIT_BLOCK) * FP32)


def cache_bytes(shape: Shape, rows: int, tokens: int, drawn: int, dtype: int) -> int:
    """Keys and values of ``rows`` prompts of ``tokens`` and of what was ``drawn`` after them.

    Buffers have room for some tokens more, and are made anew when it is full, as in
    :mod:`rlhf.model.engine.cache`. A layer that slides keeps its window only.
    """
    room = (
        tokens
        + CACHE_ROOM
        + math.ceil(max(0, drawn - CACHE_ROOM) / (CACHE_ROOM + 1)) * (CACHE_ROOM + 1)
    )
    kept = sum(room if w is None else min(tokens + drawn, w - 1) for w in shape.windows)
    return rows * 2 * shape.kv_heads * shape.head_dim * kept * dtype
