"""Adapters: every tuning method made, loaded, copied and saved; their weights are always fp32."""

import copy
import math
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import (
    AdaLoraConfig,
    AdaLoraModel,
    IA3Config,
    LoraConfig,
    PeftConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
    get_peft_model_state_dict,
    set_peft_model_state_dict,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf.config import LoraConfig as Lora
from rlhf.config import ModelConfig, Tuning
from rlhf.errors import ModelError
from rlhf.model.checks.base_checks import refuse_other_tensors
from rlhf.model.experts import has_experts, linears_beside_experts, refuse_experts
from rlhf.model.lora import fuse
from rlhf.model.shards import whole

WEIGHTS = "adapter_model.safetensors"
"""PEFT's name for the file beside ``adapter_config.json``."""

_IMPORTANCES = ("ipt", "exp_avg_ipt", "exp_avg_unc")
_STATE_SPACE = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
_LOW_RANK: tuple[Tuning, ...] = ("lora", "qlora", "dora", "rslora")
ALIGNABLE: dict[str, tuple[Tuning, ...]] = {
    "reward": ("full", *_LOW_RANK, "ia3"),
    "dpo": ("full", *_LOW_RANK, "ia3"),
    "kto": (*_LOW_RANK, "ia3"),
    **dict.fromkeys(("ppo", "rloo", "grpo", "online-dpo"), (*_LOW_RANK, "ia3")),
}
"""Which tuning methods each stage can go on with after SFT."""

_WHY_NOT: dict[Tuning, str] = {
    "full": "its roles are adapters on one base",
    "adalora": "it lets one adapter on a base prune its ranks, and this stage needs copies",
    "prefix": "PEFT cannot hold a second, frozen copy of a learned prefix",
    "prompt": "PEFT cannot hold a second, frozen copy of a learned prompt",
    "p_tuning": "PEFT cannot hold a second, frozen copy of a learned prompt",
}


def refuse(stage: str, tuning: Tuning) -> None:
    """Say in one sentence why ``stage`` cannot train ``tuning``; nothing where it can.

    Raises:
        ModelError: it cannot.
    """
    able = ALIGNABLE[stage]
    if tuning not in able:
        raise ModelError(
            f"{stage} cannot train tuning: {tuning} ({_WHY_NOT[tuning]}); "
            f"run SFT with {', '.join(able[:-1])} or {able[-1]}"
        )


def new_adapter(model: PreTrainedModel, config: ModelConfig) -> PeftModel:
    """``model`` with a fresh trainable adapter called ``default``.

    Raises:
        ModelError: the method does not know the architecture, or no such layers are there.
    """
    with _or_model_error(config.base):
        peft = get_peft_model(model, _peft_config(model, config))
    assert isinstance(peft, PeftModel)
    return fuse(peft)


def load_adapter(
    model: PreTrainedModel | PeftModel,
    folder: Path,
    name: str = "default",
    *,
    trainable: bool = True,
) -> PeftModel:
    """``model`` with the adapter saved at ``folder``; an adapter that is already there stays.

    A learned prompt comes back frozen: p-tuning's encoder is not saved, only what it produced.

    Raises:
        ModelError: there is no adapter, it was made for another architecture, or its tensors are
            not all there.
    """
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"{folder}: no adapter_config.json; give the adapter folder of a run")
    config = PeftConfig.from_pretrained(str(folder))
    trainable = trainable and not config.is_prompt_learning
    with _or_model_error(str(folder)), warnings.catch_warnings():
        # it speaks of missing keys only, and in a warning
        warnings.filterwarnings("ignore", message="Found missing adapter keys")
        if isinstance(model, PeftModel):
            model.load_adapter(str(folder), name, is_trainable=trainable)
        else:
            model = PeftModel.from_pretrained(
                cast("Any", model), str(folder), adapter_name=name, is_trainable=trainable
            )
    _refuse_other_tensors(model, folder, name)
    return fuse(model)


def copy_adapter(model: PeftModel, source: str, name: str, *, trainable: bool = False) -> None:
    """A second adapter ``name`` with the weights of ``source``; one that is there is overwritten.

    TRL copies by a pattern on parameter names that misses IA³'s, so its copy is not relied on.
    """
    if name not in model.peft_config:
        model.add_adapter(name, copy.deepcopy(model.peft_config[source]))
    state = {k: v.clone() for k, v in _state(model, source).items()}
    missing = set_peft_model_state_dict(model, state, adapter_name=name).unexpected_keys
    assert not missing, missing
    model.set_requires_grad(name, requires_grad=trainable)


def save_adapter(
    model: PeftModel, folder: Path, name: str = "default", *, writes: bool = True
) -> None:
    """Write one adapter, whatever it is called, so that PEFT loads it from ``folder``.

    Of several processes with a part each, all must call it and one of them ``writes``.
    """
    state = whole(_state(model, name))
    if not writes:
        return
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    config = copy.deepcopy(model.peft_config[name])
    config.inference_mode = True
    config.save_pretrained(str(folder))


def load_weights(model: PeftModel, folder: Path, name: str) -> None:
    """Put the weights saved at ``folder`` into an adapter that is already there.

    Raises:
        ModelError: they are not those of the adapter.
    """
    _refuse_other_tensors(model, folder, name)
    set_peft_model_state_dict(model, load_file(folder / WEIGHTS), adapter_name=name)


@contextmanager
def unrounded(model: nn.Module) -> Generator[None]:
    """Undo what happens to the dtype of trainable tensors inside the block.

    TRL's trainers round them to bf16 in their constructor when the base is quantised; below
    1e-5 such weights swallow their updates. The tensors from before are put back, not cast back.
    """
    before = {name: p.data for name, p in model.named_parameters() if p.requires_grad}
    yield
    parameters = dict(model.named_parameters())
    for name, data in before.items():
        parameters[name].data = data


def trains_with_dropout(model: nn.Module) -> bool:
    """Whether an adapter's config asks for dropout."""
    if not isinstance(model, PeftModel):
        return False
    return any(
        isinstance(config, LoraConfig) and config.lora_dropout > 0
        for config in model.peft_config.values()
    )


def schedule_ranks(model: nn.Module, total_steps: int) -> None:
    """Tell AdaLoRA how long training is: it prunes in the middle and settles in the last third."""
    if (tuner := _adalora(model)) is None:
        return
    config = cast("AdaLoraConfig", tuner.peft_config["default"])
    config.total_step = total_steps
    config.tinit = total_steps // 10
    config.tfinal = min(max(1, total_steps // 3), total_steps - 1)


def allocate_ranks(model: nn.Module, step: int) -> None:
    """Let AdaLoRA move its budget; after the optimizer's step, while gradients are there.

    ``step`` counts from 0.
    """
    if (tuner := _adalora(model)) is not None:
        tuner.update_and_allocate(step)


def rank_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """What AdaLoRA knows beside its weights: importances so far, and which ranks it kept."""
    if (tuner := _adalora(model)) is None:
        return {}
    state = {
        f"{kind}/{name}": tensor
        for kind in _IMPORTANCES
        for name, tensor in getattr(tuner.rankallocator, kind).items()
    }
    kept = cast("AdaLoraConfig", tuner.peft_config["default"]).rank_pattern or {}
    return state | {f"kept/{name}": torch.tensor(ranks) for name, ranks in kept.items()}


def restore_ranks(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Undo :func:`rank_state`."""
    tuner = _adalora(model)
    assert tuner is not None
    for kind in _IMPORTANCES:
        found = {n.partition("/")[2]: t for n, t in state.items() if n.startswith(f"{kind}/")}
        setattr(tuner.rankallocator, kind, found)
    kept = {n.partition("/")[2]: t.tolist() for n, t in state.items() if n.startswith("kept/")}
    cast("AdaLoraConfig", tuner.peft_config["default"]).rank_pattern = kept or None


def orthogonality(model: nn.Module) -> torch.Tensor | None:
    """AdaLoRA's penalty that keeps its singular vectors orthogonal; None for other methods.

    PEFT adds it to a model output's ``loss``, which TRL's trainers do not read.
    """
    if (tuner := _adalora(model)) is None:
        return None
    weight = cast("AdaLoraConfig", tuner.peft_config["default"]).orth_reg_weight
    penalties: list[torch.Tensor] = []
    for name, p in tuner.named_parameters():
        if "lora_A.default" in name or "lora_B.default" in name:
            gram = p @ p.T if "lora_A" in name else p.T @ p
            eye = torch.eye(gram.shape[0], device=gram.device, dtype=gram.dtype)
            penalties.append((gram - eye).norm())
    return weight * torch.stack(penalties).mean()


def _peft_config(model: PreTrainedModel, config: ModelConfig) -> PeftConfig:
    if config.tuning == "adalora":
        rank = config.lora.rank
        # the schedule is set when training starts and its length is known
        return AdaLoraConfig(
            **_low_rank(model, config), target_r=rank, init_r=math.ceil(1.5 * rank), total_step=100
        )
    if config.tuning == "ia3":
        # beside experts, PEFT knows the attention's layers only if they are named
        own: dict[str, Any] = {"target_modules": ["k_proj", "v_proj"], "feedforward_modules": []}
        own = own if has_experts(model) else {}
        return IA3Config(**own, task_type=TaskType.CAUSAL_LM, fan_in_fan_out=_transposed(model))
    virtual: dict[str, Any] = {
        "task_type": TaskType.CAUSAL_LM,
        "num_virtual_tokens": config.num_virtual_tokens,
    }
    if config.tuning == "prefix":
        return PrefixTuningConfig(**virtual)
    # where the embeddings are narrower than the trunk (OPT-350m), PEFT would take the trunk's width
    width = cast("nn.Embedding", model.get_input_embeddings()).embedding_dim
    if config.tuning == "prompt":
        return PromptTuningConfig(**virtual, token_dim=width)
    if config.tuning == "p_tuning":
        return PromptEncoderConfig(**virtual, token_dim=width, encoder_hidden_size=width)
    return LoraConfig(
        **_low_rank(model, config),
        r=config.lora.rank,
        use_dora=config.tuning == "dora",
        use_rslora=config.tuning == "rslora",
    )


def _low_rank(model: PreTrainedModel, config: ModelConfig) -> dict[str, Any]:
    lora = config.lora
    return {
        "task_type": TaskType.CAUSAL_LM,
        "lora_alpha": 2 * lora.rank if lora.alpha is None else lora.alpha,
        "lora_dropout": lora.dropout,
        "target_modules": _targets(model, lora),
        "exclude_modules": _excluded(model) if lora.target_modules == "all-linear" else None,
        "fan_in_fan_out": _transposed(model),
    }


def _targets(model: PreTrainedModel, lora: Lora) -> str | list[str]:
    if not has_experts(model):
        return lora.target_modules
    if lora.target_modules == "all-linear":
        return linears_beside_experts(model)
    refuse_experts(model, lora.target_modules)
    return lora.target_modules


def _excluded(model: PreTrainedModel) -> list[str] | None:
    """Layers of state-space models whose weights kernels read past an adapter; PEFT refuses."""
    return ["conv1d", "out_proj"] if model.config.model_type in _STATE_SPACE else None


def _transposed(model: nn.Module) -> bool:
    """Whether linear weights are stored as (in, out), as GPT-2's are unless quantised."""
    return any(isinstance(module, Conv1D) for module in model.modules())


def _state(model: PeftModel, name: str) -> dict[str, torch.Tensor]:
    return get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)


def _refuse_other_tensors(model: PeftModel, folder: Path, name: str) -> None:
    with safe_open(folder / WEIGHTS, framework="pt") as file:
        found = set(cast("list[str]", file.keys()))
    expected = set(_state(model, name))
    refuse_other_tensors(
        expected - found, found - expected, str(folder), "put the file back that the run wrote"
    )


def _adalora(model: nn.Module) -> AdaLoraModel | None:
    tuner = model.base_model if isinstance(model, PeftModel) else None
    return tuner if isinstance(tuner, AdaLoraModel) else None


@contextmanager
def _or_model_error(place: str) -> Generator[None]:
    try:
        with warnings.catch_warnings():
            # PEFT 0.21 reads AdaLoRA's pattern of kept ranks as if it were LoRA's pattern of ranks,
            # and writes patterns of its own for experts that are not targeted
            warnings.filterwarnings("ignore", message="The following (rank|alpha)_pattern keys")
            yield
    except (OSError, ValueError, KeyError, RuntimeError, UserWarning) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"{place}: the adapter does not fit the model ({reason}); use the base that it was "
            "trained on, or tuning: lora, which fits every architecture"
        ) from error
