"""Every common architecture goes through every stage on an nf4 base."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from rlhf.config import DPOConfig, PPOConfig, RewardConfig, SFTConfig
from rlhf.model.load import BaseSpec, load_base
from rlhf.model.scoring import hidden_states, trunk
from rlhf.runs import open_run
from rlhf.stages import dpo, ppo, reward, sft
from tests import tiny
from tests.stages import PPO, QLORA, config, watching

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory) -> Path:
    return tiny.write_demonstrations(tmp_path_factory.mktemp("data") / "demonstrations.jsonl", 12)


@pytest.fixture(scope="module")
def preferences(tmp_path_factory) -> Path:
    return tiny.write_preferences(tmp_path_factory.mktemp("data") / "preferences.jsonl", 12)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_every_stage_trains_its_adapter_and_nothing_of_the_nf4_base(
    architecture, make_base, demonstrations, preferences, tmp_path, monkeypatch
):
    base = make_base(architecture)
    model = QLORA | {"base": str(base)}
    policy = str(tmp_path / "sft")
    with watching(monkeypatch) as seen:
        sft.run(config(SFTConfig, tmp_path / "sft", demonstrations, model=model))
        reward.run(config(RewardConfig, tmp_path / "reward", preferences, sft=policy))
        dpo.run(config(DPOConfig, tmp_path / "dpo", preferences, sft=policy))
        keys = PPO | {"policy": policy, "reward": str(tmp_path / "reward")}
        ppo.run(config(PPOConfig, tmp_path / "ppo", preferences, **keys))
    assert len(seen) == 4
    assert seen[0].quantized
    for stage in seen:
        assert stage.quantized == seen[0].quantized
        assert stage.before == stage.after
        # the reward model has no output embeddings of the base, all the rest is the same
        assert stage.before.items() <= seen[0].before.items()
        assert {t.dtype for t in stage.trained.values()} == {torch.float32}
    weights = [load_file(open_run(tmp_path / s).adapter / "adapter_model.safetensors")
               for s in ("sft", "reward", "dpo", "ppo")]  # fmt: skip
    for one in weights[1:]:
        assert one.keys() == weights[0].keys()
        assert all(not torch.equal(one[name], weights[0][name]) for name in one)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_padding_on_the_right_changes_no_state(architecture, make_base):
    model = load_base(BaseSpec(str(make_base(architecture))))
    row, pad = torch.arange(10, 20)[None], torch.full((1, 4), 2)
    with torch.no_grad():
        bare = hidden_states(model, row)
        padded = hidden_states(model, torch.cat([row, pad], 1))[:, :10]
        told = trunk(model)(input_ids=row, attention_mask=torch.ones_like(row)).last_hidden_state
    assert_close(padded, bare, rtol=1e-4, atol=1e-4)  # another order of summation in attention
    assert_close(told, bare, rtol=1e-4, atol=1e-4)
