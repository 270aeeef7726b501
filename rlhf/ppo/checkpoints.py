"""What a checkpoint of PPO holds beside what Transformers' Trainer keeps: all that is learnt."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel

from rlhf.model.adapters import load_weights, save_adapter
from rlhf.model.heads import ScoreHead, load_head, save_head
from rlhf.model.roles import ADAPTER_OF, only_trainable_train

_VALUE = "value"
_VALUE_HEAD = "value_head.safetensors"
_STATE = "ppo_state.json"


def save(model: PeftModel, value_head: ScoreHead, state: Mapping[str, Any], folder: Path) -> None:
    """Write policy, value and ``state``."""
    save_adapter(model, folder)
    if ADAPTER_OF["value"] in model.peft_config:
        save_adapter(model, folder / _VALUE, ADAPTER_OF["value"])
    save_head(value_head, folder / _VALUE_HEAD)
    (folder / _STATE).write_text(json.dumps(state))


def restore(model: PeftModel, value_head: ScoreHead, folder: Path) -> dict[str, Any]:
    """Put policy and value back where they are; the state."""
    load_weights(model, folder, ADAPTER_OF["policy"])
    if ADAPTER_OF["value"] in model.peft_config:
        load_weights(model, folder / _VALUE, ADAPTER_OF["value"])
    head = load_head(folder / _VALUE_HEAD, value_head.weight.device)
    value_head.load_state_dict(head.state_dict())
    only_trainable_train(model)
    return json.loads((folder / _STATE).read_text())
