"""What rewards make of a rollout, worked out by hand: not judged, constant, weighted, broken."""

import math
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from datasets import Dataset
from torch.testing import assert_close

from rlhf.config import CONFIG_OF, BestOfNConfig, PPOConfig, build
from rlhf.errors import ModelError, RewardError
from rlhf.model.roles import role_parameters
from rlhf.model.scorer import load_scorer
from rlhf.model.scoring import values
from rlhf.ppo.arguments import PPOArguments
from rlhf.ppo.losses import micro_batches
from rlhf.ppo.trainer import PPOTrainer
from rlhf.rollouts.normaliser import RewardNormaliser
from rlhf.rollouts.rewards import RewardFunc, Rewards
from rlhf.runs import open_run
from rlhf.stages import best_of_n, dpo, grpo, kto, online_dpo, ppo, pretrain, reward, rloo, sft
from tests import tiny
from tests.stages import config, watching
from tests.trained import random_run

pytestmark = pytest.mark.integration

NAN = math.nan
ROWS = [{"prompt": f"where is order {i}?"} for i in range(8)]
ONLINE: dict[str, Any] = {"rloo": rloo, "grpo": grpo, "online-dpo": online_dpo}
SIZES: dict[str, Any] = {
    "num_rollouts": 2,
    "rollout_batch_size": 8,
    "num_mini_batches": 2,
    "max_new_tokens": 6,
}


@pytest.fixture(scope="module")
def runs(base, tmp_path_factory) -> Path:
    """A policy run, reward runs ``a/reward`` and ``b/reward``, and the data of a stage."""
    root = tmp_path_factory.mktemp("rewards")
    random_run(root / "sft", base)
    random_run(root / "a/reward", base, "reward", seed=2)
    random_run(root / "b/reward", base, "reward", seed=3)
    tiny.write_preferences(root / "preferences.jsonl")
    tiny.write_demonstrations(root / "demonstrations.jsonl")
    return root


def trainer(runs: Path, out: Path, rewards: Any, **keys: Any) -> Any:
    arguments: dict[str, Any] = {
        "output_dir": str(out),
        "per_device_train_batch_size": 2,
        "value_warmup_rollouts": 0,
        "learning_rate": 1e-2,
        "missing_eos_penalty": 0.0,
        "score_clip": None,
        "report_to": [],
        "use_cpu": True,
        "disable_tqdm": True,
        "logging_steps": 1,
        "save_strategy": "no",
        **SIZES,
    }
    made = PPOArguments(**(arguments | keys))
    return PPOTrainer(runs / "sft", rewards, made, Dataset.from_list(ROWS), Dataset.from_list(ROWS))


def scripted(*numbers: Any) -> RewardFunc:
    """A reward that gives these to the responses of every rollout."""

    def scripted(prompts, **_):
        return (list(numbers) * len(prompts))[: len(prompts)]

    return scripted


def snapshot(trainer: Any) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in trainer.model.named_parameters() if p.requires_grad}


# -- not judged ----------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [None, NAN])
def test_ppo_leaves_out_what_is_not_judged(runs, tmp_path, missing):
    given = [1.0, missing, 3.0, missing, 5.0, 7.0, missing, missing]
    ours = trainer(runs, tmp_path, scripted(*given))
    rollout, metrics = ours.collector.collect(ROWS, 0)
    judged = [0, 2, 4, 5]
    assert rollout.judged.nonzero()[:, 0].tolist() == judged
    assert metrics["not_judged"] == 0.5
    assert metrics["objective/scores"] == metrics["objective/scores/scripted"] == 4.0
    # units of 1, 3, 5, 7: mean 4, deviation sqrt(5)
    want = torch.tensor([-3.0, -1.0, 1.0, 3.0]) / math.sqrt(5)
    assert_close(rollout.scores[judged], want)
    how = {"kl_coef": 0.0, "gamma": 1.0, "lam": 1.0, "lam_value": 1.0}
    plain = rollout.advantages(**how, whitened=False)
    assert not plain.advantages[~rollout.judged].any()
    assert not plain.returns[~rollout.judged].any()
    # the value is 0 everywhere: what each token of a response gains is its score
    lengths = rollout.mask.sum(dim=1)
    for row, score in zip(judged, want, strict=True):
        assert_close(plain.advantages[row, : lengths[row]], score.expand(int(lengths[row])))
    # whitening knows the judged ones alone
    tokens = torch.cat([want[i].expand(int(lengths[row])) for i, row in enumerate(judged)])
    white = rollout.advantages(**how, whitened=True).advantages
    expected = (tokens - tokens.mean()) / tokens.std(unbiased=False)
    assert_close(white[rollout.learnt], expected, rtol=1e-4, atol=1e-4)
    assert not white[~rollout.learnt].any()
    # and losses are means over their tokens
    advantages = rollout.advantages(**how, whitened=True)
    pieces = list(
        micro_batches(rollout, advantages, num_mini_batches=1, micro_batch_size=4, order=range(8))
    )
    assert {piece.num_tokens for piece in pieces} == {int(lengths[judged].sum())}
    assert sum(int(piece.mask.sum()) for piece in pieces) == int(lengths[judged].sum())


def test_ppo_learns_from_a_half_judged_rollout_what_it_learns_from_that_half(runs, tmp_path):
    gradients = []
    for rows, given in ((range(4), [1.0, 2.0, 3.0, 5.0]), (range(8), [1.0, 2, 3, 5, *[None] * 4])):
        ours = trainer(runs, tmp_path, scripted(*given), score_norm="none")
        rollout, _ = ours.collector.collect([ROWS[i] for i in rows], 0)
        advantages = rollout.advantages(
            kl_coef=0.1, gamma=1.0, lam=0.95, lam_value=1.0, whitened=True
        )
        order = range(len(rollout.scores))
        [batch] = micro_batches(
            rollout, advantages, num_mini_batches=1, micro_batch_size=8, order=order
        )
        ours.training_step(ours.model, batch)
        roles = (role_parameters(ours.model, role) for role in ("policy", "value"))
        gradients.append([p.grad for role in roles for p in role])
    assert any(g.any() for g in gradients[0])
    for half, whole in zip(*gradients, strict=True):
        assert_close(half, whole, rtol=1e-3, atol=1e-6)


def test_ppo_learns_nothing_where_nothing_is_judged(runs, tmp_path):
    ours = trainer(runs, tmp_path, scripted(None))
    before = snapshot(ours)
    ours.train()
    assert all(torch.equal(before[name], p) for name, p in snapshot(ours).items())
    logged = [line for line in ours.state.log_history if "not_judged" in line]
    assert {line["not_judged"] for line in logged} == {1.0}
    assert not any("objective/scores" in line for line in logged)


@pytest.fixture(scope="module")
def methods(runs) -> dict[str, Any]:
    """The trainers of the other methods, after their training."""
    found = {}
    for stage, module in ONLINE.items():
        with pytest.MonkeyPatch.context() as patch, watching(patch) as seen:
            out = runs / "methods" / stage
            own = {"policy": str(runs / "sft"), "reward": str(runs / "a/reward"), "max_steps": -1}
            module.run(config(CONFIG_OF[stage], out, runs / "preferences.jsonl", **own, **SIZES))
        found[stage] = seen[0].trainer
    return found


def judge(trainer: Any, patch: pytest.MonkeyPatch, *given: Any) -> None:
    """Let ``given`` be the scores of every rollout of ``trainer``, and nothing else."""
    rewards = Rewards(trainer.collector.model, [scripted(*given)], None, "")
    patch.setattr(trainer.collector, "rewards", rewards)
    patch.setattr(trainer.collector, "normaliser", RewardNormaliser("none", 8))
    knobs = replace(trainer.collector.knobs, missing_eos_penalty=0.0)
    patch.setattr(trainer.collector, "knobs", knobs)


def grouped_rows(trainer: Any) -> list[dict[str, Any]]:
    return [row for row in list(trainer.train_dataset)[:2] for _ in range(4)]


@pytest.mark.parametrize("stage", ["rloo", "grpo"])
def test_a_groups_baseline_leaves_out_what_is_not_judged(methods, monkeypatch, stage):
    ours = methods[stage]
    judge(ours, monkeypatch, 1.0, None, 3.0, 4.5, None, NAN, 2.0, None)
    ours.model.train()
    found = ours._generate_and_score_completions(grouped_rows(ours))["advantages"]
    a, _, b, c, *_ = (ours.rollout.scores - 0.05 * ours.rollout.kl).tolist()
    if stage == "rloo":
        want = [a - (b + c) / 2, 0, b - (a + c) / 2, c - (a + b) / 2]
    else:
        mean = (a + b + c) / 3
        deviation = math.sqrt(sum((x - mean) ** 2 for x in (a, b, c)) / 2) + 1e-4
        want = [(a - mean) / deviation, 0, (b - mean) / deviation, (c - mean) / deviation]
    # of the second group one alone is judged, and there is nothing to compare it with
    assert_close(found, torch.tensor([*want, 0, 0, 0, 0]))
    assert ours.noted()["not_judged"] == 0.5


def pairs(trainer: Any) -> dict[str, list[Any]]:
    rows = list(trainer.train_dataset)[:3]
    return {name: [row[name] for row in rows] for name in rows[0]}


def test_pairs_without_a_winner_teach_nothing(methods, monkeypatch):
    ours = methods["online-dpo"]
    # the first response to each of three prompts, then the second: 1 : 2, not judged, a tie
    judge(ours, monkeypatch, 1.0, None, 2.0, 2.0, 3.0, 2.0)
    ours.model.zero_grad()
    loss = ours.training_step(ours.model, pairs(ours))
    first, second = ours.rollout.scores.tolist()
    assert (first, second) == (1.0, 2.0)
    assert ours.noted()["policy/groups_without_signal"] == pytest.approx(2 / 3)
    got = [cast("Any", p.grad).clone() for p in role_parameters(ours.model, "policy")]
    ours.model.zero_grad()
    policy = ours._forward(ours.model)
    ratio = (policy - ours.rollout.ref_logprobs).where(ours.rollout.mask, 0.0).sum(dim=1)
    want = -torch.nn.functional.logsigmoid(0.1 * (ratio[1] - ratio[0]))
    assert_close(loss, want.detach())
    want.backward()
    assert any(g.any() for g in got)
    for a, p in zip(got, role_parameters(ours.model, "policy"), strict=True):
        assert_close(a, p.grad)


@pytest.mark.parametrize("given", [None, 3.0])
def test_online_dpo_learns_nothing_from_pairs_that_are_all_alike(methods, monkeypatch, given):
    ours = methods["online-dpo"]
    judge(ours, monkeypatch, given)
    ours.model.zero_grad()
    assert ours.training_step(ours.model, pairs(ours)) == 0
    assert not any(cast("Any", p.grad).any() for p in role_parameters(ours.model, "policy"))
    assert ours.noted()["policy/groups_without_signal"] == 1


@pytest.mark.parametrize("stage", ["rloo", "grpo"])
def test_a_group_of_one_score_has_no_advantages(methods, monkeypatch, stage):
    ours = methods[stage]
    judge(ours, monkeypatch, 3.0)
    ours.model.train()
    found = ours._generate_and_score_completions(grouped_rows(ours))["advantages"]
    priced = (-0.05 * ours.rollout.kl).view(2, 4)
    centred = priced - priced.mean(dim=1, keepdim=True)  # what is left is the price of KL
    scale = 4 / 3 if stage == "rloo" else 1 / (priced.std(dim=1, keepdim=True) + 1e-4)
    assert_close(found, (centred * scale).flatten(), rtol=1e-3, atol=1e-5)


# -- infinite ------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["ppo", *ONLINE])
@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e39])
def test_an_infinite_reward_stops_every_method(runs, methods, tmp_path, monkeypatch, stage, value):
    words = rf"'scripted' gave {value!r} for a response to .*; a score must be a number"
    if stage == "ppo":
        ours = trainer(runs, tmp_path, scripted(0.0, value))
        with pytest.raises(RewardError, match=words.replace("+", r"\+")):
            ours.train()
        return
    ours = methods[stage]
    judge(ours, monkeypatch, 0.0, value)
    with pytest.raises(RewardError, match=words.replace("+", r"\+")):
        ours.collect(list(ours.train_dataset)[:2] * 2)


# -- units, weights and the value ----------------------------------------------------------------


def raw_value(trainer: Any, place: int, batch: Any) -> torch.Tensor:
    """What the reward run at ``place`` says before each response token."""
    head = trainer.rewards.parts[place].head
    return trainer.collector._passes.over(
        batch, partial(values, trainer.model, head), "reward", trainer.rewards.parts[place].which
    )


def test_a_weighted_reward_and_its_value_are_in_the_same_units(runs, tmp_path):
    ours = trainer(runs, tmp_path, runs / "a/reward", reward_weights=[0.5])
    rollout, metrics = ours.collector.collect(ROWS, 0)
    said = load_scorer(runs / "a/reward").score_ids(*ids(rollout))
    scores = torch.tensor(said)
    assert metrics["objective/scores"] == pytest.approx(0.5 * scores.mean().item(), rel=1e-4)
    assert_close(rollout.scores, (scores - scores.mean()) / scores.std(unbiased=False),
                 rtol=1e-3, atol=1e-3)  # fmt: skip
    raw = raw_value(ours, 0, rollout.sequences)
    want = (raw - scores.mean()) / scores.std(unbiased=False)
    assert_close(rollout.values[rollout.mask], want[rollout.mask], rtol=1e-3, atol=1e-3)


def test_of_two_rewards_the_value_starts_as_the_heavier_and_knows_the_others_mean(runs, tmp_path):
    both = [runs / "a/reward", runs / "b/reward"]
    ours = trainer(runs, tmp_path, both, reward_weights=[0.5, 2.0])
    rollout, metrics = ours.collector.collect(ROWS, 0)
    a, b = (torch.tensor(load_scorer(run).score_ids(*ids(rollout))) for run in both)
    assert metrics["objective/scores/a/reward"] == pytest.approx(a.mean().item(), rel=1e-4)
    assert metrics["objective/scores/b/reward"] == pytest.approx(b.mean().item(), rel=1e-4)
    score = 0.5 * a + 2.0 * b
    mean, std = score.mean(), score.std(unbiased=False)
    assert_close(rollout.scores, (score - mean) / std, rtol=1e-3, atol=1e-3)
    foretold = 2.0 * raw_value(ours, 1, rollout.sequences) + 0.5 * a.mean()
    want = ((foretold - mean) / std)[rollout.mask]
    assert_close(rollout.values[rollout.mask], want, rtol=1e-3, atol=1e-3)


def ids(rollout: Any) -> tuple[list[list[int]], list[list[int]]]:
    """Prompts and responses of a rollout, row by row."""
    batch = rollout.sequences
    rows = [row[mask].tolist() for row, mask in zip(batch.ids, batch.mask, strict=True)]
    lengths = batch.response_mask.sum(dim=1).tolist()
    pairs = list(zip(rows, lengths, strict=True))
    return [row[:-n] for row, n in pairs], [row[-n:] for row, n in pairs]


def test_a_value_does_not_start_from_an_audit(runs, tmp_path):
    both = [runs / "a/reward", runs / "b/reward"]
    ours = trainer(runs, tmp_path, both, reward_weights=[0.0, 1.0])
    assert torch.equal(ours.value_head.weight, ours.rewards.parts[1].head.weight)
    audited = trainer(runs, tmp_path, [both[0], scripted(1.0, 2.0)], reward_weights=[0.0, 1.0])
    assert not audited.value_head.weight.any()


@pytest.mark.parametrize("value_model", ["adapter", "head"])
def test_after_a_constant_rollout_units_are_fitted_again_and_the_value_follows(
    runs, tmp_path, caplog, value_model
):
    rows = iter([[3.0] * 8, [2.0, 6.0] * 4])
    ours = trainer(runs, tmp_path, lambda **_: next(rows), value_model=value_model)
    first, _ = ours.collector.collect(ROWS, 0)
    assert not first.scores.any()
    assert "have the same score (3)" in caplog.text
    torch.nn.init.constant_(ours.value_head.bias, 0.5)  # foretells 3.5
    second, _ = ours.collector.collect(ROWS, 8)
    assert_close(second.scores, torch.tensor([-1.0, 1.0] * 4))  # mean 4, deviation 2
    assert_close(second.values[second.mask], torch.full_like(second.values, -0.25)[second.mask])
    assert_close(ours.value_head.bias.item(), -0.25)


def test_units_that_are_not_frozen_yet_survive_a_checkpoint(runs, tmp_path):
    ours = trainer(runs, tmp_path / "a", scripted(3.0))
    ours.collector.collect(ROWS[:4], 0)
    ours.save_model(str(tmp_path / "saved"))
    other = trainer(runs, tmp_path / "b", scripted(3.0))
    other._load_from_checkpoint(str(tmp_path / "saved"))
    state = asdict(other.collector.normaliser)
    assert state == asdict(ours.collector.normaliser)
    assert state["scores"] == [3.0] * 4


def test_online_dpo_counts_scores_in_the_units_of_a_whole_rollout(methods):
    ours = methods["online-dpo"].collector.normaliser
    assert ours.num_needed == 8  # though it draws four responses at a time
    assert ours.is_frozen


def test_an_evaluation_is_the_mean_over_its_responses_however_they_are_cut(runs, tmp_path):
    rows = [{"prompt": "where?", "worth": float(i == 16)} for i in range(17)]

    def worth(worth, **_):
        return worth

    found = []
    for size in (16, 24):
        ours = trainer(runs, tmp_path, worth, rollout_batch_size=size, num_mini_batches=1)
        found.append(ours.evaluate(Dataset.from_list(rows)))
    assert found[0]["eval_objective/scores"] == pytest.approx(1 / 17)
    assert found[0] == pytest.approx(found[1], abs=1e-6)


@pytest.mark.parametrize("size", [1, 3])
def test_drawing_a_few_responses_at_a_time_draws_the_same(runs, tmp_path, size):
    at_once, in_pieces = (
        trainer(runs, tmp_path, scripted(1.0), sampling_batch_size=n).collector.collect(ROWS, 0)[0]
        for n in (None, size)
    )
    assert ids(at_once) == ids(in_pieces)


# -- another base --------------------------------------------------------------------------------


def test_a_reward_run_on_another_storage_of_the_base_is_refused(base, runs, tmp_path):
    policy = random_run(tmp_path / "sft", base, quantization="nf4", tuning="qlora")
    words = "stored as none in float32, and the policy's is stored as nf4 in float32"
    for stage in ("ppo", *ONLINE):
        keys = {"policy": str(policy), "reward": str(runs / "a/reward"), "max_steps": -1, **SIZES}
        made = config(CONFIG_OF[stage], tmp_path / "out", runs / "preferences.jsonl", **keys)
        with pytest.raises(ModelError, match=words):
            MODULES[stage].run(made)
    with pytest.raises(ModelError, match=words):
        PPOTrainer(policy, runs / "a/reward", None, Dataset.from_list(ROWS))
    audit = {"audit": [str(runs / "a/reward")]}
    own = random_run(tmp_path / "reward", base, "reward", quantization="nf4", tuning="qlora")
    keys = {"policy": str(policy), "reward": str(own), "max_steps": -1, **SIZES, **audit}
    with pytest.raises(ModelError, match=words):
        ppo.run(config(PPOConfig, tmp_path / "out", runs / "preferences.jsonl", **keys))


def test_best_of_n_scores_on_the_rewards_own_storage_and_says_so(base, runs, tmp_path, caplog):
    policy = random_run(tmp_path / "sft", base, quantization="nf4", tuning="qlora")
    keys = {
        "out": str(tmp_path / "best"),
        "policy": str(policy),
        "reward": str(runs / "a/reward"),
        "data": {"train": [{"path": str(runs / "preferences.jsonl")}], "max_length": 200},
        "rollout_batch_size": 4,
        "num_rollouts": 1,
        "max_new_tokens": 4,
    }
    assert open_run(best_of_n.run(build(BestOfNConfig, keys)))
    assert "as it was trained on, none in float32; the policy samples from it as nf4" in caplog.text


# -- nothing broken is saved ---------------------------------------------------------------------


def test_ppo_saves_no_checkpoint_that_holds_nan(runs, tmp_path):
    ours = trainer(runs, tmp_path, scripted(1.0, 2.0))
    with torch.no_grad():
        ours.value_head.weight[0, 3] = math.nan
    with pytest.raises(ModelError, match=r"after step 0 the tensor value_head\.weight holds NaN"):
        ours.save_model(str(tmp_path / "checkpoint"))
    assert not (tmp_path / "checkpoint").exists()


MODULES: dict[str, Any] = {
    "sft": sft,
    "pretrain": pretrain,
    "reward": reward,
    "dpo": dpo,
    "kto": kto,
    "ppo": ppo,
}
MODULES |= ONLINE


@pytest.mark.parametrize("stage", MODULES)
def test_no_stage_saves_a_model_that_has_broken_down(base, runs, tmp_path, stage):
    own: dict[str, Any] = {"sft": str(runs / "sft")}
    if stage == "pretrain":
        own = {"base": str(base)}
    if stage in (*ONLINE, "ppo"):
        own = {"policy": str(runs / "sft"), "reward": str(runs / "a/reward"), **SIZES}
        own["max_steps"] = -1
    own |= {"value_warmup_rollouts": 0} if stage == "ppo" else {}
    talks = stage in ("sft", "pretrain")
    data = runs / ("demonstrations.jsonl" if talks else "preferences.jsonl")
    made = config(CONFIG_OF[stage], tmp_path / "out", data, **{**own, "learning_rate": 1e39})
    source = replace(made.data.train[0], format="messages" if talks else "auto")
    made = replace(made, data=replace(made.data, train=[source], eval_fraction=0.0))
    with pytest.raises(ModelError, match=r"after step 1 the tensor \S+ holds NaN or infinity"):
        MODULES[stage].run(made)
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_reward_run_whose_scores_are_no_numbers_stops_who_asks_it(base, runs, tmp_path):
    broken = random_run(tmp_path / "reward", base, "reward", strength=1e30)
    with pytest.raises(RewardError, match=r"reward scores a response to .* as (nan|-?inf)"):
        load_scorer(broken).score_ids([[*b"hi"]], [[7]])
    ours = trainer(runs, tmp_path / "out", broken)
    with pytest.raises(RewardError, match="'reward' gave"):
        ours.collector.collect(ROWS, 0)


def test_the_scale_of_a_reward_model_is_measured_on_a_sample_of_its_pairs():
    data = Dataset.from_dict(
        {"chosen_ids": [[i] for i in range(1000)], "rejected_ids": [[i] for i in range(1000)]}
    )
    some = reward.sample_of(data, 256, seed=0)
    places = [ids[0] for ids in some["chosen_ids"]]
    assert len(set(places)) == 256
    assert abs(sum(places) / 256 - 499.5) < 5 * 289 / 16  # the first ones would have 127.5
    assert list(reward.sample_of(data.select(range(10)), 256, seed=0)["chosen_ids"]) == [
        [i] for i in range(10)
    ]
