"""PPO on one nf4 base: who learns, who does not, and from which gradient."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast, get_args

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn.modules import Linear4bit
from datasets import Dataset
from peft import PeftModel
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from rlhf.chat import encode_prompt, encode_response
from rlhf.config import PPOConfig, PPOKnobs, RewardConfig, SFTConfig, ValueModel, build
from rlhf.errors import DataError, ModelError, RunError
from rlhf.model.adapters import load_adapter
from rlhf.model.engine.generate import Sampling, sample_ids
from rlhf.model.roles import ADAPTER_OF, acting_as, role_parameters
from rlhf.model.scorer import load_scorer
from rlhf.model.scoring import logprobs, response_states, sequences, token_logprobs_entropies
from rlhf.model.start import Start, load_start
from rlhf.ppo.arguments import PPOArguments
from rlhf.ppo.losses import micro_batches
from rlhf.ppo.objectives import clipped_policy_loss
from rlhf.ppo.trainer import PPOTrainer
from rlhf.records import Prompt, to_json
from rlhf.runs import open_run
from rlhf.sandbox.world import prompts as sandbox_prompts
from rlhf.stages import ppo, reward, sft
from tests import tiny
from tests.stages import QLORA, config

pytestmark = pytest.mark.integration

PROMPTS = [{"prompt": f"where is order {i}?"} for i in range(6)]
PPO: dict[str, Any] = {
    "num_rollouts": 3,
    "rollout_batch_size": 8,
    "per_device_train_batch_size": 2,
    "num_mini_batches": 2,
    "max_new_tokens": 8,
    "value_warmup_rollouts": 1,
    "learning_rate": 1e-2,
    "value_learning_rate": 1e-2,
}

QUIET: dict[str, Any] = {
    "report_to": [],
    "use_cpu": True,
    "disable_tqdm": True,
    "logging_steps": 1,
    "save_strategy": "no",
}


@pytest.fixture(scope="module")
def runs(make_base, tmp_path_factory) -> Path:
    """A folder with a policy run ``sft``, a reward run ``reward`` and the data they were fed."""
    root = tmp_path_factory.mktemp("runs")
    tiny.write_demonstrations(root / "demonstrations.jsonl")
    tiny.write_preferences(root / "preferences.jsonl")
    model = QLORA | {"base": str(make_base())}
    policy = sft.run(config(SFTConfig, root / "sft", root / "demonstrations.jsonl", model=model))
    reward.run(config(RewardConfig, root / "reward", root / "preferences.jsonl", sft=str(policy)))
    return root


def arguments(folder: Path, **keys: Any) -> PPOArguments:
    keys = {**QUIET, "output_dir": str(folder), **PPO, **keys}
    return PPOArguments(**keys)


def trainer(runs: Path, folder: Path, rewards: Any = None, **keys: Any) -> Any:
    return PPOTrainer(
        runs / "sft",
        rewards or runs / "reward",
        arguments(folder, **keys),
        Dataset.from_list(PROMPTS),
        Dataset.from_list(PROMPTS[:3]),
    )


def hashes(model: PeftModel) -> dict[str, str]:
    found = {}
    for name, tensor in model.named_parameters():
        raw = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        found[name] = hashlib.sha256(raw.numpy().tobytes()).hexdigest()
    return found


def owner(name: str) -> str:
    """The role that a parameter belongs to, or ``base``."""
    if "value_head" in name:
        return "value"
    return next((r for r, a in ADAPTER_OF.items() if a in name.split(".")), "base")


VALUES = pytest.mark.parametrize("value_model", get_args(ValueModel))


@VALUES
def test_only_policy_and_value_move_and_the_first_step_starts_at_the_reference(
    runs, tmp_path, value_model
):
    ours = trainer(runs, tmp_path, value_model=value_model)
    layers = [m for m in ours.model.modules() if isinstance(m, Linear4bit)]
    assert layers
    assert not any(layer.support_avx512bf16_for_cpu for layer in layers)
    before, head = hashes(ours.model), ours.rewards.adapters[0].head.weight.clone()
    rollout, metrics = ours.collector.collect(PROMPTS, 100 * 1, evaluates=True)
    assert_close(rollout.logprobs, rollout.ref_logprobs, rtol=0, atol=1e-5)
    assert metrics["objective/kl"] == pytest.approx(0, abs=1e-5)

    ours.train()
    after = hashes(ours.model)
    moved = {owner(name) for name in before if before[name] != after[name]}
    assert moved == {"policy", "value"}
    still = {owner(name) for name in before if before[name] == after[name]}
    assert still == {"base", "reference", "reward"}
    assert torch.equal(head, ours.rewards.adapters[0].head.weight)
    trained = {id(p) for group in ours.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in ours.model.parameters() if p.requires_grad}
    assert {p.dtype for p in ours.model.parameters() if p.requires_grad} == {torch.float32}
    again, _ = ours.collector.collect(PROMPTS, 100 * 1, evaluates=True)
    assert again.kl.abs().max() > 1e-3  # beyond rounding


def test_steps_are_rollouts_times_epochs_times_mini_batches_and_the_first_ratio_is_one(
    runs, tmp_path
):
    ours = trainer(runs, tmp_path, value_warmup_rollouts=0)
    ours.train()
    assert ours.state.global_step == 3 * 2 * 2
    logs = [entry for entry in ours.state.log_history if "policy/max_ratio" in entry]
    assert logs[0]["policy/max_ratio"] == pytest.approx(1, abs=1e-4)
    assert logs[0]["policy/approxkl"] == pytest.approx(0, abs=1e-6)
    firsts = [entry["policy/first_ratio"] for entry in logs if "policy/first_ratio" in entry]
    assert firsts == pytest.approx([1, 1, 1], abs=1e-4)
    assert max(entry["policy/max_ratio"] for entry in logs) > 1.001


def test_a_policy_that_has_gone_far_from_its_sampler_rests_until_the_next_rollout(runs, tmp_path):
    keys = {"value_warmup_rollouts": 0, "num_rollouts": 2, "learning_rate": 0.05}
    far = trainer(runs, tmp_path, stop_kl=1e-3, **keys)
    far.train()
    logs = [entry for entry in far.state.log_history if "loss/policy" in entry]
    assert len(logs) == 8
    # the first step starts at the sampler; the second shows how far it went, and is the last
    learnt = [entry["loss/policy"] != 0 for entry in logs]
    assert learnt == [True, True, False, False] * 2
    assert all(entry["loss/value"] > 0 for entry in logs)
    free = trainer(runs, tmp_path, stop_kl=None, **keys)
    free.train()
    assert all(e["loss/policy"] for e in free.state.log_history if "loss/policy" in e)


def test_a_trouble_is_told_once(runs, tmp_path, caplog):
    ours = trainer(runs, tmp_path, rewards=lambda prompts, **_: [None] * len(prompts))
    ours.train()
    [said] = [r.message for r in caplog.records if r.name == "rlhf.rollouts.trainer"]
    assert said.startswith("100% of the responses are not judged")


@VALUES
def test_while_the_value_warms_up_the_policy_rests(runs, tmp_path, value_model):
    ours = trainer(runs, tmp_path, value_warmup_rollouts=3, value_model=value_model)
    before = hashes(ours.model)
    ours.train()
    after = hashes(ours.model)
    assert {owner(n) for n in before if before[n] != after[n]} == {"value"}


def test_the_score_in_ppo_is_that_of_the_reward_run(runs, tmp_path):
    ours = trainer(runs, tmp_path, score_norm="none", score_clip=None, missing_eos_penalty=0.0)
    rollout, _ = ours.collector.collect(PROMPTS, 100 * 3, evaluates=True)
    batch = rollout.sequences
    rows = [ids[mask].tolist() for ids, mask in zip(batch.ids, batch.mask, strict=True)]
    lengths = batch.response_mask.sum(dim=1).tolist()
    scorer = load_scorer(runs / "reward")
    said = scorer.score_ids(
        [row[:-n] for row, n in zip(rows, lengths, strict=True)],
        [row[-n:] for row, n in zip(rows, lengths, strict=True)],
    )
    assert_close(rollout.scores, torch.tensor(said))
    # and the value starts as the reward, read before the last token
    assert torch.equal(load_file(open_run(runs / "reward").head)["weight"], ours.value_head.weight)


def test_a_cut_off_response_is_penalised_and_a_pad_token_that_was_sampled_counts(runs, tmp_path):
    ours = trainer(runs, tmp_path, score_norm="none", missing_eos_penalty=3.0, max_new_tokens=2)
    rollout, _ = ours.collector.collect(PROMPTS, 100 * 3, evaluates=True)
    free = trainer(runs, tmp_path, score_norm="none", missing_eos_penalty=0.0, max_new_tokens=2)
    other, _ = free.collector.collect(PROMPTS, 100 * 3, evaluates=True)
    assert_close(rollout.scores, other.scores - 3.0 * (~rollout.finished).float())
    assert not rollout.finished.all()
    pad = ours.tokenizer.pad_token_id
    batch = sequences([[5]], [[pad, pad, 7]], pad_id=pad, device=torch.device("cpu"))
    assert batch.response_mask.sum() == 3


def test_the_policy_gradient_on_nf4_after_everything_is_that_of_a_fresh_fp32_model(
    runs, make_base, tmp_path
):
    ours = trainer(runs, tmp_path)
    ours.model.activation_checkpointing_enable()
    rollout, _ = ours.collector.collect(PROMPTS, 100 * 5, evaluates=True)
    advantages = rollout.advantages(kl_coef=0.1, gamma=1.0, lam=0.95, lam_value=1.0, whitened=True)
    [batch] = micro_batches(
        rollout, advantages, num_mini_batches=1, micro_batch_size=6, order=range(6),
    )  # fmt: skip
    ours.training_step(ours.model, batch)
    got = torch.cat([cast("Any", p.grad).flatten() for p in role_parameters(ours.model, "policy")])

    fresh: Any = AutoModelForCausalLM.from_pretrained(make_base(), dtype=torch.float32)
    quantised: dict[str, Any] = dict(ours.model.get_base_model().named_modules())
    for name, module in fresh.named_modules():
        twin: Any = quantised.get(name)
        twin = getattr(twin, "base_layer", twin)
        if type(twin) is Linear4bit:
            packed = cast("Any", twin.weight)
            module.weight.data = dequantize_4bit(packed.data, packed.quant_state)
    fresh = load_adapter(fresh, open_run(runs / "sft").adapter)
    new = logprobs(fresh, batch.sequences)
    clipped_policy_loss(
        new, batch.old_logprobs, batch.advantages, batch.mask, clip_range=0.2
    ).backward()
    want = torch.cat([cast("Any", p.grad).flatten() for p in role_parameters(fresh, "policy")])
    assert torch.cosine_similarity(got, want, dim=0) > 0.999
    assert_close(got.norm(), want.norm(), rtol=1e-3, atol=0)


def test_a_value_that_reads_the_policys_states_does_not_move_them(runs, tmp_path):
    found = []
    for vf_coef in (1.0, 100.0):
        ours = trainer(runs, tmp_path, value_model="head", vf_coef=vf_coef)
        assert not role_parameters(ours.model, "value")
        rollout, _ = ours.collector.collect(PROMPTS, 100 * 5, evaluates=True)
        assert not rollout.values.any()
        torch.nn.init.ones_(ours.value_head.weight)  # from 0, no gradient would go through it
        advantages = rollout.advantages(
            kl_coef=0.1, gamma=1.0, lam=0.95, lam_value=1.0, whitened=True
        )
        [batch] = micro_batches(
            rollout, advantages, num_mini_batches=1, micro_batch_size=6, order=range(6),
        )  # fmt: skip
        ours.training_step(ours.model, batch)
        policy = [cast("Any", p.grad).flatten() for p in role_parameters(ours.model, "policy")]
        found.append((torch.cat(policy), ours.value_head.weight.grad))
    (one, head), (other, larger) = found
    assert one.any()
    assert torch.equal(one, other)
    assert_close(100 * head, larger)


@pytest.mark.parametrize("size", [1, 2, 4])
def test_the_size_of_a_piece_does_not_change_the_update(runs, tmp_path, size):
    ours = trainer(runs, tmp_path, per_device_train_batch_size=size)
    whole = trainer(runs, tmp_path, per_device_train_batch_size=8, num_mini_batches=1)
    for one, pieces in ((ours, 8 // size), (whole, 1)):
        rollout, _ = one.collector.collect([*PROMPTS, *PROMPTS[:2]], 100 * 7, evaluates=True)
        advantages = rollout.advantages(
            kl_coef=0.1, gamma=1.0, lam=0.95, lam_value=1.0, whitened=True
        )
        found = list(
            micro_batches(
                rollout, advantages, num_mini_batches=1, micro_batch_size=8 // pieces,
                order=range(8),
            )
        )  # fmt: skip
        assert len(found) == pieces
        for batch in found:
            one.training_step(one.model, batch)
    for role in ("policy", "value"):
        pairs = zip(role_parameters(ours.model, role), role_parameters(whole.model, role),
                    strict=True)  # fmt: skip
        for a, b in pairs:
            assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-6)  # another order of summation


def test_logprobs_are_those_of_the_sampler_at_its_temperature(runs):
    model, tokenizer = load_start(Start.of_run(runs / "sft"))
    prompts = [encode_prompt(tokenizer, Prompt.from_text(row["prompt"])) for row in PROMPTS]
    short = [prompts[0][:4], *prompts[1:]]  # prompts of different lengths are padded on the left
    torch.manual_seed(0)
    responses = sample_ids(model, tokenizer, short, Sampling(4, 0.7))
    batch = sequences(short, responses, pad_id=0, device=torch.device("cpu"))
    with torch.no_grad():
        states = response_states(model, batch)
        ours, entropy = token_logprobs_entropies(model, states, batch, temperature=0.7)
        for row, (p, r) in enumerate(zip(short, responses, strict=True)):
            logits = model(torch.tensor([p + r])).logits[0] / 0.7
            each = logits.log_softmax(-1)[len(p) - 1 : -1]
            want = each.gather(1, torch.tensor(r)[:, None])[:, 0]
            assert_close(ours[row, : len(r)], want, rtol=1e-3, atol=1e-4)
            spread = -(each.exp() * each).sum(-1)
            assert_close(entropy[row, : len(r)], spread, rtol=1e-3, atol=1e-4)


@VALUES
def test_what_the_sampler_noted_is_what_the_policy_says_when_asked(runs, tmp_path, value_model):
    ours = trainer(runs, tmp_path, value_model=value_model, temperature=1.5, max_new_tokens=150)
    torch.nn.init.normal_(ours.value_head.weight)
    collector = ours.collector
    assert collector.sampler_is_exact
    noted, _ = collector.collect(PROMPTS, 100 * 2, evaluates=True)
    assert noted.mask.sum(dim=1).unique().numel() > 1
    asked = collector._read_policy(noted.sequences)
    assert set(asked) == {"logprobs", "entropy"} | ({"values"} if value_model == "head" else set())
    for name, said in asked.items():
        assert_close(getattr(noted, name), said.where(noted.mask, 0.0), rtol=1e-4, atol=1e-4)
    # 16-bit kernels round by the size of the batch: there the policy is asked
    ours.ppo.bf16 = True
    assert not collector.sampler_is_exact
    again, _ = collector.collect(PROMPTS, 100 * 2, evaluates=True)
    assert_close(again.logprobs, noted.logprobs, rtol=1e-4, atol=1e-5)


def test_callables_are_asked_as_trl_asks_and_weighted(runs, tmp_path):
    asked = []

    def length(prompts, completions, completion_ids, topic, **_):
        asked.append((prompts, completions, completion_ids, topic))
        return [float(len(ids)) for ids in completion_ids]

    def absent(prompts, **_):
        return [None] * len(prompts)

    rows = [{"prompt": [{"role": "user", "content": "hi"}], "topic": i} for i in range(4)]
    ours = PPOTrainer(
        runs / "sft",
        [length, runs / "reward", absent],
        arguments(tmp_path, reward_weights=[2.0, 0.5, 1.0], score_norm="none", score_clip=None,
                  missing_eos_penalty=0.0),
        Dataset.from_list(rows),
    )  # fmt: skip
    rollout, metrics = ours.collector.collect(rows, 100 * 0, evaluates=True)
    [(prompts, completions, ids, topic)] = asked
    assert prompts == [row["prompt"] for row in rows]
    assert topic == [0, 1, 2, 3]
    assert [turn["role"] for [turn] in completions] == ["assistant"] * 4
    assert [len(row) for row in ids] == rollout.mask.sum(dim=1).tolist()
    want = 2 * metrics["objective/scores/length"] + 0.5 * metrics["objective/scores/reward"]
    assert metrics["objective/scores"] == pytest.approx(want, rel=1e-5)


def test_without_a_reward_run_the_value_starts_at_nothing(runs, tmp_path):
    ours = trainer(runs, tmp_path, rewards=lambda prompts, **_: [0.0] * len(prompts))
    rollout, _ = ours.collector.collect(PROMPTS, 100 * 0, evaluates=True)
    assert not rollout.values.any()


def test_frozen_units_are_those_of_the_first_rollout(runs, tmp_path):
    ours = trainer(runs, tmp_path, missing_eos_penalty=0.0, score_clip=None)
    first, _ = ours.collector.collect([*PROMPTS, *PROMPTS[:2]], 0)
    assert first.scores.mean() == pytest.approx(0, abs=1e-5)
    assert first.scores.std(unbiased=False) == pytest.approx(1, abs=1e-4)
    units = asdict(ours.collector.normaliser)
    ours.collector.collect(PROMPTS, 0)
    assert asdict(ours.collector.normaliser) == units


def test_evaluation_advances_no_generator_and_reports_what_people_ask_for(runs, tmp_path):
    ours = trainer(runs, tmp_path)
    state = torch.random.get_rng_state()
    metrics = ours.evaluate()
    assert torch.equal(state, torch.random.get_rng_state())
    assert metrics == ours.evaluate()
    assert {
        "eval_objective/scores",
        "eval_objective/kl",
        "eval_response_length",
        "eval_truncated",
    } <= metrics.keys()


@VALUES
def test_half_and_half_is_bit_for_bit_the_whole(runs, tmp_path, value_model):
    keys = {"num_rollouts": 4, "kl_target": 1.0, "save_strategy": "steps", "save_steps": 8,
            "value_model": value_model}  # fmt: skip
    whole = trainer(runs, tmp_path / "whole", **keys)
    whole.train()
    # the same training, taken up in another trainer from the checkpoint in its middle
    rest = trainer(runs, tmp_path / "rest", **keys)
    rest.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-8"))
    assert rest.state.global_step == whole.state.global_step == 16
    assert rest.kl_coef == whole.kl_coef != 0.05
    assert rest.collector.normaliser == whole.collector.normaliser
    assert hashes(rest.model) == hashes(whole.model)


def test_checkpoints_and_evaluations_fall_between_rollouts(tmp_path):
    args = arguments(tmp_path, num_rollouts=10, save_steps=5, eval_steps=0.26)
    assert args.max_steps == 40
    assert (args.save_steps, args.eval_steps) == (8, 12)


def stage(runs: Path, out: Path, **keys: Any) -> PPOConfig:
    return build(
        PPOConfig,
        {
            "out": str(out),
            "policy": str(runs / "sft"),
            "reward": str(runs / "reward"),
            "data": {"train": [{"path": str(runs / "preferences.jsonl")}], "eval_fraction": 0.3},
            "logging_steps": 1,
            **PPO,
            **keys,
        },
    )


def test_the_stage_leaves_a_policy_that_the_next_one_starts_from(runs, tmp_path):
    out = ppo.run(stage(runs, tmp_path / "ppo"))
    run = open_run(out, "ppo")
    assert run.facts["base"]["storage"] == "nf4"
    logged = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert any("eval_objective/scores" in line for line in logged)
    assert {
        "objective/kl",
        "objective/scores",
        "response_length",
        "loss/value",
        "val/explained_variance",
    } <= set().union(*logged)
    model, tokenizer = load_start(Start.of_run(out))
    assert isinstance(model, PeftModel)
    before = load_file(open_run(runs / "sft").adapter / "adapter_model.safetensors")
    after = load_file(run.adapter / "adapter_model.safetensors")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[name], after[name]) for name in before)
    prompt = Prompt.from_text("hi")
    ids = encode_response(tokenizer, prompt, "there")
    one = sequences([encode_prompt(tokenizer, prompt)], [ids], pad_id=0, device=model.device)
    with torch.no_grad(), acting_as(model, "policy"):
        assert logprobs(model, one).isfinite().all()


def test_audits_score_every_rollout_and_teach_nothing(runs, tmp_path):
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(json.dumps(to_json(p)) + "\n" for p in sandbox_prompts(1, 8)))
    keys = PPO | {"policy": str(runs / "sft"), "reward": str(runs / "reward"), "max_steps": -1}
    alone = ppo.run(config(PPOConfig, tmp_path / "alone", data, **keys))
    audit = ["sandbox", str(runs / "reward")]
    watched = ppo.run(config(PPOConfig, tmp_path / "watched", data, audit=audit, **keys))
    weights = [load_file(open_run(out).adapter / "adapter_model.safetensors")
               for out in (alone, watched)]  # fmt: skip
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    lines = [row for row in open_run(watched).read_metrics() if "objective/scores" in row]
    assert lines
    for row in lines:
        assert row["objective/scores/reward"] == pytest.approx(row["objective/scores"])
        assert 0 <= row["objective/scores/gold_score"] <= 1
    assert "KL from the reference: gold_score" in open_run(watched).report.read_text()
    assert f"audit {runs / 'reward'}" in open_run(watched).facts["parents"]
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text("".join(json.dumps(row) + "\n" for row in PROMPTS))
    with pytest.raises(DataError, match=r"only for prompts of rlhf\.sandbox"):
        ppo.run(config(PPOConfig, tmp_path / "no", foreign, audit=["sandbox"], **keys))


def test_a_stages_config_is_the_trainers_knobs(runs, tmp_path):
    made = stage(runs, tmp_path / "out", kl_coef=0.07)
    assert isinstance(made, PPOKnobs)
    assert PPOArguments(str(tmp_path), knobs=made, use_cpu=True).knobs is made
    flat = PPOArguments(str(tmp_path), kl_coef=0.07, num_rollouts=3, use_cpu=True)
    assert flat.knobs == PPOKnobs(kl_coef=0.07, num_rollouts=3)
    assert flat.to_dict()["kl_coef"] == 0.07
    assert json.loads(flat.to_json_string())["num_rollouts"] == 3


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"kl_coef": -1.0}, "`kl_coef`: Input should be greater than or equal to 0"),
        ({"is_cap": 2.0}, "is_cap is called importance_weight_cap now"),
        ({"value_warmup_steps": 2}, "value_warmup_steps is called value_warmup_rollouts now"),
        ({"rollout_batch_size": 6, "samples_per_prompt": 4}, "must be a multiple of"),
        ({"rollout_batch_size": 6, "num_mini_batches": 4}, "must be a multiple of"),
    ],
)
def test_a_library_is_told_of_a_bad_knob_as_a_config_is(tmp_path, wrong, words):
    with pytest.raises(ValueError, match=words):
        PPOArguments(str(tmp_path), **wrong)


def test_wrong_runs_are_refused_before_anything_is_loaded(runs, make_base, tmp_path):
    with pytest.raises(RunError, match="reward"):
        ppo.run(stage(runs, tmp_path / "out", policy=str(runs / "reward")))
    with pytest.raises(RunError, match="sft"):
        ppo.run(stage(runs, tmp_path / "out", reward=str(runs / "sft")))
    other = QLORA | {"base": str(make_base(seed=1))}
    policy = sft.run(
        config(SFTConfig, tmp_path / "other", runs / "demonstrations.jsonl", model=other)
    )
    with pytest.raises(ModelError, match="another base"):
        ppo.run(stage(runs, tmp_path / "out", policy=str(policy)))
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial").exists()
