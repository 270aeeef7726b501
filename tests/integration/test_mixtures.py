"""Every role of RLHF on one mixture of experts in 4 bits, from SFT to a PPO that was broken off."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers.trainer_callback import CallbackHandler

from rlhf.config import DPOConfig, PPOConfig, RewardConfig, SFTConfig
from rlhf.model.load import BaseSpec, load_base
from rlhf.model.start import Start, load_start
from rlhf.runs import open_run
from rlhf.stages import dpo, ppo, reward, sft
from tests import tiny
from tests.stages import PPO, QLORA, config, watching

pytestmark = pytest.mark.integration

IDS = torch.arange(24).reshape(2, 12) + 5


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory) -> Path:
    return tiny.write_demonstrations(tmp_path_factory.mktemp("data") / "demonstrations.jsonl", 12)


@pytest.fixture(scope="module")
def preferences(demonstrations) -> Path:
    return tiny.write_preferences(demonstrations.with_name("preferences.jsonl"), 12)


class BreakError(RuntimeError):
    """Something went wrong in the middle."""


def break_after_2(self: Any, args: Any, state: Any, control: Any) -> Any:
    if state.global_step == 2:
        raise BreakError
    return self.call_event("on_step_end", args, state, control)


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(open_run(run).adapter / "adapter_model.safetensors")


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_sft_reward_dpo_and_ppo_train_on_experts_in_4_bits_and_resume_to_the_very_same_weights(
    kind, make_base, demonstrations, preferences, tmp_path, monkeypatch
):
    model: Any = QLORA | {"base": str(make_base(kind))}
    runs = {name: tmp_path / name for name in ("sft", "reward", "dpo", "ppo")}
    keys: dict[str, Any] = {"gradient_checkpointing": True}
    with watching(monkeypatch) as seen:
        sft.run(config(SFTConfig, runs["sft"], demonstrations, model=model, **keys))
        reward.run(config(RewardConfig, runs["reward"], preferences, sft=str(runs["sft"])))
        dpo.run(config(DPOConfig, runs["dpo"], preferences, sft=str(runs["sft"])))
        aligned = PPO | {"policy": str(runs["sft"]), "reward": str(runs["reward"])}
        aligned |= {"num_rollouts": 3, "save_steps": 1}
        ppo.run(config(PPOConfig, runs["ppo"], preferences, **aligned))
    assert [w.before == w.after for w in seen] == [True] * 4, "a base has changed"
    trained = load_start(Start.of_run(runs["sft"]))[0]
    base = load_base(BaseSpec(model["base"]))
    with torch.no_grad():
        of_sft = trained(input_ids=IDS).logits
        assert (of_sft - base(input_ids=IDS).logits).abs().max() > 1e-3
        for watched in (seen[2], seen[3]):
            network: Any = watched.model
            network.eval().set_adapter("ref")
            assert_close(network(input_ids=IDS).logits, of_sft)
    broken = config(PPOConfig, tmp_path / "broken", preferences, **aligned)
    with monkeypatch.context() as patch:
        patch.setattr(CallbackHandler, "on_step_end", break_after_2)
        with pytest.raises(BreakError):
            ppo.run(broken)
    ppo.run(broken, resume=True)
    assert open_run(tmp_path / "broken").facts["resumed"] == ["checkpoint-1"]
    whole, resumed = weights(runs["ppo"]), weights(tmp_path / "broken")
    assert whole.keys() == resumed.keys()
    assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []
