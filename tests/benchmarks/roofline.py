"""The fastest that a device could do a phase: what must be read, and what must be multiplied."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from rlhf.config import ModelConfig
from rlhf.memory.shapes import Shape
from rlhf.memory.weights import adapter_tensors, rest_bytes, trunk_bytes
from rlhf.model.load import compute_dtype, device


@dataclass(frozen=True)
class Peaks:
    """Of a device: products of the trunk's dtype, and reads of its memory."""

    flops: float
    bytes_per_s: float
    source: str


DATA_SHEETS = {
    "H200": (989e12, 4.8e12),
    "H100 PCIe": (756e12, 2.0e12),
    "H100 NVL": (835e12, 3.9e12),
    "H100": (989e12, 3.35e12),
    "A100-SXM4-80GB": (312e12, 2.04e12),
    "A100": (312e12, 1.56e12),
    "L40S": (362e12, 0.864e12),
    "L4": (121e12, 0.3e12),
    "RTX 5090": (210e12, 1.79e12),
    "RTX 4090": (165e12, 1.01e12),
    "RTX 3090": (71e12, 0.936e12),
}
"""NVIDIA's data sheets: dense bf16 products with fp32 sums, and memory bandwidth. The first name
that the device's own contains decides."""


@cache
def peaks() -> Peaks:
    """Of this process's device: by its data sheet, or measured where there is none."""
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name()
        for known, (flops, bandwidth) in DATA_SHEETS.items():
            if known in name:
                return Peaks(flops, bandwidth, f"data sheet: {known}")
    return measured_peaks()


def measured_peaks() -> Peaks:
    """What a large product and a large copy reach here."""
    big = 8192 if torch.cuda.is_available() else 512
    a = torch.randn(big, big, device=device()).to(compute_dtype())
    product = _seconds(lambda: a @ a)
    long = torch.empty((1 << 30) if torch.cuda.is_available() else (1 << 24), device=device())
    copied = long.clone()
    copy = _seconds(lambda: copied.copy_(long))
    return Peaks(2 * big**3 / product, 2 * long.nbytes / copy, "measured: a product and a copy")


def _seconds(work: Callable[[], object], times: int = 10) -> float:
    work()
    best = float("inf")
    for _ in range(times):
        synchronize()
        start = time.perf_counter()
        work()
        synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def synchronize() -> None:
    """Wait for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclass(frozen=True)
class Work:
    """One model at work: its shape, how it is stored, and the bytes of a number it computes in."""

    shape: Shape
    model: ModelConfig
    dtype: int

    def forward_flops(self, tokens: int, length: int, outputs: int) -> float:
        """Two for each weight and token, and attention over ``length``, half of it masked.

        ``outputs`` tokens meet the vocabulary.
        """
        shape = self.shape
        adapter = sum(adapter_tensors(shape, self.model))
        attention = 2 * shape.layers * shape.heads * shape.head_dim * length
        per_token = 2 * (shape.in_linears + adapter) + attention
        return tokens * per_token + 2.0 * outputs * shape.vocab * shape.hidden

    def training_flops(self, tokens: int, length: int, outputs: int, *, repeats: bool) -> float:
        """A forward pass, and as much again for the gradients of the states.

        Frozen weights have no gradients. Checkpointing repeats the forward pass.
        """
        return self.forward_flops(tokens, length, outputs) * (3 if repeats else 2)

    def step_seconds(self, peak: Peaks, rows: int, context: int) -> float:
        """One new token for each of ``rows``: every weight and the cache are read once."""
        shape = self.shape
        read = (
            trunk_bytes(shape, self.model.storage, self.dtype)
            + rest_bytes(shape, self.dtype)
            + shape.vocab * shape.hidden * self.dtype
            + sum(adapter_tensors(shape, self.model)) * self.dtype
            + 2 * shape.layers * shape.kv_heads * shape.head_dim * rows * context * self.dtype
        )
        flops = self.forward_flops(rows, 2 * context, rows)
        return max(read / peak.bytes_per_s, flops / peak.flops)

    def sampling_seconds(self, peak: Peaks, rows: int, prompt: int, response: int) -> float:
        """The prompts at once, then token by token."""
        start = self.forward_flops(rows * prompt, prompt, rows) / peak.flops
        steps = (self.step_seconds(peak, rows, prompt + i) for i in range(1, response))
        return start + sum(steps)
