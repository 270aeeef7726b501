"""`rlhf evaluate reward` on a tiny reward run."""

import json

import pytest

from rlhf.apps import evaluate_reward
from rlhf.apps.evaluate_reward import EvaluateOptions
from rlhf.config import RewardConfig, build
from rlhf.data.prepare import load
from rlhf.errors import ConfigError, DataError, RunError
from rlhf.evaluate.floors import FLOORS
from rlhf.evaluate.winrate import shares
from rlhf.model.scorer import load_scorer
from rlhf.records import Preference
from rlhf.runs import open_run
from rlhf.stages import reward
from tests import tiny

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def run(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit")
    data = tiny.write_preferences(folder / "preferences.jsonl", 40)
    config = {
        "out": str(folder / "reward"),
        "model": {"base": str(base), "tuning": "lora", "lora": {"rank": 2}},
        "data": {"train": [{"path": str(data)}], "eval_fraction": 0.3, "max_length": 256},
        "max_steps": 2,
        "per_device_train_batch_size": 2,
    }
    return reward.run(build(RewardConfig, config))


def test_the_audit_is_of_the_rows_that_the_run_held_out(run):
    seen: list[int] = []
    found = evaluate_reward.run(EvaluateOptions(run=run), seen.append)
    config = build(RewardConfig, open_run(run).config)
    pairs = load(config.data, Preference).eval
    assert found.num_pairs == len(pairs) > 0
    assert sum(seen) == 2 * len(pairs)
    prompts = [pair.prompt for pair in pairs]
    scorer = load_scorer(run)
    chosen = scorer.score(prompts, [pair.chosen for pair in pairs])
    rejected = scorer.score(prompts, [pair.rejected for pair in pairs])
    assert found.judges[0].accuracy.value == pytest.approx(
        sum(shares(chosen, rejected)) / len(pairs)
    )
    # padding of other batches, fp32
    assert found.margin == pytest.approx(
        sum(a - b for a, b in zip(chosen, rejected, strict=True)) / len(pairs), abs=1e-5
    )
    assert [judge.name for judge in found.judges[1:]] == list(FLOORS)


def test_the_audit_stays_in_the_run_folder(run):
    found = evaluate_reward.run(EvaluateOptions(run=run))
    written = json.loads(open_run(run).audit.read_text())
    assert written["data"] == "held out by the run"
    assert written["judges"][0]["accuracy"]["value"] == found.judges[0].accuracy.value
    assert "| reward model | " in open_run(run).audit.with_suffix(".md").read_text()


def test_other_pairs_can_be_named_and_those_trained_on_are_left_out(run, tmp_path):
    train = load(build(RewardConfig, open_run(run).config).data, Preference).train
    known = {"prompt": train[0].prompt.text, "chosen": train[0].rejected,
             "rejected": train[0].chosen}  # fmt: skip
    fresh = {"prompt": "New?", "chosen": "Yes, it is.", "rejected": "No", "topic": "t"}
    path = tmp_path / "other.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in (known, fresh)))
    options = EvaluateOptions(run=run, data=(str(path),), cluster=("topic",))
    found = evaluate_reward.run(options)
    assert (found.num_pairs, found.clustered_by, found.num_clusters) == (1, "topic", 1)
    assert found.num_train == len(train)
    path.write_text(json.dumps(known))
    with pytest.raises(DataError, match=r"other.jsonl: .* was trained on every pair; give others"):
        evaluate_reward.run(options)


def test_pairs_longer_than_the_model_was_trained_for_are_left_out(run, tmp_path):
    rows = [{"prompt": f"{n}?", "chosen": "word " * n, "rejected": "No"} for n in (1, 400)]
    path = tmp_path / "long.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    found = evaluate_reward.run(EvaluateOptions(run=run, data=(str(path),)))
    assert (found.num_pairs, found.num_left_out) == (1, 1)
    path.write_text(json.dumps(rows[1]))
    with pytest.raises(DataError, match="all 1 pairs are longer than the 256 tokens"):
        evaluate_reward.run(EvaluateOptions(run=run, data=(str(path),)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"cluster": ("topics",)}, r"no pair has a column 'topics'; there are \['origin'"),
        ({"cluster": ("a", "b", "c")}, "two columns at most, not a, b, c"),
        ({"data": ("x.csv",), "format": "prefs"}, r"--data: `format`: input should be 'auto'"),
        ({"data": ("none.csv",)}, r"none.csv: no such file"),
    ],
)
def test_an_option_without_sense_is_one_sentence(run, options, sentence):
    with pytest.raises((DataError, ConfigError), match=sentence):
        evaluate_reward.run(EvaluateOptions(run=run, **options))


def test_data_that_have_changed_are_refused(run):
    [source] = build(RewardConfig, open_run(run).config).data.train
    with open(source.path, "a+") as file:  # noqa: PTH123 - kept for putting it back
        before = file.tell()
        file.write("\n")
        file.flush()
        with pytest.raises(RunError, match=r"is not what .* was trained on any more; put the old"):
            evaluate_reward.run(EvaluateOptions(run=run))
        file.truncate(before)
    evaluate_reward.run(EvaluateOptions(run=run))
