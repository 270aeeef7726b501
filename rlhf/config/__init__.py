"""Every knob of every stage: typed, frozen, strict. A YAML file is one of these written out."""

from rlhf.config.loading import (
    CONFIG_OF,
    SIBLINGS,
    build,
    load_config,
    load_stage,
    to_dict,
    to_yaml,
)
from rlhf.config.online import (
    BestOfNConfig,
    GRPOConfig,
    OnlineConfig,
    OnlineDPOConfig,
    PPOConfig,
    RLOOConfig,
    ValueModel,
)
from rlhf.config.stages import (
    DataConfig,
    DPOConfig,
    Dtype,
    Format,
    KTOConfig,
    LoraConfig,
    ModelConfig,
    PretrainConfig,
    Quantization,
    RewardConfig,
    RunConfig,
    SFTConfig,
    SourceConfig,
    StageConfig,
    Tuning,
)

__all__ = [
    "CONFIG_OF", "SIBLINGS", "BestOfNConfig", "DPOConfig", "DataConfig", "Dtype", "Format",
    "GRPOConfig", "KTOConfig", "LoraConfig", "ModelConfig", "OnlineConfig", "OnlineDPOConfig",
    "PPOConfig", "PretrainConfig", "Quantization", "RLOOConfig", "RewardConfig", "RunConfig",
    "SFTConfig", "SourceConfig", "StageConfig", "Tuning", "ValueModel", "build", "load_config",
    "load_stage", "to_dict", "to_yaml",
]  # fmt: skip
