"""From keys pressed in a browser to a reward model that was trained on them."""

import json

import pytest
from playwright.sync_api import expect

from labeling_ui.__main__ import main
from rlhf.config import RewardConfig, build
from rlhf.model.scorer import load_scorer
from rlhf.records import Comparison, Prompt, Response, to_json
from rlhf.runs import open_run
from rlhf.stages import reward
from tests.labeling import client, running

pytestmark = pytest.mark.integration

COUNT = 8


def comparison(number):
    prompt = Prompt.from_text(f"Where is parcel {number}?")
    good, bad = f"I am sorry. It comes on day {number}.", f"No idea, go away, number {number}."
    return Comparison(prompt, Response(good, "sft"), Response(bad, "sft"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory, enter_once):
    """An export of what ann chose by keyboard: always the polite response."""
    root = tmp_path_factory.mktemp("label")
    with running(root / "label.db") as url:
        with client(url, "admin") as admin:
            body = {"name": "tone", "comparisons": [to_json(comparison(i)) for i in range(COUNT)]}
            assert admin.post("/api/campaigns", json=body).status_code == 200
        tab = enter_once(url, "ann")
        for done in range(1, COUNT + 1):
            tab.wait_for_selector(".rl-rate[data-state=ready]")
            polite_left = "sorry" in tab.locator("[data-text=left]").inner_text()
            tab.keyboard.press("1" if polite_left else "2")
            expect(tab.locator("[data-count]")).to_contain_text(f"{done} of")
        tab.wait_for_selector(".rl-rate[data-state=done]")
    assert main(["export", "tone", str(root / "export"), "--db", str(root / "label.db")]) == 0
    return root / "export"


def test_a_reward_model_trains_on_what_a_person_chose_in_the_browser(exported, base, tmp_path):
    out = tmp_path / "reward"
    config = {
        "out": str(out),
        "model": {"base": str(base), "lora": {"rank": 4}},
        "data": {"train": [{"path": str(exported)}], "eval_fraction": 0.25},
        "learning_rate": 3e-3,
        "max_steps": 12,
        "per_device_train_batch_size": 4,
    }
    assert reward.run(build(RewardConfig, config)) == out
    run = open_run(out, "reward")
    assert str(exported) in run.facts["data"]
    lines = (exported / "preferences.jsonl").read_text().splitlines()
    assert [json.loads(line)["chosen"] for line in lines] == [
        comparison(i).response_a.text for i in range(COUNT)
    ]
    fresh = [comparison(100 + i) for i in range(4)]
    scorer = load_scorer(out)
    prompts = [c.prompt for c in fresh]
    polite = scorer.score(prompts, [c.response_a.text for c in fresh])
    curt = scorer.score(prompts, [c.response_b.text for c in fresh])
    assert min(polite) > max(curt)
