"""What forward and backward passes take beside the weights, in bytes: arithmetic, without torch.

Counted operation by operation, from the code of Transformers 5.23 (``modeling_llama.py`` and its
kin), PEFT 0.21 (``tuners/lora``) and bitsandbytes 0.50 (``MatMul4Bit`` keeps no input): which
tensors autograd keeps until the backward pass, and which are alive at once while a layer works.
Tests hold the counts to the bytes that autograd keeps of tiny models.
"""

from dataclasses import dataclass
from typing import Literal

from rlhf.config import ModelConfig
from rlhf.memory.shapes import FAMILIES, Shape
from rlhf.memory.weights import FP32, INT64, adapted, adapter_tensors

Attention = Literal["sdpa", "eager"]

MANY_LOGITS = 1 << 25
"""Above so many numbers, :mod:`rlhf.model.scoring` takes logits a piece at a time."""
SCORING_TILE = 8192
"""Tokens of the vocabulary in a piece, there."""
TRAINER_TILE = 32768
"""And in TRL's trainers (``trl.trainer.utils``)."""
_TILE_ROWS = 4096
"""Tokens of the text in a piece (``trl.kernels.chunked_logprob.TOKEN_CHUNK_SIZE``)."""

_LOW_RANK = ("lora", "qlora", "dora", "rslora", "adalora")
_UNFUSED = ("dora", "adalora")
"""Whose update is PEFT's own, in more passes than that of :mod:`rlhf.model.lora`."""


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass over rows that are padded to the same length, and its backward pass."""

    shape: Shape
    model: ModelConfig
    rows: int
    length: int
    dtype: int
    """Bytes of a number where the trunk computes."""
    dropout: float = 0.0
    """Of the adapter, while it trains."""
    checkpointing: bool = False
    attention: Attention = "sdpa"
    masked: bool = False
    """Whether attention is told what is padding; it then wants keys and values of every head."""

    @property
    def is_eager(self) -> bool:
        """Whether the scores of every head are held, token by token."""
        family = FAMILIES[self.shape.family]
        return self.attention == "eager" or family.caps_scores or family.expert_bias

    @property
    def tokens(self) -> int:
        """In all rows, padding included."""
        return self.rows * self.length


def layer_kept(one: Pass) -> int:
    """What autograd keeps of one block."""
    shape = one.shape
    family = FAMILIES[shape.family]
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    # a norm is taken in fp32: its input, and the inverse root
    norms = family.norms * (shape.hidden + 1) * FP32
    if family.head_norms:
        norms += (q + kv + shape.heads + shape.kv_heads) * FP32
    if one.model.tuning == "full":
        norms += family.norms * shape.hidden * FP32  # the normed states, for the norms' weights
    per_token = norms + _attention(one) + _mlp(one) + _into_linears(one)
    return one.tokens * per_token


def _mlp(one: Pass) -> int:
    """Of each token: gate, its activation and up; or what leads to its experts.

    Experts in 4 bits are passed again in the backward pass (:mod:`rlhf.model.experts`).
    """
    shape = one.shape
    if not shape.num_experts:
        return 3 * shape.intermediate * one.dtype
    router = (shape.num_experts + 2 * shape.top_k) * FP32 + shape.top_k * INT64
    into = shape.hidden * one.dtype
    return router + into + (0 if one.model.storage == "nf4" else _inside_experts(one))


def _inside_experts(one: Pass) -> int:
    """Of each token, for each expert that it passes: a copy, what is inside, what comes out."""
    shape = one.shape
    return shape.top_k * (2 * shape.hidden + 5 * shape.intermediate) * one.dtype


def _attention(one: Pass) -> int:
    """Of each token: queries, keys, values, what came out of them, and the scores."""
    shape, e = one.shape, one.dtype
    q, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    if one.is_eager:  # scores are taken in fp32, and again in the dtype of the values
        capped = e if FAMILIES[shape.family].caps_scores else 0
        each = FP32 + capped + (0 if e == FP32 else e)
        return 4 * q * e + shape.heads * one.length * each
    sums = shape.heads * FP32  # of each row's exponents
    if FAMILIES[shape.family].fused:  # values are a part of what one layer gives
        sums += (q + kv) * e
    if one.masked:
        return (4 * q + one.length) * e + sums
    return 2 * (q + kv) * e + sums


def _into_linears(one: Pass) -> int:
    """Of each token: the inputs of layers whose weights, or whose adapters, learn."""
    shape, e = one.shape, one.dtype
    if one.model.tuning == "full":
        return (2 * shape.hidden + shape.intermediate) * e
    if one.model.tuning == "ia3":  # what it scales
        return sum(adapter_tensors(shape, one.model)) // shape.layers * e
    if one.model.tuning not in _LOW_RANK:
        return 0
    lora = one.model.lora
    layers = [linear for linear in shape.linears if adapted(linear, lora)]
    ranks = len(layers) * lora.rank * e
    if one.model.tuning == "dora":  # what base and adapter give, for the gradient of the magnitudes
        ranks += 2 * sum(linear.outputs for linear in layers) * e
    if one.dropout:  # each layer drops its own, and keeps what is left and a byte that says where
        return ranks + sum(linear.inputs for linear in layers) * (e + 1)
    names = {linear.name for linear in layers}
    into = shape.hidden * bool(names & {"q_proj", "k_proj", "v_proj", "qkv_proj"})
    into += shape.hidden * bool(names & {"gate_proj", "up_proj", "gate_up_proj"})
    into += shape.intermediate * ("down_proj" in names)  # that of o_proj is the attention's output
    return ranks + into * e


def kept(one: Pass) -> int:
    """What the trunk's forward pass leaves for its backward pass."""
    shape, e = one.shape, one.dtype
    # the last norm, and the rotary factors
    ends = one.tokens * ((shape.hidden + 1) * FP32 + 2 * shape.head_dim * e)
    if one.checkpointing:  # each block's input, and the embeddings that begin to take gradients
        return (shape.layers + 1) * one.tokens * shape.hidden * e + ends
    return shape.layers * layer_kept(one) + ends


def backward(one: Pass) -> int:
    """What a block's backward pass needs over what was kept.

    Two gradients as wide as the MLP at once, one of the states, and one weight out of its four or
    eight bits; with checkpointing, all that the block would have kept.
    """
    shape, e = one.shape, one.dtype
    again = layer_kept(one) if one.checkpointing else 0
    if shape.num_experts and one.model.storage == "nf4":
        again += one.tokens * _inside_experts(one)
    wide = 2 * shape.top_k * shape.intermediate
    return again + one.tokens * (wide + shape.hidden) * e + scratch(one)


def forward(one: Pass) -> int:
    """The most that a pass without gradients has alive at once.

    Three tensors as wide as the MLP (gate, up, and up with its update), or those of the attention
    before, in and after its product, each with states; and one weight out of its 4 or 8 bits.
    """
    shape, e = one.shape, one.dtype
    h, q, kv = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    wide = 4 if one.model.tuning in _UNFUSED else 3
    experts = _inside_experts(one) // e if shape.num_experts else 0
    most = max(
        experts + 4 * h,
        wide * shape.intermediate + 4 * h,
        3 * h + 4 * q + 2 * kv,
        4 * h + 3 * (q + kv),
        5 * h + 2 * (q + kv),
    )
    per_token = (most + 2 * shape.head_dim) * e
    if one.is_eager:
        per_token = max(per_token, 3 * h * e + shape.heads * one.length * (FP32 + 2 * e))
    return one.tokens * per_token + scratch(one)


def scratch(one: Pass) -> int:
    """The largest weight, dequantised for its product; or all experts of a block."""
    if one.model.storage == "none":
        return 0
    experts = sum(linear.numbers for linear in one.shape.experts)
    return max(experts, *(linear.numbers for linear in one.shape.linears)) * one.dtype


def casts(one: Pass) -> int:
    """Autocast's copies of trained fp32 weights in the dtype of the products."""
    if one.dtype == FP32:
        return 0
    if one.model.tuning == "full":
        return (one.shape.in_linears + one.shape.embeddings) * one.dtype
    return sum(adapter_tensors(one.shape, one.model)) * one.dtype


def logits(shape: Shape, tokens: int, dtype: int, *, learns: bool, on_gpu: bool = True) -> int:
    """Our logprobs of ``tokens`` response tokens, as :mod:`rlhf.model.scoring` takes them.

    Up to ``MANY_LOGITS`` whole, in fp32: logits, those over the temperature and one more for the
    entropy; with a backward pass four. Above, in pieces.
    """
    if tokens * shape.vocab > MANY_LOGITS:
        return tiled_logits(shape, tokens, dtype, SCORING_TILE, learns=learns, on_gpu=on_gpu)
    return tokens * ((4 if learns else 3) * shape.vocab + shape.hidden) * FP32


def tiled_logits(
    shape: Shape, tokens: int, dtype: int, width: int, *, learns: bool, on_gpu: bool = True
) -> int:
    """TRL's chunked kernel (``trl.kernels.chunked_logprob``).

    One piece of logits, as wide whatever the vocabulary, folded in place by Triton; without a GPU,
    in torch, that takes three pieces more in fp32, and seven in a backward pass. States, and their
    gradient in fp32, for every token.
    """
    rows = min(tokens, _TILE_ROWS)
    folded = rows * min(width, shape.vocab) * FP32
    beside = 0 if on_gpu else (7 if learns else 3) * folded
    states = tokens * shape.hidden * (dtype + (FP32 if learns else 0))
    return rows * width * dtype + beside + states


def whole_logits(shape: Shape, tokens: int) -> int:
    """Transformers' own loss: logits of all tokens, their log-softmax and its gradient, in fp32."""
    return 3 * tokens * shape.vocab * FP32


def drawing(shape: Shape, rows: int) -> int:
    """The next token of each row: logits and probabilities in fp32, their running sum in fp64."""
    return rows * shape.vocab * 4 * FP32


def sequences(rows: int, length: int, response: int) -> int:
    """Rows of token ids with their mask, and places of response tokens with theirs."""
    return rows * (length + response) * (INT64 + 1)


def rollout(rows: int, length: int, response: int) -> int:
    """Rows, and six numbers for each response token.

    Old and reference logprob, value, entropy, advantage and return.
    """
    return sequences(rows, length, response) + rows * response * 6 * FP32
