"""No stage hands a model more tokens than it was built for."""

import json

import pytest

from rlhf.config import DPOConfig, PPOConfig, RewardConfig, SFTConfig, build
from rlhf.errors import DataError
from rlhf.records import Demonstration, Message, Preference, Prompt, to_json
from rlhf.rollouts.prompt_order import shuffled
from rlhf.stages import dpo, ppo, reward, sft
from tests.trained import random_run

pytestmark = pytest.mark.integration

LONG = " so" * 400  # the tiny bases read 256 tokens; GPT-2 has no positions beyond


@pytest.fixture
def gpt2(make_base):
    return make_base("gpt2")


def write(path, rows):
    path.write_text("".join(json.dumps(to_json(row)) + "\n" for row in rows))
    return {"train": [{"path": str(path)}], "eval_fraction": 0, "max_length": 4096}


def demonstrations(count, long):
    return [
        Demonstration(
            (Message("user", f"Where is {i}?"), Message("assistant", "It" + LONG * (i in long)))
        )
        for i in range(count)
    ]


def sft_config(gpt2, tmp_path, rows):
    model = {"base": str(gpt2), "tuning": "lora", "lora": {"rank": 4}}
    data = write(tmp_path / "rows.jsonl", rows)
    return build(
        SFTConfig, {"out": str(tmp_path / "sft"), "model": model, "data": data, "max_steps": 3}
    )


def test_a_row_beyond_the_context_is_left_out_and_named(gpt2, tmp_path, caplog):
    assert sft.run(sft_config(gpt2, tmp_path, demonstrations(16, {5}))).exists()
    assert "the model reads 256 tokens at most" in caplog.text
    assert "1 of 16 rows are longer than 256 tokens and are left out" in caplog.text
    assert "rows.jsonl:6" in caplog.text


def test_rows_that_are_all_beyond_the_context_are_refused_without_a_folder(gpt2, tmp_path):
    with pytest.raises(DataError, match="every one of the 4 rows is longer than"):
        sft.run(sft_config(gpt2, tmp_path, demonstrations(4, range(4))))
    assert not list(tmp_path.glob("sft*"))


def test_reward_dpo_and_ppo_leave_out_what_the_model_cannot_read(gpt2, tmp_path, caplog):
    start = random_run(tmp_path / "start", gpt2)
    scorer = random_run(tmp_path / "scorer", gpt2, "reward")
    prompts = [Prompt.from_text(f"Where is {i}?" + LONG * (i == 3)) for i in range(12)]
    pairs = [Preference(p, "It is here.", "No idea.") for p in prompts]
    common = {"per_device_train_batch_size": 2}
    for stage, kind in ((reward, RewardConfig), (dpo, DPOConfig)):
        config = common | {"sft": str(start), "data": write(tmp_path / "pairs.jsonl", pairs)}
        config |= {"out": str(tmp_path / kind.__name__), "max_steps": 2}
        assert stage.run(build(kind, config)).exists()
    knobs = {"num_rollouts": 2, "rollout_batch_size": 12, "num_mini_batches": 2}
    knobs |= {"max_new_tokens": 8, "value_warmup_rollouts": 0, "score_clip": None}
    config = common | knobs | {"policy": str(start), "reward": str(scorer)}
    config |= {"data": write(tmp_path / "prompts.jsonl", prompts), "out": str(tmp_path / "ppo")}
    assert ppo.run(build(PPOConfig, config)).exists()
    assert caplog.text.count("1 of 12 rows are longer than 256 tokens") == 3


def test_the_order_of_what_ppo_learns_from_depends_on_every_seed():
    orders = {
        tuple(shuffled(24, seed, number, epoch))
        for seed in (0, 1, 12345, 92345)
        for number in (0, 1, 1000, 2000)
        for epoch in (0, 1)
    }
    assert len(orders) == 32
