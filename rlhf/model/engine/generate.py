"""Sampling tokens from whichever adapter is active."""

import random
import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from peft import PeftModel, PeftType
from torch import Tensor
from transformers import LogitsProcessor, PreTrainedModel, PreTrainedTokenizerFast

from rlhf.chat import stop_token_ids
from rlhf.model.engine.cache import keep_rows, roomy_cache
from rlhf.model.scoring import at_temperature, learns_prompt, next_logits, trunk

_CROWDED = 0.8
"""Above this share of rows that still grow, the ended ones stay in the batch."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How responses are drawn. Temperature 0 takes the likeliest token."""

    max_new_tokens: int = 128
    temperature: float = 1.0
    seed: int | None = None
    """The noise of each response follows from it and the response's number alone, whoever shares
    its batch; None takes it from torch's generator."""
    first: int = 0
    """Number of the first response, where others draw those before it."""
    batch_size: int = 64


Watch = Callable[[Sequence[int], int, Tensor, Tensor, Tensor], object]
"""Told at every step: the indices of the prompts that still grow (and, until they leave the batch,
of some that have ended), the step, and their states (n, hidden), logits (n, vocab) and new tokens
(n,)."""


@torch.no_grad()
def sample_ids(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    on_progress: Callable[[int], object] | None = None,
    watch: Watch | None = None,
) -> list[list[int]]:
    """One response per prompt as token ids, each cut after its first stop token.

    A response without a stop token was cut off at ``max_new_tokens``. Nothing but the temperature
    shapes the distribution (no top-k, no top-p, no penalties), so that what is sampled from is what
    :func:`rlhf.model.scoring.logprobs` computes. Prompts of similar length share a batch; the order
    of the result is that of ``prompts``. ``on_progress`` is told how many responses have just been
    finished.
    """
    responses: list[list[int]] = [[] for _ in prompts]
    chances = noise(len(prompts), sampling)
    stops = stop_token_ids(tokenizer)
    training = model.training
    model.eval()
    try:
        for chunk in _batches(model, prompts, sampling.batch_size):
            ids, mask = padded([prompts[i] for i in chunk], tokenizer, model.device)
            chance = chances[chunk].to(model.device, widest_float(model.device))
            batch = _Batch(ids, mask, chance, tuple(stops))
            if learns_prompt(model):
                drawn = _drawn_behind_prefix(model, batch, sampling)
            else:
                told = None if watch is None else partial(_watched, watch, chunk)
                drawn = _drawn(model, batch, sampling, told)
            for i, row in zip(chunk, drawn.tolist(), strict=True):
                responses[i] = _cut(row, stops)
            if on_progress is not None:
                on_progress(len(chunk))
    finally:
        model.train(training)
    return responses


@dataclass(frozen=True, slots=True)
class _Batch:
    """Prompts that are answered together, padded on the left."""

    ids: Tensor
    mask: Tensor
    noise: Tensor
    """(batch, max_new_tokens), from 0 to 1."""
    stops: tuple[int, ...]


def noise(num: int, sampling: Sampling) -> Tensor:
    """(num, max_new_tokens) numbers from 0 to 1, a row for each response."""
    length, seed = sampling.max_new_tokens, sampling.seed
    if seed is None:
        return torch.rand(num, length, dtype=torch.float64)
    rows = [random.Random(f"{seed} {sampling.first + i}") for i in range(num)]
    return torch.tensor([[r.random() for _ in range(length)] for r in rows], dtype=torch.float64)


def padded(
    prompts: Sequence[Sequence[int]], tokenizer: PreTrainedTokenizerFast, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Prompts of one width, padded on the left, and where there is no padding."""
    width = max(map(len, prompts))
    pad = cast("int", tokenizer.pad_token_id)
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=device)
    lengths = torch.tensor([len(p) for p in prompts], device=device)
    return ids, torch.arange(width, device=device)[None] >= width - lengths[:, None]


def _drawn(
    model: PreTrainedModel | PeftModel, batch: _Batch, sampling: Sampling, watch: Watch | None
) -> Tensor:
    """(batch, new): the tokens drawn; what follows a stop token means nothing.

    Rows that have ended leave the batch, so that nobody waits for the longest.
    """
    ids, mask, noise = batch.ids, batch.mask, batch.noise
    drawn = ids.new_zeros(noise.shape)
    cache = roomy_cache(cast("PreTrainedModel", model))
    forward = trunk(model)
    ends = torch.tensor(batch.stops, device=ids.device)
    rows = torch.arange(len(ids), device=ids.device)
    going = torch.ones_like(rows, dtype=torch.bool)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    for step in range(sampling.max_new_tokens):
        states = forward(
            input_ids=ids,
            attention_mask=mask.long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        logits = next_logits(model, states)
        tokens = draw(logits, sampling.temperature, noise[rows, step])
        drawn[rows, step] = tokens
        if watch is not None:
            watch(rows.tolist(), step, states, logits, tokens)
        going &= ~torch.isin(tokens, ends)
        left = int(going.sum())
        if not left:
            return drawn[:, : step + 1]
        ids, positions = tokens[:, None], positions[:, -1:] + 1
        mask = torch.nn.functional.pad(mask, (0, 1), value=True)
        # a smaller batch is worth a copy of the cache only now and then
        if left <= _CROWDED * len(rows):
            keep_rows(cache, going.nonzero()[:, 0])
            rows, ids, positions, mask = rows[going], ids[going], positions[going], mask[going]
            going = going[going]
    return drawn


def _watched(watch: Watch, chunk: Sequence[int], rows: Sequence[int], *seen: Any) -> None:  # noqa: ANN401
    """Name the prompts by their place among all, not in the batch."""
    watch([chunk[row] for row in rows], *seen)


def draw(
    logits: Float[Tensor, "batch vocab"], temperature: float, noise: Float[Tensor, " batch"]
) -> Int[Tensor, " batch"]:
    """The token at which each row's cumulative probability passes its ``noise``, from 0 to 1."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    probabilities = at_temperature(logits, temperature).softmax(dim=-1)
    if widest_float(logits.device) != torch.float64:
        probabilities, noise = probabilities.cpu(), noise.cpu()
    # in fp32 a sum over a large vocabulary would lose its tail
    passed = probabilities.cumsum(dim=-1, dtype=torch.float64)
    at = noise.double()[:, None] * passed[:, -1:]
    tokens = torch.searchsorted(passed, at, right=True)[:, 0].clamp(max=logits.shape[1] - 1)
    return tokens.to(logits.device)


def widest_float(device: torch.device) -> torch.dtype:
    """The widest numbers that a device holds: Apple's GPUs have no fp64."""
    return torch.float32 if device.type == "mps" else torch.float64


class _Drawn(LogitsProcessor):
    """Leaves HF's ``generate`` no choice but the token that :func:`draw` takes."""

    def __init__(self, noise: Tensor, temperature: float) -> None:
        self._noise, self._temperature = iter(noise.unbind(dim=1)), temperature

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:  # noqa: ARG002
        tokens = draw(scores.float(), self._temperature, next(self._noise))
        return torch.full_like(scores, -torch.inf).scatter(1, tokens[:, None], 0.0)


def _drawn_behind_prefix(
    model: PreTrainedModel | PeftModel, batch: _Batch, sampling: Sampling
) -> Tensor:
    """The same where PEFT puts what it has learned in front, which only its ``generate`` does."""
    with _quiet() if _ignores_positions(model) else nullcontext():
        output = cast("Any", model).generate(
            input_ids=batch.ids,
            attention_mask=batch.mask.long(),
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=batch.stops[0],
            eos_token_id=list(batch.stops),
            use_cache=True,
            do_sample=False,
            logits_processor=[_Drawn(batch.noise, sampling.temperature)],
        )
    assert isinstance(output, Tensor)
    return output[:, batch.ids.shape[1] :]


def _batches(
    model: PreTrainedModel | PeftModel, prompts: Sequence[Sequence[int]], size: int
) -> list[list[int]]:
    """Indices of the prompts that share a batch: those of similar length.

    Where PEFT puts learned tokens in front it ignores positions, and padding would stand between
    them and the prompt: there, only prompts of the same length.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    whole = [order]
    if _ignores_positions(model):
        whole = [list(group) for _, group in groupby(order, key=lambda i: len(prompts[i]))]
    return [group[i : i + size] for group in whole for i in range(0, len(group), size)]


def _ignores_positions(model: PreTrainedModel | PeftModel) -> bool:
    if not isinstance(model, PeftModel) or not learns_prompt(model):
        return False
    return model.active_peft_config.peft_type != PeftType.PREFIX_TUNING


@contextmanager
def _quiet() -> Generator[None]:
    """Nothing is padded where positions are ignored, so PEFT's warning about them is void."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Position ids are not supported", UserWarning)
        yield


def _cut(ids: list[int], stops: Iterable[int]) -> list[int]:
    """``ids`` up to and with the first stop token."""
    ends = set(stops)
    end = next((i for i, token in enumerate(ids) if token in ends), len(ids) - 1)
    return ids[: end + 1]
