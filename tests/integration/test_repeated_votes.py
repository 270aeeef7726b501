"""What reward models and DPO learn from repeated judgements: how many voted for each response."""

import json
import math

import pytest

from rlhf.config import DPOConfig, RewardConfig, build
from rlhf.data.prepare import load
from rlhf.model.scorer import load_scorer
from rlhf.records import Preference
from rlhf.runs import open_run
from rlhf.stages import dpo, reward
from tests import tiny
from tests.stages import QLORA

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def forty_to_ten(tmp_path_factory):
    """200 rows, in which four pairs are preferred 40 : 10, in both orders."""
    texts = ("It is on its way.", "No idea.")
    rows = [
        {"prompt": p.text, "chosen": texts[n % 5 == 0], "rejected": texts[n % 5 != 0]}
        for n in range(50)
        for p in tiny.prompts(4)
    ]
    path = tmp_path_factory.mktemp("votes") / "votes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def votes_config(kind, out, base, path, **keys):
    return build(
        kind,
        {
            "out": str(out),
            "model": QLORA | {"base": str(base), "tuning": "lora"},
            "data": {"train": [{"path": str(path)}], "max_length": 200, "eval_fraction": 0},
            "labels": "votes",
            "per_device_train_batch_size": 4,
            "max_steps": 120,
            "learning_rate": 5e-3,
            "warmup_steps": 0,
            "logging_steps": 1,
            "save_steps": 1000,
            **keys,
        },
    )


def test_a_reward_model_learns_the_log_odds_of_the_votes(base, forty_to_ten, tmp_path):
    made = votes_config(RewardConfig, tmp_path / "rm", base, forty_to_ten)
    reward.run(made)
    assert open_run(tmp_path / "rm").facts["records"] == {"repeated": 196, "read": 4, "train": 4}
    pairs = load(made.data, Preference, "votes").train
    scorer = load_scorer(tmp_path / "rm")
    chosen, rejected = (
        scorer.score([p.prompt for p in pairs], [getattr(p, side) for p in pairs])
        for side in ("chosen", "rejected")
    )
    for a, b in zip(chosen, rejected, strict=True):
        assert a - b == pytest.approx(math.log(4), abs=0.15)


def test_dpo_learns_the_log_odds_of_the_votes(base, forty_to_ten, tmp_path):
    made = votes_config(DPOConfig, tmp_path / "dpo", base, forty_to_ten, beta=0.5)
    dpo.run(made)
    last = [m for m in open_run(tmp_path / "dpo").read_metrics() if "rewards/margins" in m][-1]
    assert last["rewards/margins"] == pytest.approx(math.log(4), abs=0.15)
    # the least loss that there is: the entropy of the votes
    entropy = -0.8 * math.log(0.8) - 0.2 * math.log(0.2)
    assert last["loss"] == pytest.approx(entropy, abs=0.01)
