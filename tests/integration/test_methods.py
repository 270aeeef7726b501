"""RLOO, GRPO, online DPO, KTO and best of n on one nf4 base: the same rules as for PPO."""

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch.testing import assert_close

from rlhf.config import (
    CONFIG_OF,
    BestOfNConfig,
    DataConfig,
    KTOConfig,
    RewardConfig,
    RunConfig,
    SFTConfig,
    SourceConfig,
    build,
)
from rlhf.data.prepare import load
from rlhf.errors import ConfigError, DataError, ModelError, RLHFError
from rlhf.model.engine.generate import Sampling
from rlhf.model.load import load_base
from rlhf.model.policies import load_policies
from rlhf.model.scorer import load_scorer
from rlhf.model.scoring import logprobs, sequences
from rlhf.model.start import Start, load_start
from rlhf.records import Demonstration, Message, Prompt, to_json
from rlhf.rollouts.rollout import Rollout
from rlhf.rollouts.trl_trainer import OnlineTrainer, joined
from rlhf.runs import open_run
from rlhf.sandbox.world import prompts as sandbox_prompts
from rlhf.stages import best_of_n, grpo, kto, online_dpo, ppo, reward, rloo, sft
from rlhf.stages.kto import mismatched
from tests import tiny
from tests.stages import QLORA, Watched, config, watching
from tests.trained import random_run
from tests.trees import KL_COEF, Tree

pytestmark = pytest.mark.integration

MODULES = {"rloo": rloo, "grpo": grpo, "online-dpo": online_dpo, "kto": kto, "best-of-n": best_of_n}
GROUPED = ("rloo", "grpo")
ONLINE = (*GROUPED, "online-dpo")
TRAINED = (*ONLINE, "kto")
IDS = torch.arange(24).reshape(2, 12) + 5
ONLINE_KEYS: dict[str, Any] = {
    "max_steps": -1,
    "rollout_batch_size": 8,
    "num_mini_batches": 2,
    "num_rollouts": 2,
    "max_new_tokens": 8,
}


@pytest.fixture(scope="module")
def root(base, tmp_path_factory) -> Path:
    """A folder with a policy run ``sft``, a reward run ``reward`` and the data they were fed."""
    root = tmp_path_factory.mktemp("methods")
    tiny.write_demonstrations(root / "demonstrations.jsonl")
    tiny.write_preferences(root / "preferences.jsonl")
    model = QLORA | {"base": str(base)}
    sft.run(config(SFTConfig, root / "sft", root / "demonstrations.jsonl", model=model))
    pairs = root / "preferences.jsonl"
    reward.run(config(RewardConfig, root / "reward", pairs, sft=str(root / "sft")))
    return root


def made(root: Path, stage: str, out: Path, **keys: Any) -> Any:
    """A short config of ``stage`` that starts from the runs in ``root``."""
    if stage == "kto":
        own: dict[str, Any] = {"sft": str(root / "sft")}
    else:
        own = ONLINE_KEYS | {"policy": str(root / "sft"), "reward": str(root / "reward")}
    return config(CONFIG_OF[stage], out, root / "preferences.jsonl", **own | keys)


@dataclass(frozen=True)
class Done:
    """What a method left, on disk and in its trainer."""

    out: Path
    watched: Watched

    @property
    def model(self) -> Any:
        return self.watched.model

    @property
    def trainer(self) -> Any:
        return self.watched.trainer

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return open_run(self.out).read_metrics()


@pytest.fixture(scope="module")
def done(root) -> dict[str, Done]:
    """Each method once."""
    found = {}
    for stage in TRAINED:
        with pytest.MonkeyPatch.context() as patch, watching(patch) as seen:
            out = MODULES[stage].run(made(root, stage, root / stage))
        found[stage] = Done(out, seen[0])
    return found


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


@pytest.mark.parametrize("stage", TRAINED)
def test_only_the_policy_learns_in_fp32_and_its_reference_is_the_sft_policy(stage, root, done):
    watched, model = done[stage].watched, done[stage].model
    assert watched.quantized
    assert watched.before == watched.after
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all(".default." in name for name in trained)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    optimized = {id(p) for g in watched.trainer.optimizer.param_groups for p in g["params"]}
    assert optimized == {id(p) for p in model.parameters() if p.requires_grad}
    start = Start.of_run(root / "sft")
    of_sft, of_base = logits(load_start(start)[0]), logits(load_base(start.spec))
    model.set_adapter("default")
    assert (logits(model) - of_sft).abs().max() > 1e-3
    model.set_adapter("ref")
    assert_close(logits(model), of_sft, rtol=0, atol=0)
    assert (of_sft - of_base).abs().max() > 1e-3
    model.set_adapter("default")


@pytest.mark.parametrize("stage", TRAINED)
def test_the_first_step_is_at_the_reference(stage, done):
    # against the raw base, as TRL would have it, neither would be so
    first = next(line for line in done[stage].metrics if "loss" in line)
    if stage in ONLINE:
        assert first["objective/kl"] == pytest.approx(0, abs=1e-4)
    if stage == "online-dpo":
        assert first["loss"] == round(math.log(2), 4)  # as TRL rounds it
    if stage == "kto":
        assert first["loss"] == pytest.approx(0.5, abs=1e-6)
        assert first["kl"] == 0


def test_with_all_adapters_switched_off_the_pairs_would_have_another_reference(done):
    trainer = done["online-dpo"].trainer
    batch, rollout = trainer.rollout.sequences, trainer.rollout
    with torch.no_grad(), done["online-dpo"].model.disable_adapter():
        of_base = logprobs(done["online-dpo"].model, batch)
    used = trainer._forward(trainer.ref_model)
    assert torch.equal(used, rollout.ref_logprobs)
    assert (of_base - used).abs().max() > 1e-2


@pytest.mark.parametrize("stage", ONLINE)
def test_metrics_have_the_names_of_ppo(stage, done):
    names = set().union(*done[stage].metrics)
    assert {
        "objective/scores",
        "objective/kl",
        "objective/entropy",
        "response_length",
        "truncated",
        "eval_objective/scores",
        "eval_objective/kl",
    } <= names
    assert not [name for name in names if name.startswith(("completions/", "logps/", "reward/"))]
    assert ("policy/clipfrac" in names) == (stage in GROUPED)
    run = open_run(done[stage].out, stage)
    assert run.report.is_file()
    assert "aligned with a reward model" in run.card.read_text()
    assert {sample["responses"].keys().__len__() for sample in run.facts["samples"]} == {2}


@pytest.mark.parametrize("stage", GROUPED)
def test_advantages_are_those_of_the_score_less_the_price_of_kl(stage, done):
    trainer = done[stage].trainer
    trainer.model.train()
    rows = [row for row in list(trainer.train_dataset)[:2] for _ in range(4)]
    out = trainer._generate_and_score_completions(rows)
    rollout = trainer.rollout
    assert rollout.kl.abs().min() > 0
    rewards = (rollout.scores - 0.05 * rollout.kl).view(2, 4)
    if stage == "rloo":
        want = rewards - (rewards.sum(dim=1, keepdim=True) - rewards) / 3
    else:
        centred = rewards - rewards.mean(dim=1, keepdim=True)
        want = centred / (rewards.std(dim=1, keepdim=True) + 1e-4)
    assert_close(out["advantages"], want.flatten())


class OnTree:
    """A table of logits in the place of a trainer's network, and answers drawn from a tree."""

    def __init__(self, trainer: Any, tree: Tree, num_rows: int) -> None:
        self.trainer, self.tree, self.num_rows = trainer, tree, num_rows
        self.random = torch.Generator().manual_seed(0)
        self.logits = tree.reference.clone().requires_grad_()

    def collect(self, _rows):
        tree, there = self.tree, self.logits.detach()
        drawn = tree.chances(there).multinomial(self.num_rows, True, generator=self.random)
        answers = [list(tree.answers[i]) for i in drawn]
        batch = sequences([[9]] * self.num_rows, answers, pad_id=0, device=torch.device("cpu"))
        width = batch.response_mask.shape[1]
        nothing = torch.zeros(batch.response_mask.shape)
        self.drawn = drawn
        self.trainer.rollout = Rollout(
            sequences=batch,
            finished=batch.response_mask[:, 0],
            scores=tree.scores[drawn] * self.trainer.config.kl_coef / KL_COEF,
            logprobs=tree.logprobs(there)[drawn, :width],
            ref_logprobs=tree.logprobs(tree.reference)[drawn, :width],
            entropy=nothing,
            values=nothing,
        )
        return self.trainer.rollout

    def logprobs(self, *_, **__):
        rollout = self.trainer.rollout
        taken = self.tree.logprobs(self.logits)[self.drawn, : rollout.mask.shape[1]]
        return taken.where(rollout.mask, 0.0), rollout.entropy, None


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
@pytest.mark.parametrize("stage", GROUPED)
def test_they_reach_the_optimum_of_a_tree_of_answers(stage, seed, done, monkeypatch):
    trainer = done[stage].trainer
    trainer.model.train()
    tree, num_rollouts = Tree(seed), 150
    rows = [dict(trainer.train_dataset[0])] * 128
    world = OnTree(trainer, tree, len(rows))
    optimizer = torch.optim.Adam([world.logits], lr=0.1)
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, num_rollouts)
    monkeypatch.setattr(trainer, "collect", world.collect)
    monkeypatch.setattr(trainer, "_get_per_token_logps_and_entropies", world.logprobs)
    for _ in range(num_rollouts):
        batch = trainer._generate_and_score_completions(rows)
        for _ in range(2):
            optimizer.zero_grad()
            trainer._compute_loss(trainer.model, batch).backward()
            optimizer.step()
        decay.step()
    assert tree.distance(tree.reference) > 0.2
    assert tree.distance(world.logits) < 0.04


@pytest.mark.parametrize("stage", GROUPED)
def test_the_loss_starts_from_the_logprobs_of_the_sampler(stage, done):
    trainer = done[stage].trainer
    trainer.model.train()
    rows = [row for row in list(trainer.train_dataset)[3:5] for _ in range(4)]
    out = trainer._generate_and_score_completions(rows)
    ids, mask = (
        torch.cat([out[f"prompt_{kind}"], out[f"completion_{kind}"]], dim=1)
        for kind in ("ids", "mask")
    )
    width = out["completion_ids"].shape[1]
    taken, entropy, _ = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, width)
    assert taken.requires_grad
    assert_close(taken, trainer.rollout.logprobs, rtol=1e-4, atol=1e-5)
    assert_close(entropy, trainer.rollout.entropy, rtol=1e-4, atol=1e-4)
    assert_close(out[OLD[stage]], OF_OLD[stage](trainer.rollout.logprobs))


OLD = {"rloo": "old_logps", "grpo": "old_per_token_logps"}
OF_OLD = {"rloo": partial(torch.sum, dim=1), "grpo": lambda x: x}


def test_prompts_padded_on_the_left_are_joined_to_their_responses():
    prompts, responses = [[5, 6, 7], [8]], [[9], [10, 11]]
    padded = torch.tensor([[5, 6, 7, 9, 0], [0, 0, 8, 10, 11]])
    mask = torch.tensor([[1, 1, 1, 1, 0], [0, 0, 1, 1, 1]])
    ours = sequences(prompts, responses, pad_id=0, device=torch.device("cpu"))
    found = joined(padded, mask, 2)
    assert torch.equal(found.mask, ours.mask)
    assert torch.equal(found.ids.where(found.mask, 0), ours.ids)
    assert torch.equal(found.response_mask, ours.response_mask)
    assert torch.equal(found.where[found.response_mask], ours.where[ours.response_mask])


def test_every_method_answers_the_prompts_of_ppo_in_its_order(root, done, tmp_path):
    samples = {"samples_per_prompt": 2, "num_ppo_epochs": 2, "num_mini_batches": 2}
    with pytest.MonkeyPatch.context() as patch, watching(patch) as seen:
        ppo.run(made(root, "ppo", tmp_path / "ppo", **samples))
        rloo.run(made(root, "rloo", tmp_path / "rloo", **samples))
    of_ppo, of_rloo = (w.trainer for w in seen)
    order = [of_ppo._order.indices(number) for number in range(2)]
    rows = list(of_rloo._get_train_sampler())
    uses = 2 * 2  # passes, micro-batches in each
    for number, asked in enumerate(order):
        of_rollout = rows[number * 8 * uses : (number + 1) * 8 * uses]
        assert of_rollout == [i for i in asked for _ in range(2)] * uses
    # the same first responses, since noise follows from the number of the response
    first = [
        next(line for line in open_run(tmp_path / stage).read_metrics() if "loss" in line)
        for stage in ("ppo", "rloo")
    ]
    names = ("objective/scores", "response_length", "objective/entropy")
    assert [first[0][n] for n in names] == pytest.approx([first[1][n] for n in names], rel=1e-5)
    pairs = done["online-dpo"].trainer
    assert list(pairs._get_train_sampler())[:4] == order[0]


RELOADED = """
import json, sys, torch
from rlhf.model.start import Start, load_start
ids = torch.arange(24).reshape(2, 12) + 5
found = []
for path in sys.argv[1:]:
    model, _ = load_start(Start.of_run(path))
    with torch.no_grad():
        found.append(model.eval()(input_ids=ids).logits.flatten().tolist())
print(json.dumps(found))
"""


def test_a_new_process_finds_the_very_same_policies(done):
    here = []
    for stage in TRAINED:
        done[stage].model.set_adapter("default")
        here.append(logits(done[stage].model).flatten().tolist())
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RELOADED, *(str(done[s].out) for s in TRAINED)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    assert json.loads(ran.stdout) == here


def adapter(run: Path) -> dict[str, torch.Tensor]:
    return load_file(open_run(run).adapter / "adapter_model.safetensors")


SGD = {"trainer": {"optim": "sgd"}, "learning_rate": 0.1, "eval_steps": 100}


@pytest.mark.parametrize("stage", ["grpo", "online-dpo"])
def test_checkpointing_changes_nothing_that_is_learned(stage, root, tmp_path):
    keys = SGD | {"num_rollouts": 1}
    for name, on in (("plain", False), ("checkpointed", True)):
        MODULES[stage].run(made(root, stage, tmp_path / name, gradient_checkpointing=on, **keys))
    plain, other = adapter(tmp_path / "plain"), adapter(tmp_path / "checkpointed")
    for name, tensor in plain.items():
        assert_close(other[name], tensor)
    before = adapter(root / "sft")
    assert any((plain[name] - before[name]).abs().max() > 1e-5 for name in plain)


def test_pieces_of_a_step_are_averaged_where_trl_would_add_them_up(root, tmp_path, monkeypatch):
    collect = OnlineTrainer.collect

    def always_the_first(self, rows):
        if self._num_drawn is None:
            collect(self, rows)
        return self.rollout

    monkeypatch.setattr(OnlineTrainer, "collect", always_the_first)
    keys = SGD | {"num_rollouts": 1, "num_mini_batches": 1, "per_device_train_batch_size": 2}
    keys["max_grad_norm"] = 1e3  # clipped, a sum would look like a mean
    for size in (2, 4):
        own = keys | {"rollout_batch_size": size}
        online_dpo.run(made(root, "online-dpo", tmp_path / f"{size}", **own))
    once, twice = adapter(tmp_path / "2"), adapter(tmp_path / "4")
    for name, tensor in once.items():
        assert_close(twice[name], tensor)
    assert any((once[n] - t).abs().max() > 1e-5 for n, t in adapter(root / "sft").items())


def test_each_prompt_of_a_batch_also_has_anothers_response():
    rows = [{"prompt_ids": [i], "completion_ids": [10 + i]} for i in range(3)]
    pairs = mismatched(rows, lambda found: {"rows": found})["rows"]
    assert [(r["prompt_ids"], r["KL_completion_ids"]) for r in pairs] == [
        ([0], [12]),
        ([1], [10]),
        ([2], [11]),
    ]


def feedback(path: Path, good: int, bad: int) -> Path:
    rows = [
        {"prompt": p.text, "completion": "Yes." if i < good else "No!", "label": i < good}
        for i, p in enumerate(tiny.prompts(good + bad))
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_kto_takes_ratings_and_weighs_the_rarer_kind_up(root, tmp_path):
    data = feedback(tmp_path / "ratings.jsonl", 12, 4)
    sources = {"train": [{"path": str(data)}], "eval_fraction": 0}
    with pytest.MonkeyPatch.context() as patch, watching(patch) as seen:
        for name, keys in (("a", {}), ("b", {"undesirable_weight": 2.0})):
            keys |= {"sft": str(root / "sft"), "per_device_train_batch_size": 4, "max_steps": 1}
            kto.run(build(KTOConfig, {"out": str(tmp_path / name), "data": sources, **keys}))
    assert [w.trainer.undesirable_weight for w in seen] == [3.0, 2.0]
    assert seen[0].trainer.desirable_weight == 1


def best(root: Path, out: Path, **keys: Any) -> BestOfNConfig:
    return build(
        BestOfNConfig,
        {
            "out": str(out),
            "policy": str(root / "sft"),
            "reward": str(root / "reward"),
            "data": {"train": [{"path": str(root / "preferences.jsonl")}], "max_length": 200},
            "rollout_batch_size": 8,
            "num_rollouts": 3,
            "max_new_tokens": 8,
            **keys,
        },
    )


def test_best_of_n_leaves_demonstrations_that_sft_goes_on_with(root, tmp_path):
    run = open_run(best_of_n.run(best(root, tmp_path / "best")), "best-of-n")
    source = SourceConfig(path=str(run.demonstrations))
    kept = load(DataConfig(train=[source], eval_fraction=0.0), Demonstration).train
    assert len(kept) == 3 * 8 // 4
    assert run.facts["responses"] == 3 * 8
    curve = {line["step"]: line for line in run.read_metrics()}
    scores = [curve[n]["objective/scores"] for n in (1, 2, 3, 4)]
    assert scores == sorted(scores)
    assert curve[4]["objective/kl"] == pytest.approx(math.log(4) - 3 / 4)
    assert scores[3] == pytest.approx(
        sum(one.metadata["score"] for one in kept) / len(kept), rel=1e-5
    )
    assert "objective/scores" in run.report.read_text()

    start = adapter(root / "sft")
    keys = {"sft": str(root / "sft"), "learning_rate": 1e-9, "max_steps": 1}
    again = sft.run(config(SFTConfig, tmp_path / "again", run.demonstrations, **keys))
    assert open_run(again).facts["parents"]["sft"]["path"] == str(root / "sft")
    for name, tensor in adapter(again).items():
        assert_close(tensor, start[name], rtol=0, atol=1e-6)


def test_a_response_that_was_cut_off_is_kept_only_for_want_of_a_finished_one(root, tmp_path):
    found = {}
    for penalty in (0.0, 1e6):
        keys = {"missing_eos_penalty": penalty, "max_new_tokens": 64, "temperature": 2.0}
        out = best_of_n.run(best(root, tmp_path / f"{penalty}", num_rollouts=2, **keys))
        found[penalty] = open_run(out)
    rows = {p: run.demonstrations.read_text().splitlines() for p, run in found.items()}
    assert 0 < found[0.0].facts["truncated"] < 1
    assert rows[0.0] != rows[1e6]
    scores = {p: [json.loads(row)["metadata"]["score"] for row in r] for p, r in rows.items()}
    assert all(free >= fined for free, fined in zip(scores[0.0], scores[1e6], strict=True))


def test_the_best_is_the_one_that_the_reward_run_scores_highest(root, tmp_path):
    run = open_run(best_of_n.run(best(root, tmp_path / "best", num_rollouts=1)))
    rows = [json.loads(line) for line in run.demonstrations.read_text().splitlines()]
    policies, scorer = load_policies([root / "sft"]), load_scorer(root / "reward")
    for place, row in enumerate(rows):
        *question, answer = row["messages"]
        asked = [Prompt(tuple(Message(**turn) for turn in question))] * 4
        drawn = policies.sample("sft", asked, Sampling(8, seed=0, first=4 * place))
        scores = scorer.score_ids(policies.encode("sft", asked), drawn)
        assert row["metadata"]["score"] == pytest.approx(max(scores), rel=1e-4)
        top = drawn[scores.index(max(scores))]
        assert answer["content"] == policies.decode("sft", [top])[0]


@pytest.mark.parametrize("stage", [*ONLINE, "best-of-n"])
def test_wrong_runs_are_refused_before_anything_is_loaded(stage, root, make_base, tmp_path):
    def config_with(**keys: str) -> RunConfig:
        if stage == "best-of-n":
            return best(root, tmp_path / "out", **keys)
        return made(root, stage, tmp_path / "out", **keys)

    run = MODULES[stage].run
    with pytest.raises(RLHFError, match="is a reward run; a policy run"):
        run(config_with(policy=str(root / "reward")))
    with pytest.raises(RLHFError, match="is an sft run; a reward run"):
        run(config_with(reward=str(root / "sft")))
    policy = random_run(tmp_path / "other", make_base(seed=1), quantization="nf4")
    with pytest.raises(ModelError, match="trained on another base"):
        run(config_with(policy=str(policy)))
    assert [p.name for p in tmp_path.iterdir()] == ["other"]


def test_a_learned_prefix_is_refused(root, base, tmp_path):
    model = {"base": str(base), "tuning": "prefix", "num_virtual_tokens": 2}
    data = root / "demonstrations.jsonl"
    policy = str(sft.run(config(SFTConfig, tmp_path / "sft", data, model=model, max_steps=1)))
    for stage in TRAINED:
        key = "sft" if stage == "kto" else "policy"
        with pytest.raises(ModelError, match=f"{stage} cannot train tuning: prefix"):
            MODULES[stage].run(made(root, stage, tmp_path / "out", **{key: policy}))
    with pytest.raises(ModelError, match="start from the base"):
        sft.run(config(SFTConfig, tmp_path / "out", data, sft=policy))
    assert [p.name for p in tmp_path.iterdir()] == ["sft"]


def test_kto_refuses_ratings_of_one_kind(root, tmp_path):
    for good, bad, only in ((4, 0, "good"), (0, 4, "bad")):
        data = feedback(tmp_path / f"{only}.jsonl", good, bad)
        with pytest.raises(DataError, match=f"training responses are {only}"):
            kto.run(config(KTOConfig, tmp_path / "out", data, sft=str(root / "sft")))


def test_a_policy_of_any_method_can_be_gone_on_with(done, root, tmp_path):
    keys = {"policy": str(done["grpo"].out), "num_rollouts": 1}
    run = open_run(ppo.run(made(root, "ppo", tmp_path / "ppo", **keys)))
    assert run.facts["parents"]["policy"]["path"] == str(done["grpo"].out)
    model, _ = load_start(Start.of_run(run.path))
    assert isinstance(model, PeftModel)


@pytest.mark.parametrize("stage", [*TRAINED, "best-of-n"])
def test_a_launcher_is_refused(stage, root, tmp_path, monkeypatch):
    own = best if stage == "best-of-n" else partial(made, stage=stage)
    made_ = own(root, out=tmp_path / "out")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=f"{stage} works in one process"):
        MODULES[stage].run(made_)


def test_a_step_smaller_than_a_batch_is_one_pass(root, tmp_path):
    for stage in ("grpo", "online-dpo"):
        sizes = {"per_device_train_batch_size": 16, "num_rollouts": 1}
        with pytest.MonkeyPatch.context() as patch, watching(patch) as seen:
            MODULES[stage].run(made(root, stage, tmp_path / stage, **sizes))
        args = seen[0].trainer.args
        assert args.gradient_accumulation_steps == 1
        assert args.per_device_train_batch_size == (4 if stage == "grpo" else 2)
        assert seen[0].trainer._num_drawn == 8


@pytest.mark.parametrize("stage", ONLINE)
def test_an_audit_reads_the_columns_of_the_prompts(stage, root, tmp_path):
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps(to_json(p)) + "\n" for p in sandbox_prompts(1, 8)))
    keys = ONLINE_KEYS | {"policy": str(root / "sft"), "reward": str(root / "reward")}
    grouped = {"samples_per_prompt": 2} if stage in GROUPED else {}
    made = config(CONFIG_OF[stage], tmp_path / "run", data, audit=["sandbox"], **keys, **grouped)
    MODULES[stage].run(made)
    lines = [row for row in open_run(tmp_path / "run").read_metrics() if "objective/scores" in row]
    assert lines
    assert all(0 <= row["objective/scores/gold_score"] <= 1 for row in lines)
