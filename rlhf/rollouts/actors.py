"""The adapters that PPO starts with: where the policy comes from, and what the value is."""

from pathlib import Path
from typing import cast

from peft import PeftConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from rlhf.config import PPOKnobs, ValueModel
from rlhf.model.adapters import copy_adapter
from rlhf.model.engine.engines import Engine, InProcess
from rlhf.model.engine.vllm import VLLM
from rlhf.model.heads import ScoreHead, head_size
from rlhf.model.load import BaseSpec, fingerprint, load_base, load_tokenizer
from rlhf.model.roles import adapter_name
from rlhf.model.start import Start, load_start
from rlhf.rollouts.collector import Value
from rlhf.rollouts.rewards import Rewards
from rlhf.runs import is_run

_SERVED = "served"
"""Folder of the adapter that a server samples from."""


def load_policy(
    model: str | Path | PeftModel, peft_config: PeftConfig | None
) -> tuple[PeftModel, PreTrainedTokenizerFast, str]:
    """The policy as a trainable adapter, its tokenizer, and its base's fingerprint."""
    if isinstance(model, str | Path) and is_run(model):
        start = Start.of_run(model)
        loaded, tokenizer = load_start(start)
        if not isinstance(loaded, PeftModel):
            raise ValueError(f"{model}: PPO trains adapters, and this run trained the whole model")
        return loaded, tokenizer, start.fingerprint
    if isinstance(model, str | Path):
        if peft_config is None:
            raise ValueError(f"{model} is a base; give a peft_config for the policy's adapter")
        model = cast("PeftModel", get_peft_model(load_base(BaseSpec(str(model))), peft_config))
    path = str(cast("PreTrainedModel", model.get_base_model()).name_or_path)
    return model, load_tokenizer(path), fingerprint(BaseSpec(path))


def add_value(policy: PeftModel, rewards: Rewards, kind: ValueModel) -> Value:
    """Make the value's head, and for ``adapter`` an adapter of its own below it.

    An adapter starts as the reward run that weighs most, times its weight, or as the policy where
    no run has a weight. A head that reads the policy's states starts at 0, as does one that no
    reward has trained.
    """
    head = ScoreHead(head_size(cast("PreTrainedModel", policy.get_base_model()))).to(policy.device)
    source, place = "default", None
    if kind == "adapter" and rewards.main is not None:
        place, reward = rewards.main
        source = adapter_name("reward", reward.which)
        head.load_state_dict(
            {k: v * rewards.weights[place] for k, v in reward.head.state_dict().items()}
        )
    else:
        nn.init.zeros_(head.weight)
    if kind == "adapter":
        copy_adapter(policy, source, "value", trainable=True)
    return Value(head, kind == "adapter", place)


def sampling_engine(
    policy: PeftModel,
    tokenizer: PreTrainedTokenizerFast,
    knobs: PPOKnobs,
    folder: str | Path,
    base: str,
) -> Engine:
    """What samples from the policy; a server's adapters lie beside the checkpoints in ``folder``.

    Raises:
        ModelError: the server is not there, or does not serve the policy's base.
    """
    if knobs.rollout_engine == "transformers":
        return InProcess(policy, tokenizer)
    return VLLM(knobs.vllm_url, policy, tokenizer, Path(folder) / _SERVED, base)
