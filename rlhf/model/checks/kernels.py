"""Whether the kernels of a quantised base work on this machine: tried, not looked up."""

from typing import Literal

import torch
from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant
from bitsandbytes.nn.modules import Linear4bit, Linear8bitLt, Params4bit

from rlhf.model.load import compute_dtype, device, differentiable

_WIDTH = 128


def kernel_error(storage: Literal["nf4", "int8"]) -> float:
    """Largest relative error of a product and of its gradient, against the stored weight's own.

    Raises:
        RuntimeError: there is no kernel for this device.
    """
    torch.manual_seed(0)
    dtype, where = compute_dtype(), device()
    layer = _layer(storage, dtype)
    layer.load_state_dict({"weight": torch.randn(_WIDTH, _WIDTH, dtype=dtype) / _WIDTH**0.5})
    layer = layer.to(where)
    differentiable(layer)
    x = torch.randn(8, _WIDTH, dtype=dtype, device=where, requires_grad=True)
    product = layer(x)
    [gradient] = torch.autograd.grad(product.sum(), x)
    weight = _stored(layer).float()
    expected = x.detach().float() @ weight.T
    expected_gradient = weight.sum(dim=0).expand(8, -1)
    return max(
        _relative(product.detach().float(), expected),
        _relative(gradient.float(), expected_gradient),
    )


def _layer(storage: Literal["nf4", "int8"], dtype: torch.dtype) -> Linear4bit | Linear8bitLt:
    if storage == "nf4":
        return Linear4bit(_WIDTH, _WIDTH, bias=False, compute_dtype=dtype, quant_type="nf4")
    return Linear8bitLt(_WIDTH, _WIDTH, bias=False, has_fp16_weights=False, threshold=6.0)


def _stored(layer: Linear4bit | Linear8bitLt) -> torch.Tensor:
    """The weight that the layer really holds, dequantised."""
    if isinstance(layer, Linear4bit):
        assert isinstance(layer.weight, Params4bit)
        return dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    assert layer.state.CB is not None
    assert layer.state.SCB is not None
    return int8_vectorwise_dequant(layer.state.CB, layer.state.SCB)


def _relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())
