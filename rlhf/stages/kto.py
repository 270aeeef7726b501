"""Kahneman-Tversky optimization: raise good responses and lower bad ones, pairs or not."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

from datasets import Dataset
from peft import PeftModel
from torch.utils.data import RandomSampler, Sampler
from transformers import set_seed
from trl.trainer.kto_config import KTOConfig as KTOArguments
from trl.trainer.kto_trainer import KTOTrainer

from rlhf.config import KTOConfig
from rlhf.data.prepare import load
from rlhf.data.tokenized import feedback_dataset
from rlhf.errors import DataError
from rlhf.model.adapters import copy_adapter, refuse, unrounded
from rlhf.model.roles import ADAPTER_OF
from rlhf.model.start import load_start, starting_point
from rlhf.records import Feedback
from rlhf.report import write_run_report
from rlhf.runs import new_run
from rlhf.training.arguments import (
    precision,
    refuse_launcher,
    router_loss,
    save_trained,
    train,
    training_arguments,
    within_context,
)
from rlhf.training.samples import record_samples
from rlhf.training.trainer import StageTrainer

Row = dict[str, Any]


def run(config: KTOConfig, *, resume: bool = False) -> Path:
    """Align the SFT policy with good and bad responses; the finished run folder."""
    refuse_launcher("kto")
    set_seed(config.seed)
    start = starting_point(config.model, config.sft)
    refuse("kto", start.tuning)
    records = load(config.data, Feedback, config.labels)
    weight = config.undesirable_weight or _balance(records.train)
    parents = {"sft": start.parent} if start.parent else {}
    with new_run("kto", config, parents=parents, resume=resume) as folder:
        model, tokenizer = load_start(start, config.model)
        assert isinstance(model, PeftModel)
        data = within_context(config.data, model)
        encode = partial(feedback_dataset, tokenizer=tokenizer, data=data)
        with unrounded(model):
            trainer = FeedbackTrainer(
                model=model,
                args=training_arguments(
                    KTOArguments,
                    config,
                    folder,
                    evaluates=bool(records.eval),
                    beta=config.beta,
                    undesirable_weight=weight,
                    disable_dropout=True,
                    max_length=None,
                    remove_unused_columns=False,
                    # what TRL asks for, because it pairs rows once and for all; we pair each batch
                    train_sampling_strategy="sequential",
                    **precision(start),
                    **router_loss(start),
                ),
                train_dataset=encode(records.train),
                eval_dataset=encode(records.eval) or None,
                processing_class=tokenizer,
            )
        some = _of_two_responses(trainer.train_dataset)
        trainer.data_collator = partial(mismatched, collate=trainer.data_collator, some=some)
        copy_adapter(model, ADAPTER_OF["policy"], ADAPTER_OF["reference"])
        folder.record(base=start.facts(), data=records.files, records=records.notes)
        train(trainer, folder, config)
        save_trained(model, tokenizer, folder)
        record_samples(folder, model, tokenizer, records.eval or records.train)
    write_run_report(config.out)
    return Path(config.out)


class FeedbackTrainer(StageTrainer, KTOTrainer):
    """TRL's trainer on ids that are tokenised already, in a new order in every epoch."""

    def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        return dataset

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:  # noqa: ANN401, ARG002
        # not by length: the KL that a response is measured against is that of its batch
        assert isinstance(self.train_dataset, Dataset)
        return RandomSampler(self.train_dataset)


def mismatched(
    rows: Sequence[Row], collate: Callable[[list[Row]], Row], some: Sequence[Row] = ()
) -> Row:
    """A batch in which each prompt also has the response of another row, to measure the KL on.

    A row that is alone, as the last of an odd number may be, has that of one of ``some``.
    """
    others = [rows[-1], *rows[:-1]]
    if len(rows) == 1:
        own = rows[0]["completion_ids"]
        others = [next((row for row in some if row["completion_ids"] != own), rows[0])]
    return collate(
        [
            {**row, "KL_completion_ids": other["completion_ids"]}
            for row, other in zip(rows, others, strict=True)
        ]
    )


def _of_two_responses(rows: Dataset) -> list[Row]:
    """The first row, and the next one that has another response."""
    first: Row = rows[0]
    other = (cast("Row", row) for row in rows)
    return [first, *islice((r for r in other if r["completion_ids"] != first["completion_ids"]), 1)]


def _balance(records: Sequence[Feedback]) -> float:
    """The weight at which all bad responses together weigh as much as all the good ones.

    Raises:
        DataError: there are none of one kind.
    """
    good = sum(record.good for record in records)
    bad = len(records) - good
    if not good or not bad:
        only = "good" if good else "bad"
        raise DataError(
            f"all {len(records)} training responses are {only}; KTO learns from the difference, so "
            "give some of the other kind too"
        )
    return good / bad
