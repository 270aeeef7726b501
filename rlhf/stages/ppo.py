"""Proximal policy optimization of a policy run against a reward run, on one base."""

from functools import partial
from pathlib import Path

from peft import PeftModel
from transformers import set_seed

from rlhf.config import PPOConfig
from rlhf.data.prepare import load
from rlhf.model.adapters import refuse
from rlhf.model.start import Start, load_start
from rlhf.ppo.arguments import PPOArguments
from rlhf.ppo.trainer import PPOTrainer
from rlhf.records import Prompt
from rlhf.report import write_run_report
from rlhf.rollouts.sources import prompts_that_fit, reward_parents, rewards_of
from rlhf.runs import new_run
from rlhf.training.arguments import (
    precision,
    save_trained,
    train,
    training_arguments,
    within_context,
)
from rlhf.training.samples import record_samples


def run(config: PPOConfig, *, resume: bool = False) -> Path:
    """Align the policy with a reward model; the finished run folder."""
    set_seed(config.seed)
    start = Start.of_run(config.policy)
    refuse("ppo", start.tuning)
    parents = reward_parents(config)
    rewards, weights = rewards_of(config)
    records = load(config.data, Prompt)
    with new_run("ppo", config, parents=parents, resume=resume) as folder:
        model, tokenizer = load_start(start)
        assert isinstance(model, PeftModel)
        that_fit = partial(
            prompts_that_fit,
            tokenizer=tokenizer,
            data=within_context(config.data, model),
            room=config.max_new_tokens,
        )
        trainer = PPOTrainer(
            model=model,
            reward_funcs=rewards,
            args=training_arguments(
                PPOArguments,
                config,
                folder,
                evaluates=bool(records.eval),
                metric_for_best_model="eval_objective/scores",
                greater_is_better=True,
                reward_weights=weights,
                knobs=config,
                **precision(start),
            ),
            train_dataset=that_fit(records.train),
            eval_dataset=that_fit(records.eval) if records.eval else None,
            processing_class=tokenizer,
        )
        folder.record(base=start.facts(), data=records.files, records=records.notes)
        train(trainer, folder, config)
        save_trained(model, tokenizer, folder)
        record_samples(folder, model, tokenizer, records.eval or records.train)
    write_run_report(config.out)
    return Path(config.out)
