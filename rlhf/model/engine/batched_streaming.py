"""Answers of several policies that grow in one batch, on the base that they share."""

import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora.layer import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from rlhf.model.bases import Actor
from rlhf.model.engine.cache import keep_rows, roomy_cache
from rlhf.model.engine.generate import draw, padded

MOST_ROWS = 16
"""Answers in one batch; who comes later waits until one has ended."""

MIXED = frozenset(
    (
        "gemma2",
        "gemma3_text",
        "gpt2",
        "gpt_neox",
        "llama",
        "mistral",
        "phi",
        "phi3",
        "qwen2",
        "qwen3",
    )
)
"""Architectures whose layers see a batch row by row, by which PEFT tells whose a row is.

OPT folds rows and tokens into one, and an expert of a mixture sees some of the tokens only.
"""

_BARE = "__base__"
"""PEFT's name for a row without an adapter."""


@dataclass(slots=True, eq=False)
class Growing:
    """An answer as far as it has grown."""

    actor: Actor
    prompt: Sequence[int]
    noise: Tensor
    """A number from 0 to 1 for each token that it may have."""
    temperature: float
    stops: frozenset[int]
    ids: list[int] = field(default_factory=list[int])
    over: bool = False

    def take(self, logits: Tensor) -> None:
        """Grow by the token that ``logits`` (vocab,) and the noise make, or end."""
        noise = self.noise[len(self.ids)].to(logits.device)
        token = int(draw(logits[None].float(), self.temperature, noise[None]))
        if token not in self.stops:
            self.ids.append(token)
        self.over = token in self.stops or len(self.ids) == len(self.noise)


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows, and what the model remembers of them."""

    rows: list[Growing]
    layers: Sequence[nn.Module]
    cache: DynamicCache
    mask: Tensor
    positions: Tensor


class Together:
    """Answers on one base that may share a batch, each with its own adapter.

    Whoever needs a token takes the step for all, so there is no thread to end and nothing is held
    while nobody reads. Who comes joins at the next step, for which everything is read anew.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: list[Growing] = []
        self._batch: _Batch | None = None

    def grow(self, row: Growing) -> Iterator[list[int]]:
        """The ids of ``row`` whenever there are more of them, until it has ended."""
        with self._lock:
            self._rows.append(row)
        seen = 0
        try:
            while not row.over or len(row.ids) > seen:
                with self._lock:
                    if len(row.ids) == seen and not row.over:
                        self._step([row for row in self._rows if not row.over][:MOST_ROWS])
                    ids = list(row.ids)
                if len(ids) > seen:
                    seen = len(ids)
                    yield ids
        finally:
            with self._lock:
                self._rows.remove(row)
                if not self._rows:
                    self._batch = None  # nothing to remember

    def _step(self, rows: list[Growing]) -> None:
        """A token for each of ``rows``."""
        # who is interrupted leaves nothing half done: the next step reads everything anew
        batch, self._batch = self._batch, None
        with rows[0].actor.lock, torch.no_grad():
            if batch is None or not set(rows) <= set(batch.rows):
                ids, batch = _read(rows)
            else:
                ids, batch = _next(rows, batch)
            logits = _logits(ids, batch)
        for row, its in zip(rows, logits, strict=True):
            row.take(its)
        self._batch = batch


def may_mix(actor: Actor) -> bool:
    """Whether PEFT can act as ``actor`` for a row of a batch whose other rows are others'."""
    if actor.adapter is None or not isinstance(actor.model, PeftModel):
        return True
    config = actor.model.peft_config[actor.adapter]
    by_row = actor.model.config.get_text_config().model_type in MIXED
    return by_row and type(config) is LoraConfig and not config.use_dora


def _read(rows: list[Growing]) -> tuple[Tensor, _Batch]:
    """All that there is of ``rows``, to be read from the beginning."""
    actor = rows[0].actor
    ids, mask = padded([[*r.prompt, *r.ids] for r in rows], actor.tokenizer, actor.model.device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    layers = [module for module in actor.model.modules() if isinstance(module, LoraLayer)]
    cache = roomy_cache(cast("PreTrainedModel", actor.model))
    return ids, _Batch(rows, layers, cache, mask, positions)


def _next(rows: list[Growing], batch: _Batch) -> tuple[Tensor, _Batch]:
    """The last token of each of ``rows``, with what is remembered of them alone."""
    mask, positions = batch.mask, batch.positions
    if len(rows) < len(batch.rows):
        going = set(rows)
        kept = [i for i, row in enumerate(batch.rows) if row in going]
        index = torch.tensor(kept, device=mask.device)
        keep_rows(batch.cache, index)
        mask, positions = mask[index], positions[index]
    mask = torch.nn.functional.pad(mask, (0, 1), value=True)
    ids = torch.tensor([row.ids[-1:] for row in rows], device=mask.device)
    return ids, _Batch(rows, batch.layers, batch.cache, mask, positions[:, -1:] + 1)


def _logits(ids: Tensor, batch: _Batch) -> Tensor:
    """(batch, vocab): what follows the last of ``ids``."""
    plain: dict[str, Any] = {
        "input_ids": ids,
        "attention_mask": batch.mask.long(),
        "position_ids": batch.positions,
        "past_key_values": batch.cache,
        "use_cache": True,
        "logits_to_keep": 1,
    }
    actors = [row.actor for row in batch.rows]
    if len({actor.adapter for actor in actors}) == 1:
        with actors[0].acting() as model:
            return model(**plain).logits[:, -1]
    with _mixed(batch.layers, [actor.adapter or _BARE for actor in actors]):
        return actors[0].model(**plain).logits[:, -1]


@contextmanager
def _mixed(layers: Sequence[nn.Module], names: list[str]) -> Generator[None]:
    """Tell LoRA layers whose each row is; PEFT's own way forgets to stop after an error."""

    def tell(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:  # noqa: ANN401
        return args, kwargs | {"adapter_names": names}

    handles = [layer.register_forward_pre_hook(tell, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
