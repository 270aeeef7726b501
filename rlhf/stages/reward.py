"""The reward model: an adapter and an fp32 head that score higher what raters preferred."""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import fmean, pstdev
from threading import RLock
from types import SimpleNamespace
from typing import Any, cast

import torch
from datasets import Dataset
from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast, set_seed
from trl.trainer.reward_config import RewardConfig as RewardArguments
from trl.trainer.reward_trainer import RewardTrainer

from rlhf.config import RewardConfig
from rlhf.data.prepare import load
from rlhf.data.tokenized import reward_dataset
from rlhf.model.adapters import refuse, trains_with_dropout, unrounded
from rlhf.model.bases import Actor, InMemory
from rlhf.model.heads import ScoreHead, attach_score_head, save_head
from rlhf.model.scorer import Scorer
from rlhf.model.shards import is_sharded
from rlhf.model.start import load_start, starting_point
from rlhf.records import Preference
from rlhf.report import write_run_report
from rlhf.rollouts.prompt_order import shuffled
from rlhf.runs import new_run
from rlhf.training.arguments import (
    precision,
    save_trained,
    train,
    training_arguments,
    within_context,
)
from rlhf.training.trainer import PairStageTrainer, loss_of_votes

_NUM_MEASURED = 256
"""Training pairs on which the scale of the scores is measured."""


def run(config: RewardConfig, *, resume: bool = False) -> Path:
    """Train a reward model on preferences, from the SFT policy; the finished run folder."""
    set_seed(config.seed)
    start = starting_point(config.model, config.sft)
    refuse("reward", start.tuning)
    records = load(config.data, Preference, config.labels)
    parents = {"sft": start.parent} if start.parent else {}
    with new_run("reward", config, parents=parents, resume=resume) as folder:
        model, tokenizer = load_start(start, config.model)
        data = within_context(config.data, model)
        encode = partial(
            reward_dataset,
            tokenizer=tokenizer,
            data=data,
            use_margin=config.use_margin,
            labels=config.labels,
        )
        with scoring(model) as head:
            with unrounded(model):
                trainer = PairTrainer(
                    model=model,
                    args=training_arguments(
                        RewardArguments,
                        config,
                        folder,
                        evaluates=bool(records.eval),
                        max_length=None,
                        disable_dropout=not trains_with_dropout(model),
                        **precision(start),
                    ),
                    train_dataset=encode(records.train),
                    eval_dataset=encode(records.eval) or None,
                    processing_class=tokenizer,
                )
            folder.record(base=start.facts(), data=records.files, records=records.notes)
            train(trainer, folder, config)
            if not is_sharded(model):
                folder.record(scores=_scale(trainer, tokenizer, head))
            save_head(head, folder.head, writes=folder.writes)
        save_trained(model, tokenizer, folder)
    write_run_report(config.out)
    return Path(config.out)


class PairTrainer(PairStageTrainer, RewardTrainer):
    """TRL's trainer, with scores read by us and each pair counted once, ties as half."""

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:  # noqa: ANN401 - Trainer's signature
        """Mean over the pairs of -log sigmoid(chosen - rejected - margin), or that of the votes."""
        mask = inputs["attention_mask"]
        tokens = model(input_ids=inputs["input_ids"], attention_mask=mask, use_cache=False).logits
        # the mask, not the pad token, tells where a row ends: a pad token may be the end token
        rows = torch.arange(len(mask), device=mask.device)
        scores = tokens[rows, mask.sum(dim=1) - 1]
        counts = rows % (len(rows) // 2) < inputs.get("num_pairs", len(rows))
        output = SimpleNamespace(logits=torch.where(counts[:, None], scores, scores.detach()))
        counts = counts.chunk(2)[0]

        def scored(**_: object) -> SimpleNamespace:
            return output

        loss = super().compute_loss(cast("Any", scored), inputs)
        chosen, rejected = output.logits.detach().squeeze(1).chunk(2)
        better = (chosen > rejected).float() + 0.5 * (chosen == rejected).float()
        # TRL averages over batches, of which the last is short, and counts a tie as wrong
        metrics = self._metrics["train" if self.network.training else "eval"]
        for name, of_pairs in (("accuracy", better), ("margin", chosen - rejected)):
            of_all = self.accelerator.gather_for_metrics(of_pairs.where(counts, torch.nan))
            found = cast("torch.Tensor", of_all)
            metrics[name][-1:] = found[~found.isnan()].tolist()
        if "share" in inputs:
            first, second = output.logits.squeeze(1).chunk(2)
            of_pairs = loss_of_votes(first - second, inputs["share"], inputs["weight"])
            loss = of_pairs.where(counts, 0.0).mean()
        if return_outputs:
            return loss, {"logits": output.logits}
        if "share" in inputs:
            return self.of_step(cast("torch.Tensor", loss), inputs, num_items_in_batch)
        left_out = nn.functional.logsigmoid(chosen - rejected - inputs.get("margin", 0.0))[~counts]
        mean = cast("torch.Tensor", loss) + left_out.sum() / len(counts)
        return self.of_step(mean, inputs, num_items_in_batch)

    def leave_out(self, batch: dict[str, Any], first: int) -> None:
        """See :class:`rlhf.training.distributed_batches.Sharing`."""
        batch["num_pairs"] = first


@contextmanager
def scoring(model: PreTrainedModel | PeftModel) -> Generator[ScoreHead]:
    """Give ``model`` a score head for the length of a ``with`` block, then its own output again.

    Saved with the score head for an output, a whole model could not be loaded as a base.
    """
    base = cast(
        "PreTrainedModel", model.get_base_model() if isinstance(model, PeftModel) else model
    )
    output, tied = base.get_output_embeddings(), base.config.tie_word_embeddings
    head = attach_score_head(base)
    base.config.num_labels = 1
    yield head
    base.set_output_embeddings(output)
    base.config.tie_word_embeddings = tied


def _scale(
    trainer: PairTrainer, tokenizer: PreTrainedTokenizerFast, head: ScoreHead
) -> dict[str, float]:
    """Mean and deviation of the scores of training responses, to read raw scores against."""
    data = cast("Dataset", trainer.train_dataset)
    some = sample_of(data, _NUM_MEASURED, trainer.args.seed)
    rows = [*some["chosen_ids"], *some["rejected_ids"]]
    model = cast("PreTrainedModel | PeftModel", trainer.network.eval())
    adapter = "default" if isinstance(model, PeftModel) else None
    found = Scorer(Actor(InMemory(model), adapter, tokenizer, RLock()), head).score_ids(
        rows, [[]] * len(rows)
    )
    return {"mean": fmean(found), "std": pstdev(found)}


def sample_of(data: Dataset, size: int, seed: int) -> Dataset:
    """So many rows of ``data``, all of them where there are fewer; in files the first are alike."""
    return data.select(sorted(shuffled(len(data), seed)[:size]))
