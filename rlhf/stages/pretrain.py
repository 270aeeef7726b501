"""Stage ``pretrain``: a base from scratch, or one trained further, on text or conversations.

The path ``sandbox:corpus`` stands for the text that :mod:`rlhf.sandbox.corpus` generates; ``limit``
says how many documents. That is how the demo's base is made.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerFast,
    TrainingArguments,
    set_seed,
)

from rlhf import processes
from rlhf.chat import IGNORED, encode_completion, encode_demonstration, encode_text
from rlhf.config import PretrainConfig, SourceConfig
from rlhf.data.sources import read, read_texts
from rlhf.errors import ConfigError, DataError
from rlhf.model.checks.base_checks import refuse_unknown_tokens
from rlhf.model.load import BaseSpec, load_base, load_tokenizer
from rlhf.model.scratch import new_model, new_tokenizer
from rlhf.records import Demonstration
from rlhf.report import write_run_report
from rlhf.runs import new_run
from rlhf.sandbox.corpus import documents
from rlhf.training.arguments import save_trained, train, training_arguments
from rlhf.training.distributed_batches import Sharing

Row = dict[str, list[int]]

_CORPUS = "sandbox:corpus"
_DOCUMENTS = 10_000
"""Documents of the corpus where no limit is given."""
_EVAL_SEED = 1_000_003
"""Added to the seed for documents to evaluate on."""
_WINDOW = 25
"""Batches among which rows are sorted by length."""
_TOKENIZER_DOCUMENTS = 20_000
_TALKS = ("messages", "prompt_completion", "sharegpt", "alpaca", "hh")


class _Rows(Dataset[Row]):
    """Encoded rows, in the order in which they are to be read."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:
        return self._rows[index]


def run(config: PretrainConfig, *, resume: bool = False) -> Path:
    """Train every weight of a model on text; the result is a base for the other stages."""
    set_seed(config.seed)
    tokenizer = _tokenizer(config)
    model = _model(config, tokenizer)
    learned = _in_order(encoded_rows(config, config.data.train, tokenizer, config.seed), config)
    held_out = encoded_rows(config, config.data.eval, tokenizer, config.seed + _EVAL_SEED)
    with new_run("pretrain", config, resume=resume) as folder:
        trainer = Sharing(
            model,
            training_arguments(
                TrainingArguments,
                config,
                folder,
                evaluates=bool(held_out),
                activation_checkpointing=config.gradient_checkpointing,
            ),
            data_collator=_Padded(tokenizer),
            train_dataset=_Rows(learned),
            eval_dataset=_Rows(held_out) if held_out else None,
            processing_class=tokenizer,
        )
        train(trainer, folder, config)
        save_trained(model, tokenizer, folder, torch.float16)
        # a base is one folder: the weights, and the tokenizer that made them
        tokenizer.save_pretrained(str(folder.model))
    write_run_report(config.out)
    return Path(config.out)


def _tokenizer(config: PretrainConfig) -> PreTrainedTokenizerFast:
    source = config.tokenizer or config.base
    if source is not None:
        return load_tokenizer(source)
    if config.vocab_size is None:
        raise ConfigError("name a `tokenizer`, or the `vocab_size` of one to be trained")
    return new_tokenizer(_texts(config), config.vocab_size)


def _model(config: PretrainConfig, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    if config.base is not None:
        spec = BaseSpec(config.base, storage="none", dtype="float32")
        model = load_base(spec)
        refuse_unknown_tokens(tokenizer, model)
        return model.requires_grad_(requires_grad=True)
    assert config.architecture is not None
    return new_model(config.architecture, tokenizer)


def _texts(config: PretrainConfig) -> Iterator[str]:
    """What a new tokenizer is trained on; a sample is enough."""
    for source in config.data.train:
        if source.path == _CORPUS:
            for document in documents(config.seed, _TOKENIZER_DOCUMENTS):
                yield document.prompt + document.completion
        elif source.format in _TALKS:
            for talk in read(source, Demonstration):
                yield from (message.content for message in talk.messages)
        else:
            yield from read_texts(source)


def encoded_rows(
    config: PretrainConfig,
    sources: Iterable[SourceConfig],
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
) -> list[Row]:
    """What a run learns from: each document that fits ``data.max_length``, as token ids.

    Raises:
        DataError: a larger share than ``data.max_dropped`` does not fit.
    """
    rows = [row for source in sources for row in _encoded(source, tokenizer, seed, config)]
    longest = config.data.max_length
    kept = [row for row in rows if len(row["input_ids"]) <= longest]
    if len(rows) - len(kept) > config.data.max_dropped * len(rows):
        raise DataError(
            f"{len(rows) - len(kept)} of {len(rows)} documents are longer than data.max_length "
            f"({longest} tokens); raise it, or data.max_dropped to leave them out"
        )
    return kept


def _encoded(
    source: SourceConfig, tokenizer: PreTrainedTokenizerFast, seed: int, config: PretrainConfig
) -> Iterator[Row]:
    if source.path == _CORPUS:
        for document in documents(seed, source.limit or _DOCUMENTS):
            yield _row(*encode_completion(tokenizer, document.prompt, document.completion))
    elif source.format in _TALKS:
        for talk in read(source, Demonstration):
            yield _row(*encode_demonstration(tokenizer, talk.messages, talk.tools))
    else:
        ids = [token for text in read_texts(source) for token in encode_text(tokenizer, text)]
        width = config.data.max_length
        for start in range(0, len(ids), width):
            block = ids[start : start + width]
            yield _row(block, block)


def _row(ids: list[int], labels: list[int]) -> Row:
    return {"input_ids": ids, "labels": labels}


def _in_order(rows: Sequence[Row], config: PretrainConfig) -> list[Row]:
    """Rows of like length side by side, and otherwise the order in which they came.

    A corpus may teach one thing before another, so rows move within a window only.
    """
    batch = config.per_device_train_batch_size * processes.count()
    batch *= config.gradient_accumulation_steps
    shuffler = random.Random(config.seed)
    ordered: list[Row] = []
    for start in range(0, len(rows), batch * _WINDOW):
        window = sorted(rows[start : start + batch * _WINDOW], key=lambda r: len(r["input_ids"]))
        batches = [window[i : i + batch] for i in range(0, len(window), batch)]
        shuffler.shuffle(batches)
        ordered += [row for rows_ in batches for row in rows_]
    return ordered


class _Padded:
    """Rows of one batch, padded on the right."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        assert isinstance(tokenizer.pad_token_id, int)
        self._fill = {"input_ids": tokenizer.pad_token_id, "labels": IGNORED}

    def __call__(self, rows: Sequence[Row]) -> dict[str, Tensor]:
        width = max(len(row["input_ids"]) for row in rows)
        batch = {
            name: torch.tensor([row[name] + [fill] * (width - len(row[name])) for row in rows])
            for name, fill in self._fill.items()
        }
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        batch["attention_mask"] = (torch.arange(width)[None] < lengths[:, None]).long()
        return batch
