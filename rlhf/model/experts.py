"""Experts in 4 bits, and what share of a base's weights is stored how.

Transformers 5 keeps all experts of a layer in one parameter of three dimensions, which bitsandbytes
passes by: it knows linear layers only, and "nf4" would be a tenth of a Mixtral.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

import torch
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt
from bitsandbytes.nn.parametrize import Bnb4bitParametrization, replace_parameter_4bit
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from rlhf.errors import ModelError

_EXPERTS = 3
"""Dimensions of a weight that holds experts: which, in, and out."""
_ROUTERS = {"gate", "router", "shared_expert_gate"}
_IN_EXPERTS = {"gate_up_proj", "gate_proj", "up_proj", "down_proj", "w1", "w2", "w3"}
_LEAST_SHARE = 0.5
"""Of the weights beside the embeddings, for a base to be called quantised.

Norms, routers and convolutions are a few hundredths of any base that is worth quantising; where it
is less than half, layers have been passed by.
"""


def experts_of(model: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """Each module that holds experts in one parameter, and the name of that parameter."""
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            # convolutions and RWKV's mixtures of tokens have as many dimensions
            is_convolution = isinstance(module, nn.Conv1d) or 1 in p.shape
            if p.ndim == _EXPERTS and not is_convolution:
                yield module, name


def has_experts(model: nn.Module) -> bool:
    """Whether some layer holds experts, quantised or not."""
    return _are_quantized(model) or any(experts_of(model))


def linears_beside_experts(model: PreTrainedModel) -> list[str]:
    """Names of the linear layers that low-rank adapters change by default: those of the attention.

    PEFT 0.21 reads "all-linear", and the names of a dense MLP's layers too, as experts and router.
    """
    output = model.get_output_embeddings()
    linears = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and module is not output
    }
    return sorted(linears - _ROUTERS - _IN_EXPERTS)


def refuse_experts(model: PreTrainedModel, names: list[str]) -> None:
    """Refuse to adapt experts of a quantised base.

    Raises:
        ModelError: some of ``names`` are in them, and they are in 4 bits.
    """
    wrong = sorted({name for name in names if name.rpartition(".")[2] in _IN_EXPERTS})
    if wrong and _are_quantized(model):
        raise ModelError(
            f"lora.target_modules: {', '.join(wrong)} are in the experts of a "
            f"{type(model).__name__}, which PEFT 0.21 does not find once they are in 4 bits; name "
            "layers of the attention, or use tuning: lora"
        )


def quantize_experts(model: PreTrainedModel, storage: str, path: str) -> None:
    """Store the experts of ``model`` as ``storage``, in place; they must hold plain numbers.

    Nothing else is touched: a router is a thousandth of a base and decides which expert answers, so
    it stays whole. What is taken out of 4 bits lives as long as a layer's forward or backward pass.

    Raises:
        ModelError: they cannot be.
    """
    found = list(experts_of(model))
    if found and storage == "int8":
        raise ModelError(
            f"{path}: the experts of a {type(model).__name__} cannot be stored as int8, in which "
            "bitsandbytes stores linear layers only; use nf4 (tuning: qlora) or quantization: none"
        )
    for module, name in found:
        replace_parameter_4bit(module, name, compress_statistics=True, quant_type="nf4")
    for module in dict.fromkeys(module for module, _ in found):
        module.forward = partial(_recomputed, module.forward)


def _recomputed(forward: Callable[..., Tensor], *args: Tensor, **kwargs: Tensor) -> Tensor:
    """The forward pass once more in the backward pass, instead of keeping what it dequantised.

    Autograd would keep every layer's experts out of their 4 bits until the backward pass: the whole
    base in 16.
    """

    def once(*args: Tensor, **kwargs: Tensor) -> Tensor:
        with parametrize.cached():  # the loop over experts reads the weight for each of them
            return forward(*args, **kwargs)

    if not torch.is_grad_enabled():
        return once(*args, **kwargs)
    return checkpoint(partial(once, **kwargs), *args, use_reentrant=False, preserve_rng_state=False)


def stored_numbers(model: PreTrainedModel) -> Counter[str]:
    """How many weights beside the embeddings are stored how: nf4, int8, or a dtype's name."""
    found: Counter[str] = Counter()
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    skipped = {id(p) for end in ends if isinstance(end, nn.Module) for p in end.parameters()}
    for module in model.modules():
        for name, p in module.named_parameters(recurse=False):
            if id(p) not in skipped:
                skipped.add(id(p))
                kind, numbers = _stored(module, name, p)
                found[kind] += numbers
    return found


def _stored(module: nn.Module, name: str, p: Tensor) -> tuple[str, int]:
    if isinstance(module, Linear4bit) and name == "weight":
        return "nf4", module.in_features * module.out_features
    if isinstance(module, Linear8bitLt) and name == "weight":
        return "int8", p.numel()
    if isinstance(module, parametrize.ParametrizationList):
        [quantized] = module
        assert isinstance(quantized, Bnb4bitParametrization)
        return "nf4", math.prod(cast("torch.Size", quantized.quant_state.shape))
    return str(p.dtype).removeprefix("torch."), p.numel()


def storage_line(model: PreTrainedModel, storage: str, path: str) -> str:
    """What share of the weights is stored how, in one line.

    Raises:
        ModelError: less than half of what is no embedding is stored as ``storage``.
    """
    inside = stored_numbers(model)
    share = inside[storage] / inside.total()
    if share < _LEAST_SHARE:
        raise ModelError(
            f"{path}: only {share:.0%} of the weights of a {type(model).__name__} beside its "
            f"embeddings can be stored as {storage}; use tuning: lora, or another base"
        )
    embeddings = {id(p): p for p in _ends(model)}.values()
    whole = inside + Counter({str(p.dtype).removeprefix("torch."): p.numel() for p in embeddings})
    kinds = ", ".join(f"{n / whole.total():.1%} in {kind}" for kind, n in whole.most_common())
    return (
        f"{whole.total():,} weights: {kinds}; {share:.1%} of those beside embeddings in {storage}"
    )


def _ends(model: PreTrainedModel) -> Iterator[Tensor]:
    for end in (model.get_input_embeddings(), model.get_output_embeddings()):
        if isinstance(end, nn.Module):
            yield from end.parameters()


def _are_quantized(model: nn.Module) -> bool:
    return any(isinstance(module, Bnb4bitParametrization) for module in model.modules())
