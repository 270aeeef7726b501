"""RLHF on one 4-bit base: label, reward, align, compare.

The public names below are loaded when they are first used, so that ``import rlhf`` stays cheap.
"""

import logging
import os
from importlib import import_module
from typing import TYPE_CHECKING

# TRL's trainers, the Hugging Face hub and Gradio phone home unless told not to before they are
# imported; where `kernels` is installed, transformers fetches machine code from the hub when a
# model could use it, and bitsandbytes as soon as it is imported, for a fast path without gradients
# that no base here takes (on CPUs with AVX512-BF16). What the user has set stays.
for _name, _value in {
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "USE_HUB_KERNELS": "NO",
    "LOCAL_KERNELS": f"kernels-community/quantization-bitsandbytes={os.devnull}",
}.items():
    os.environ.setdefault(_name, _value)
# It warns on every start, without `kernels` too, that it goes without.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)

__version__ = "0.1.0"

if TYPE_CHECKING:
    from rlhf.config import (
        BestOfNConfig,
        DPOConfig,
        GRPOConfig,
        KTOConfig,
        OnlineDPOConfig,
        PPOConfig,
        PretrainConfig,
        RewardConfig,
        RLOOConfig,
        SFTConfig,
        load_config,
    )
    from rlhf.errors import ConfigError, DataError, ModelError, RewardError, RLHFError, RunError
    from rlhf.label_client.client import LabelClient
    from rlhf.model.engine.generate import Sampling
    from rlhf.model.policies import Policies, load_policies
    from rlhf.model.scorer import Scorer, load_scorer
    from rlhf.ppo.arguments import PPOArguments
    from rlhf.ppo.trainer import PPOTrainer
    from rlhf.records import (
        Comparison,
        Demonstration,
        Feedback,
        Message,
        Preference,
        Prompt,
        Response,
        Vote,
        from_json,
        settle,
        to_json,
    )
    from rlhf.runs import FinishedRun, list_runs, open_run

__all__ = [
    "BestOfNConfig",
    "Comparison",
    "ConfigError",
    "DPOConfig",
    "DataError",
    "Demonstration",
    "Feedback",
    "FinishedRun",
    "GRPOConfig",
    "KTOConfig",
    "LabelClient",
    "Message",
    "ModelError",
    "OnlineDPOConfig",
    "PPOArguments",
    "PPOConfig",
    "PPOTrainer",
    "Policies",
    "Preference",
    "PretrainConfig",
    "Prompt",
    "RLHFError",
    "RLOOConfig",
    "Response",
    "RewardConfig",
    "RewardError",
    "RunError",
    "SFTConfig",
    "Sampling",
    "Scorer",
    "Vote",
    "from_json",
    "list_runs",
    "load_config",
    "load_policies",
    "load_scorer",
    "open_run",
    "settle",
    "to_json",
]

_HOME = {
    "BestOfNConfig": "rlhf.config",
    "GRPOConfig": "rlhf.config",
    "KTOConfig": "rlhf.config",
    "OnlineDPOConfig": "rlhf.config",
    "RLOOConfig": "rlhf.config",
    "DPOConfig": "rlhf.config",
    "PPOConfig": "rlhf.config",
    "PretrainConfig": "rlhf.config",
    "RewardConfig": "rlhf.config",
    "SFTConfig": "rlhf.config",
    "load_config": "rlhf.config",
    "ConfigError": "rlhf.errors",
    "DataError": "rlhf.errors",
    "ModelError": "rlhf.errors",
    "RewardError": "rlhf.errors",
    "RLHFError": "rlhf.errors",
    "RunError": "rlhf.errors",
    "Sampling": "rlhf.model.engine.generate",
    "Policies": "rlhf.model.policies",
    "load_policies": "rlhf.model.policies",
    "Scorer": "rlhf.model.scorer",
    "load_scorer": "rlhf.model.scorer",
    "PPOArguments": "rlhf.ppo.arguments",
    "PPOTrainer": "rlhf.ppo.trainer",
    "Comparison": "rlhf.records",
    "Demonstration": "rlhf.records",
    "Feedback": "rlhf.records",
    "Message": "rlhf.records",
    "Preference": "rlhf.records",
    "Prompt": "rlhf.records",
    "Response": "rlhf.records",
    "Vote": "rlhf.records",
    "from_json": "rlhf.records",
    "settle": "rlhf.records",
    "to_json": "rlhf.records",
    "FinishedRun": "rlhf.runs",
    "list_runs": "rlhf.runs",
    "open_run": "rlhf.runs",
    "LabelClient": "rlhf.label_client.client",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'rlhf' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
