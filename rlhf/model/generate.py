"""Sampling tokens from whichever adapter is active."""

import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any, cast

import torch
from peft import PeftModel, PeftType
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.cache_utils import DynamicCache

from rlhf.chat import stop_token_ids
from rlhf.model.scoring import learns_prompt, next_logits, trunk

_CROWDED = 0.8
"""Above this share of rows that still grow, the ended ones stay in the batch."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How responses are drawn. Temperature 0 takes the likeliest token."""

    max_new_tokens: int = 128
    temperature: float = 1.0
    seed: int | None = None
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

    A response without a stop token was cut off at ``max_new_tokens``. Prompts of similar length
    share a batch; the order of the result is that of ``prompts``. ``on_progress`` is told how many
    responses have just been finished. With a seed the global generators are left as they were.
    """
    responses: list[list[int]] = [[] for _ in prompts]
    seeded = [] if sampling.seed is None else _devices()
    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(devices=seeded, enabled=sampling.seed is not None):
            if sampling.seed is not None:
                torch.manual_seed(sampling.seed)
            for chunk in _batches(model, prompts, sampling.batch_size):
                drawn = generate(
                    model,
                    tokenizer,
                    [prompts[i] for i in chunk],
                    sampling,
                    None if watch is None else partial(_watched, watch, chunk),
                )
                for i, ids in zip(chunk, drawn, strict=True):
                    responses[i] = ids
                if on_progress is not None:
                    on_progress(len(chunk))
    finally:
        model.train(training)
    return responses


def generate(
    model: PreTrainedModel | PeftModel,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[int]],
    sampling: Sampling,
    watch: Watch | None = None,
) -> list[list[int]]:
    """One batch of responses, prompts padded on the left.

    Nothing but the temperature shapes the distribution (no top-k, no top-p, no penalties), so that
    what is sampled from is what :func:`rlhf.model.scoring.logprobs` computes.
    """
    width = max(map(len, prompts))
    pad, device = tokenizer.pad_token_id, model.device
    ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in prompts], device=device)
    lengths = torch.tensor([len(p) for p in prompts], device=device)
    mask = torch.arange(width, device=device)[None] >= width - lengths[:, None]
    stops = stop_token_ids(tokenizer)
    if learns_prompt(model):
        drawn = _drawn_behind_prefix(model, ids, mask, stops, cast("int", pad), sampling)
    else:
        drawn = _drawn(model, ids, mask, stops, sampling, watch)
    return [_cut(row, stops) for row in drawn.tolist()]


def _drawn(
    model: PreTrainedModel | PeftModel,
    ids: Tensor,
    mask: Tensor,
    stops: Sequence[int],
    sampling: Sampling,
    watch: Watch | None,
) -> Tensor:
    """(batch, new): the tokens drawn; what follows a stop token means nothing.

    Rows that have ended leave the batch, so that nobody waits for the longest.
    """
    drawn = ids.new_zeros(len(ids), sampling.max_new_tokens)
    cache = DynamicCache(config=cast("PreTrainedModel", model).config)
    forward = trunk(model)
    ends = torch.tensor(stops, device=ids.device)
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
        tokens = draw(logits, sampling.temperature)
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
            cache.batch_select_indices(going.nonzero()[:, 0])
            rows, ids, positions, mask = rows[going], ids[going], positions[going], mask[going]
            going = going[going]
    return drawn


def _watched(watch: Watch, chunk: Sequence[int], rows: Sequence[int], *seen: Any) -> None:  # noqa: ANN401
    """Name the prompts by their place among all, not in the batch."""
    watch([chunk[row] for row in rows], *seen)


def draw(logits: Tensor, temperature: float, generator: torch.Generator | None = None) -> Tensor:
    """(batch,): a token for each row of (batch, vocab)."""
    if temperature == 0:
        return logits.argmax(dim=-1)
    likely = (logits / temperature).softmax(dim=-1)
    return likely.multinomial(1, generator=generator)[:, 0]


def _drawn_behind_prefix(
    model: PreTrainedModel | PeftModel,
    ids: Tensor,
    mask: Tensor,
    stops: Sequence[int],
    pad: int,
    sampling: Sampling,
) -> Tensor:
    """The same where PEFT puts what it has learned in front, which only its ``generate`` does."""
    shape: dict[str, Any] = (
        {"do_sample": True, "temperature": sampling.temperature, "top_k": 0}
        if sampling.temperature > 0
        else {"do_sample": False}
    )
    with _quiet() if _ignores_positions(model) else nullcontext():
        output = cast("Any", model).generate(
            input_ids=ids,
            attention_mask=mask.long(),
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=pad,
            eos_token_id=list(stops),
            use_cache=True,
            **shape,
        )
    assert isinstance(output, Tensor)
    return output[:, ids.shape[1] :]


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


def _devices() -> list[int]:
    return [torch.cuda.current_device()] if torch.cuda.is_available() else []
