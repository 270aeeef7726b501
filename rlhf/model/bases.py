"""Bases in memory, each shared by the adapters of several finished runs."""

import sys
import threading
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from peft import PeftConfig, PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rlhf.model.adapters import load_adapter
from rlhf.model.checks.base_checks import refuse_unknown_tokens
from rlhf.model.load import BaseSpec, load_base, load_tokenizer
from rlhf.model.scoring import Sequences, sequences
from rlhf.model.start import Start


@dataclass(slots=True, eq=False)
class InMemory:
    """A base in memory, with the adapters that were put on it.

    The first adapter wraps the base and acts inside it, so whoever was there before has to see the
    wrapped one, to switch the adapter off.
    """

    model: PreTrainedModel | PeftModel


@dataclass(frozen=True, slots=True, eq=False)
class Actor:
    """A base in memory and which of its adapters acts; None is the bare base."""

    base: InMemory
    adapter: str | None
    tokenizer: PreTrainedTokenizerFast
    lock: threading.RLock
    """One adapter is active at a time, so whoever shares the base takes turns."""

    @property
    def model(self) -> PreTrainedModel | PeftModel:
        """The base, with whatever adapters it has by now."""
        return self.base.model

    @property
    def learns_prompt(self) -> bool:
        """Whether the adapter is a learned prefix, which enters in PEFT's own forward."""
        return (
            isinstance(self.model, PeftModel)
            and self.adapter is not None
            and self.model.peft_config[self.adapter].is_prompt_learning
        )

    @property
    def context_length(self) -> int:
        """The most tokens that the model was built for."""
        return context_length(self.model, self.adapter)

    @contextmanager
    def acting(self) -> Generator[PreTrainedModel | PeftModel]:
        """Give the model this adapter, without gradients, for the length of a ``with`` block."""
        with self.lock, torch.no_grad():
            if not isinstance(self.model, PeftModel):
                yield self.model
            elif self.adapter is None:
                with self.model.disable_adapter():
                    yield self.model
            else:
                self.model.set_adapter(self.adapter, inference_mode=True)
                yield self.model

    def sequences(
        self, prompts: Sequence[Sequence[int]], responses: Sequence[Sequence[int]]
    ) -> Sequences:
        """Token ids as one batch on the model's device."""
        pad, device = self.tokenizer.pad_token_id, self.model.device
        assert isinstance(pad, int)
        return sequences(prompts, responses, pad_id=pad, device=device)


def context_length(model: PreTrainedModel | PeftModel, adapter: str | None = "default") -> int:
    """The most tokens that ``model`` was built for, without those of a learned prefix."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    virtual = 0
    if isinstance(model, PeftModel) and adapter is not None:
        virtual = getattr(model.peft_config[adapter], "num_virtual_tokens", None) or 0
    return (limit if isinstance(limit, int) else sys.maxsize) - virtual


@dataclass(slots=True)
class Bases:
    """Bases that are in memory, each with the adapters that were asked for."""

    _models: dict[tuple[str, BaseSpec, str], InMemory] = field(
        default_factory=dict[tuple[str, BaseSpec, str], InMemory]
    )
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def actor(self, start: Start) -> Actor:
        """What ``start`` describes, on a base that is already loaded wherever that is possible.

        PEFT holds one kind of adapter on a base; another kind gets a base of its own.
        """
        kind = ""
        if start.adapter is not None:
            kind = str(PeftConfig.from_pretrained(str(start.adapter)).peft_type)
        tokenizer = load_tokenizer(start.tokenizer)
        spec, print_ = start.spec, start.fingerprint
        loaded = [key for key in self._models if key[:2] == (print_, spec)]
        key = next((k for k in loaded if k[2] in ("", kind) or not kind), (print_, spec, kind))
        base = self._models.pop(key, None) or InMemory(_fitting_base(spec, tokenizer))
        name = None
        if start.adapter is not None:
            name = f"at_{abs(hash(str(start.adapter.resolve())))}"
            with self._lock:
                if not isinstance(base.model, PeftModel) or name not in base.model.peft_config:
                    base.model = load_adapter(base.model, start.adapter, name, trainable=False)
        base.model.eval()
        self._models[print_, spec, key[2] or kind] = base
        return Actor(base, name, tokenizer, self._lock)


def _fitting_base(spec: BaseSpec, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    model = load_base(spec)
    refuse_unknown_tokens(tokenizer, model)
    return model
