"""Tokenizer and base: the one loader that every stage uses, with the only BitsAndBytesConfig."""

import hashlib
import json
import logging
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, cast

import torch
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from huggingface_hub.errors import HfHubHTTPError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils.hub import cached_file

from rlhf import processes
from rlhf.chat import plain_template
from rlhf.config import Dtype, ModelConfig
from rlhf.errors import ModelError
from rlhf.model.checks.base_checks import (
    refuse_incomplete,
    refuse_nothing_quantized,
    refuse_other_kinds,
    refuse_other_logits,
    refuse_other_storage,
)
from rlhf.model.experts import quantize_experts, storage_line

_FINGERPRINTED = 1 << 20
"""Bytes hashed at either end of a weight file; whole files would take minutes at 8B."""


@dataclass(frozen=True, slots=True)
class BaseSpec:
    """Which base, and how it is stored: all that decides its weights and arithmetic."""

    path: str
    revision: str | None = None
    storage: Literal["none", "int8", "nf4"] = "nf4"
    dtype: Dtype = "auto"

    @classmethod
    def of(cls, config: ModelConfig) -> Self:
        """The base that a config asks for."""
        return cls(config.base, config.revision, config.storage, config.dtype)

    @property
    def arithmetic(self) -> tuple[str, torch.dtype]:
        """How it is stored, and the dtype of what is not quantised; see :func:`storage_of`."""
        return self.storage, compute_dtype(self.dtype)


def compute_dtype(dtype: Dtype = "auto") -> torch.dtype:
    """The arithmetic of a base: what was asked for, or what this machine is good at.

    bfloat16 on GPUs that have it, float16 on older ones, float32 on a CPU.
    """
    if dtype != "auto":
        return {
            "float32": torch.float32,
            "bfloat16": torch.bfloat16,
            "float16": torch.float16,
        }[dtype]
    if not torch.cuda.is_available():
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def device() -> torch.device:
    """Where this process computes: its GPU, or the CPU."""
    if torch.cuda.is_available():
        if processes.count() > 1:  # each has its own, which nobody may have made current yet
            torch.cuda.set_device(processes.index_here())
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def load_tokenizer(path: str, revision: str | None = None) -> PreTrainedTokenizerFast:
    """The tokenizer of a base or a run, with a padding token and a chat template.

    Raises:
        ModelError: there is none, or it is not a fast one.
    """
    with _or_model_error(path):
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(f"{path}: its tokenizer has no fast version (tokenizer.json); convert it")
    if tokenizer.chat_template is None:
        tokenizer.chat_template = plain_template(tokenizer)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "right"
    return tokenizer


def load_base(spec: BaseSpec) -> PreTrainedModel:
    """The causal base, frozen if it is quantised, in eval mode on this process's device.

    Raises:
        ModelError: there is no such model, it is not a causal one, or its weights are not all there
            or stored in another way.
    """
    dtype = compute_dtype(spec.dtype)
    with _or_model_error(spec.path):
        config = AutoConfig.from_pretrained(spec.path, revision=spec.revision)
        refuse_other_kinds(config, spec.path)
        quantization = _quantization(spec, dtype)
        if (stored := getattr(config, "quantization_config", None)) is not None:
            ours = refuse_other_storage(stored, quantization, spec.path)
            config.quantization_config, quantization = ours.to_dict(), None
        loaded = AutoModelForCausalLM.from_pretrained(
            spec.path,
            config=config,
            revision=spec.revision,
            dtype=dtype,
            quantization_config=quantization,
            device_map={"": device()},
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # they are refused by name
            output_loading_info=True,
        )
    model, loading = cast("tuple[PreTrainedModel, dict[str, Any]]", loaded)
    refuse_incomplete(model, loading, spec.path)
    # a base may bring its own top-k or penalties; logprobs would not be those of the sampler
    model.generation_config = GenerationConfig()
    differentiable(model)
    if spec.storage != "none":
        refuse_nothing_quantized(model, spec.storage, spec.path)
        quantize_experts(model, spec.storage, spec.path)
        line = storage_line(model, spec.storage, spec.path)
        if processes.is_first():
            sys.stderr.write(f"{spec.path}: {line}\n")
        model.requires_grad_(requires_grad=False)
    refuse_other_logits(model.eval(), spec.path)
    return model


def differentiable(model: torch.nn.Module) -> None:
    """Keep 4-bit layers from repacking themselves into a form without gradients.

    On CPUs with AVX512-BF16, bitsandbytes 0.50 repacks a weight in place at the first forward in
    eval mode, and no gradient passes it any more.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def quantized(model: torch.nn.Module) -> bool:
    """Whether some layer is stored in 4 or 8 bits."""
    return any(isinstance(layer, (Linear4bit, Linear8bitLt)) for layer in model.modules())


def storage_of(model: PreTrainedModel) -> tuple[str, torch.dtype]:
    """How a base in memory is stored, and the dtype of what is not quantised."""
    kinds = {type(layer) for layer in model.modules()}
    embeddings = model.get_input_embeddings().weight
    assert isinstance(embeddings, torch.Tensor)
    storage = "nf4" if Linear4bit in kinds else "int8" if Linear8bitLt in kinds else "none"
    return storage, embeddings.dtype


def computes_in_fp32(model: torch.nn.Module) -> bool:
    """Whether products are taken in fp32, so that no kernel's rounding shows."""
    layers = list(model.modules())
    if any(isinstance(layer, Linear8bitLt) for layer in layers):
        return False
    dtypes = {layer.compute_dtype for layer in layers if isinstance(layer, Linear4bit)}
    dtypes |= {p.dtype for p in model.parameters() if p.is_floating_point()}
    return dtypes <= {torch.float32}


def fingerprint(spec: BaseSpec) -> str:
    """16 hex digits that tell one base's weights from another's, whatever the folder is called.

    Over the architecture and, for each weight file, its size and both its ends.
    """
    digest = hashlib.sha256()
    with _or_model_error(spec.path):
        config = AutoConfig.from_pretrained(spec.path, revision=spec.revision).to_dict()
        files = _weight_files(spec)
    for volatile in ("transformers_version", "_name_or_path", "dtype", "use_cache"):
        config.pop(volatile, None)
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for file in files:
        size = file.stat().st_size
        with file.open("rb") as stream:
            digest.update(f"{size}".encode() + stream.read(_FINGERPRINTED))
            stream.seek(max(0, size - _FINGERPRINTED))
            digest.update(stream.read(_FINGERPRINTED))
    return digest.hexdigest()[:16]


def _weight_files(spec: BaseSpec) -> list[Path]:
    found = cached_file(
        spec.path,
        "model.safetensors",
        revision=spec.revision,
        _raise_exceptions_for_missing_entries=False,
    )
    if found:
        return [Path(found)]
    index = cached_file(spec.path, "model.safetensors.index.json", revision=spec.revision)
    assert index is not None
    names = set(json.loads(Path(index).read_text())["weight_map"].values())
    return [
        Path(str(cached_file(spec.path, name, revision=spec.revision))) for name in sorted(names)
    ]


def _quantization(spec: BaseSpec, dtype: torch.dtype) -> BitsAndBytesConfig | None:
    if spec.storage == "none":
        return None
    if spec.storage == "int8":
        # it says at every call that int8 products are taken in float16, which they always are
        logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


@contextmanager
def _or_model_error(path: str) -> Generator[None]:
    try:
        yield
    except (OSError, ValueError, HfHubHTTPError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0]
        if not Path(path).exists() and (path.count("/") > 1 or path[:1] in (".", "/", "~")):
            reason = "there is no such folder"  # and it cannot be the name of a repository
        raise ModelError(
            f"{path}: no model that can be loaded ({reason}); give a folder with config.json, "
            "model.safetensors and a tokenizer, or a name on the Hugging Face hub"
        ) from error
