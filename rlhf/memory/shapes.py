"""The shape of a causal language model, read from its config.json; no weights and no torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from rlhf.errors import ModelError


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer inside a block of the trunk."""

    name: str
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def numbers(self) -> int:
        """In its weight."""
        return self.inputs * self.outputs


@dataclass(frozen=True, slots=True)
class _Family:
    """Where a kind of model differs from Llama."""

    norms: int = 2
    """Over the hidden states, in each block."""
    head_norms: bool = False
    """One more over each head's queries and keys."""
    fused: bool = False
    """Queries, keys and values in one layer, gate and up in another."""
    qkv_bias: bool = False
    tied: bool = False
    """Whether input and output embeddings are one matrix where the config does not say."""
    caps_scores: bool = False
    """Attention scores are bounded, which only eager attention does."""
    experts: bool = False
    """In the place of each block's MLP."""
    width: str = "intermediate_size"
    """The key of how wide an MLP, or an expert, is."""
    expert_bias: bool = False
    """Router and experts have biases, and each head a sink, which only eager attention knows."""


FAMILIES = {
    "llama": _Family(),
    "mistral": _Family(),
    "qwen2": _Family(qkv_bias=True),
    "qwen3": _Family(head_norms=True),
    "phi3": _Family(fused=True),
    "gemma2": _Family(norms=4, tied=True, caps_scores=True),
    "gemma3_text": _Family(norms=4, head_norms=True, tied=True),
    "mixtral": _Family(experts=True),
    "qwen3_moe": _Family(head_norms=True, experts=True, width="moe_intermediate_size"),
    "gpt_oss": _Family(experts=True, expert_bias=True),
}
"""By the ``model_type`` of a config."""

_LLAMA_8B: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 128256, "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
    "max_position_embeddings": 131072, "tie_word_embeddings": False,
}  # fmt: skip
_QWEN3_06B: dict[str, Any] = {
    "model_type": "qwen3", "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072,
    "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "max_position_embeddings": 32768, "tie_word_embeddings": True,
}  # fmt: skip
KNOWN: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-3.1-8B": _LLAMA_8B,
    "Qwen/Qwen3-0.6B-Base": _QWEN3_06B,
}
"""The bases that the files under configs/ name, as their cards on the hub describe them, so that
they can be planned for without a network."""


@dataclass(frozen=True, slots=True)
class Shape:
    """All that decides how much memory a model takes, and how many products it computes."""

    family: str
    vocab: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    windows: tuple[int | None, ...]
    """How far back each layer looks; None for all the way."""
    bias: bool = False
    """Whether every linear layer of the attention has one."""
    num_experts: int = 0
    """In each block; 0 where it has one MLP. ``intermediate`` is then the width of one."""
    top_k: int = 1
    """Experts that each token passes."""

    @classmethod
    def of(cls, config: Mapping[str, Any], where: str) -> Self:
        """The shape that a Transformers config describes; ``where`` opens the error message.

        Raises:
            ModelError: it is of a kind that is not known here, or a size is missing.
        """
        kind = config.get("model_type")
        if kind not in FAMILIES:
            raise ModelError(
                f"{where}: no memory plan for model_type {kind!r}; it is one of "
                f"{', '.join(FAMILIES)}"
            )
        family = FAMILIES[kind]
        if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
            raise ModelError(f"{where}: no memory plan for experts in some of the layers only")
        try:
            heads, layers = config["num_attention_heads"], config["num_hidden_layers"]
            return cls(
                family=kind,
                vocab=config["vocab_size"],
                hidden=config["hidden_size"],
                intermediate=config[family.width],
                layers=layers,
                heads=heads,
                kv_heads=config.get("num_key_value_heads") or heads,
                head_dim=config.get("head_dim") or config["hidden_size"] // heads,
                tied=config.get("tie_word_embeddings", family.tied),
                windows=_windows(config, layers),
                bias=config.get("attention_bias", False),
                num_experts=_num_experts(config) if family.experts else 0,
                top_k=config["num_experts_per_tok"] if family.experts else 1,
            )
        except KeyError as error:
            raise ModelError(f"{where}: `{error.args[0]}` is missing from the config") from error

    @property
    def linears(self) -> tuple[Linear, ...]:
        """Of one block, in the order in which they act; without its experts."""
        family, h, i = FAMILIES[self.family], self.hidden, self.intermediate
        q, kv = self.heads * self.head_dim, self.kv_heads * self.head_dim
        bias = family.qkv_bias or self.bias
        out = Linear("o_proj", q, h, self.bias)
        down = Linear("down_proj", i, h)
        if family.fused:
            return (
                Linear("qkv_proj", h, q + 2 * kv), out, Linear("gate_up_proj", h, 2 * i), down,
            )  # fmt: skip
        attention = (
            Linear("q_proj", h, q, bias), Linear("k_proj", h, kv, bias),
            Linear("v_proj", h, kv, bias), out,
        )  # fmt: skip
        if self.num_experts:
            return attention
        return (*attention, Linear("gate_proj", h, i), Linear("up_proj", h, i), down)

    @property
    def experts(self) -> tuple[Linear, ...]:
        """The two weights of one block that hold all its experts; none where it has one MLP."""
        h, i, n = self.hidden, self.intermediate, self.num_experts
        if not n:
            return ()
        return Linear("gate_up_proj", n * h, 2 * i), Linear("down_proj", n * i, h)

    @property
    def norms(self) -> int:
        """Numbers in the norms of one block."""
        family = FAMILIES[self.family]
        return family.norms * self.hidden + (2 * self.head_dim if family.head_norms else 0)

    @property
    def embeddings(self) -> int:
        """Numbers in the input and output embeddings; once where they are one matrix."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def in_linears(self) -> int:
        """Numbers in the weights of all linear layers of the trunk, and of its experts."""
        return self.layers * sum(linear.numbers for linear in (*self.linears, *self.experts))

    @property
    def elsewhere(self) -> int:
        """Numbers in norms, biases, routers and sinks."""
        beside = sum(linear.outputs for linear in self.linears if linear.bias)
        beside += self.num_experts * self.hidden
        if FAMILIES[self.family].expert_bias:
            beside += self.num_experts * (1 + 2 * self.intermediate + self.hidden) + self.heads
        return self.layers * (self.norms + beside) + self.hidden

    @property
    def parameters(self) -> int:
        """Numbers in the whole model."""
        return self.embeddings + self.in_linears + self.elsewhere


def read_shape(base: str, revision: str | None = None) -> Shape:
    """The shape of a base: a folder with a config.json, that file, or a name on the hub.

    Raises:
        ModelError: there is none, the hub cannot be reached, or the model is of an unknown kind.
    """
    path = Path(base)
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file() and base in KNOWN:
        return Shape.of(KNOWN[base], base)
    if not file.is_file():
        file = _from_hub(base, revision)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{file}: not a config.json ({error})") from error
    return Shape.of(config.get("text_config", config), str(file))


def _num_experts(config: Mapping[str, Any]) -> int:
    """Under Transformers' name, or under the one that Qwen's own files have."""
    return config.get("num_experts") or config["num_local_experts"]


def _from_hub(base: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(hf_hub_download(base, "config.json", revision=revision))
    except (OSError, HFValidationError) as error:  # what the hub's own errors are made of
        raise ModelError(
            f"{base}: no such folder, and no config.json of that name can be had from the hub; "
            "give --base a folder with a config.json, that file, or one of "
            f"{', '.join(KNOWN)}, which are known without it"
        ) from error


def _windows(config: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    """Transformers' rules for which layers of a model slide."""
    window = config.get("sliding_window")
    if not window or not config.get("use_sliding_window", True):
        return (None,) * layers
    kinds = config.get("layer_types")
    if kinds is None:
        # of Gemma 2 every other layer, of Gemma 3 five of six
        every = {"gemma2": 2, "gemma3_text": config.get("sliding_window_pattern", 6)}
        step = every.get(config["model_type"])
        slides = [step is None or bool((layer + 1) % step) for layer in range(layers)]
    else:
        slides = [kind == "sliding_attention" for kind in kinds]
    return tuple(window if slide else None for slide in slides)
