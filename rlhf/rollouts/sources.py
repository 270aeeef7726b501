"""What the methods share that learn from the policy's own responses: their prompts and rewards."""

import json
from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from rlhf.config import DataConfig, OnlineConfig
from rlhf.data.tokenized import prompt_dataset
from rlhf.errors import DataError
from rlhf.records import Prompt, to_json
from rlhf.rollouts.rewards import RewardFunc
from rlhf.runs import POLICY_STAGES, open_run
from rlhf.sandbox.measure import gold_score

_SANDBOX = "sandbox"


def prompts_that_fit(
    prompts: Sequence[Prompt], tokenizer: PreTrainedTokenizerFast, data: DataConfig, room: int
) -> Dataset:
    """The prompts that leave ``room`` for a response, in the column that TRL's trainers read.

    Beside them stands the ``record`` of each as JSON, for rewards that ask for more.
    """
    kept = [prompts[i] for i in prompt_dataset(prompts, tokenizer, data, room=room)["index"]]
    if any(prompt.tools or not all(m.plain for m in prompt.messages) for prompt in kept):
        raise DataError(
            "a prompt holds tools, calls of tools or thoughts, which rollouts cannot carry; write "
            "them into the messages' text, or train with sft, dpo or kto"
        )
    turns = [[{"role": m.role, "content": m.content} for m in prompt.messages] for prompt in kept]
    records = [json.dumps(to_json(prompt)) for prompt in kept]
    return Dataset.from_dict({"prompt": turns, "record": records})


def rewards_of(config: OnlineConfig) -> tuple[list[RewardFunc], list[float]]:
    """The reward that teaches and those that only look on, with their weights."""
    audits = [gold_score if name == _SANDBOX else name for name in config.audit]
    return [config.reward, *audits], [1.0] + [0.0] * len(audits)


def reward_parents(config: OnlineConfig) -> dict[str, Path]:
    """The runs that a method learns from and is audited by, by their role."""
    audits = [name for name in config.audit if name != _SANDBOX]
    return {
        "policy": open_run(config.policy, POLICY_STAGES).path,
        "reward": open_run(config.reward, "reward").path,
        **{f"audit {name}": open_run(name, "reward").path for name in audits},
    }
