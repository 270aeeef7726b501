"""What SFT, reward and DPO do to a tiny model: the traps that fail without an error message."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean
from threading import RLock
from typing import Any, cast, get_args

import bitsandbytes.nn.modules
import pytest
import torch
import trl.trainer.utils
from bitsandbytes.nn.modules import Linear4bit
from datasets import Dataset
from safetensors.torch import load_file
from torch.testing import assert_close
from trl.trainer.reward_config import RewardConfig as RewardArguments

from rlhf.chat import encode_prompt, encode_response
from rlhf.config import DPOConfig, ModelConfig, RewardConfig, SFTConfig, Tuning, build
from rlhf.data.prepare import load
from rlhf.errors import ConfigError, ModelError
from rlhf.model.adapters import orthogonality, unrounded
from rlhf.model.bases import Actor, InMemory
from rlhf.model.engine.generate import Sampling, sample_ids
from rlhf.model.load import BaseSpec, load_base
from rlhf.model.scorer import Scorer, load_scorer
from rlhf.model.scoring import logprobs, sequences
from rlhf.model.start import Start, load_start
from rlhf.records import Preference
from rlhf.runs import open_run
from rlhf.stages import dpo, reward, sft
from rlhf.stages.reward import PairTrainer, scoring
from rlhf.training.trainer import ByLength
from tests import tiny
from tests.stages import QLORA, config, watching

pytestmark = pytest.mark.integration

IDS = torch.arange(24).reshape(2, 12) + 5


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    tiny.write_demonstrations(folder / "demonstrations.jsonl")
    tiny.write_preferences(folder / "preferences.jsonl")
    return folder


@pytest.fixture(scope="module")
def demonstrations(data) -> Path:
    return data / "demonstrations.jsonl"


@pytest.fixture(scope="module")
def preferences(data) -> Path:
    return data / "preferences.jsonl"


@pytest.fixture(scope="module")
def make_sft(make_base, demonstrations, tmp_path_factory):
    """``make_sft("ia3")``: a finished SFT run of that tuning, on a base of its own kind."""
    root, made = tmp_path_factory.mktemp("sft"), {}

    def make(tuning: Tuning = "qlora", *, pad_is_eos: bool = False) -> Path:
        key = (tuning, pad_is_eos)
        if key not in made:
            model = QLORA | {"base": str(make_base(pad_is_eos=pad_is_eos)), "tuning": tuning}
            out = root / f"{tuning}-{pad_is_eos}"
            made[key] = sft.run(config(SFTConfig, out, demonstrations, model=model))
        return made[key]

    return make


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits[:, -IDS.shape[1] :]


@pytest.mark.parametrize("tuning", get_args(Tuning))
def test_every_method_trains_in_sft_and_comes_back_as_it_was(
    tuning, base, demonstrations, tmp_path, monkeypatch
):
    keys = {"base": str(base), "tuning": tuning, "lora": {"rank": 4}, "num_virtual_tokens": 3}
    with watching(monkeypatch) as seen:
        sft.run(config(SFTConfig, tmp_path / "sft", demonstrations, model=keys, max_steps=3))
    [watched] = seen
    assert watched.before == watched.after
    start = Start.of_run(tmp_path / "sft")
    again, _ = load_start(start)
    assert_close(logits(again), logits(watched.model))
    assert (logits(again) - logits(load_base(BaseSpec.of(config_of(keys))))).abs().max() > 1e-3


def config_of(keys) -> ModelConfig:
    return build(ModelConfig, keys)


def test_adalora_prunes_to_the_rank_that_was_asked_for(base, demonstrations, tmp_path, monkeypatch):
    model = QLORA | {"base": str(base), "tuning": "adalora"}
    with watching(monkeypatch) as seen:
        sft.run(config(SFTConfig, tmp_path / "sft", demonstrations, model=model, max_steps=9))
    values = {n: t for n, t in seen[0].trained.items() if "lora_E" in n}
    assert sum(len(t) for t in values.values()) == 14 * 6
    assert sum(int((t != 0).sum()) for t in values.values()) == 14 * 4
    saved = load_file(open_run(tmp_path / "sft").adapter / "adapter_model.safetensors")
    assert sum(len(t) for n, t in saved.items() if "lora_E" in n) == 14 * 4


@pytest.mark.parametrize("stage", ["reward", "dpo"])
@pytest.mark.parametrize("tuning", ["adalora", "prefix", "prompt", "p_tuning"])
def test_methods_that_make_no_sense_are_refused_and_leave_no_folder(
    stage, tuning, base, preferences, tmp_path
):
    module, kind = {"reward": (reward, RewardConfig), "dpo": (dpo, DPOConfig)}[stage]
    model = {"base": str(base), "tuning": tuning}
    with pytest.raises(ModelError, match=f"{stage} cannot train tuning: {tuning}"):
        module.run(config(kind, tmp_path / "out", preferences, model=model))
    assert list(tmp_path.iterdir()) == []


def test_prefix_tuning_under_checkpointing_is_refused(base, demonstrations, tmp_path):
    model = {"base": str(base), "tuning": "prefix"}
    with pytest.raises(ConfigError, match="set gradient_checkpointing: false"):
        sft.run(
            config(
                SFTConfig,
                tmp_path / "out",
                demonstrations,
                model=model,
                gradient_checkpointing=True,
            )
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("tuning", ["full", "lora", "dora", "rslora", "ia3"])
def test_methods_that_make_sense_go_on_from_sft(
    tuning, make_sft, preferences, tmp_path, monkeypatch
):
    start = make_sft(tuning)
    with watching(monkeypatch) as seen:
        reward.run(config(RewardConfig, tmp_path / "reward", preferences, sft=str(start)))
        dpo.run(config(DPOConfig, tmp_path / "dpo", preferences, sft=str(start)))
    before = logits(load_start(Start.of_run(start))[0])
    after = logits(load_start(Start.of_run(tmp_path / "dpo"))[0])
    assert_close(after, logits(seen[1].model))
    assert (after - before).abs().max() > 1e-3
    rewarded = load_scorer(tmp_path / "reward").score_ids(IDS.tolist(), [[], []])
    assert rewarded[0] != rewarded[1]


@pytest.mark.parametrize("tuning", ["qlora", "adalora"])
def test_only_labelled_tokens_are_learned(tuning, base, tmp_path, monkeypatch, demonstrations):
    """The loss of the first step is the mean over the response tokens of the first batch."""
    model = QLORA | {"base": str(base), "tuning": tuning}
    with watching(monkeypatch) as seen:
        sft.run(
            config(
                SFTConfig,
                tmp_path / "sft",
                demonstrations,
                model=model,
                max_steps=1,
                per_device_train_batch_size=100,
            )
        )
    trainer = seen[0].trainer
    torch.manual_seed(0)
    fresh, tokenizer = load_start(Start.of_config(config_of(model)), config_of(model))
    rows = trainer.train_dataset
    split = [next(i for i, label in enumerate(r) if label != -100) for r in rows["labels"]]
    prompts = [ids[:n] for ids, n in zip(rows["input_ids"], split, strict=True)]
    responses = [ids[n:] for ids, n in zip(rows["input_ids"], split, strict=True)]
    assert all(r[-1] == tokenizer.eos_token_id for r in responses)
    batch = sequences(prompts, responses, pad_id=2, device=torch.device("cpu"))
    taken = logprobs(fresh, batch)
    expected = -taken[batch.response_mask].mean().item()
    if tuning == "adalora":
        expected += cast("torch.Tensor", orthogonality(fresh)).item()
    [first] = [m["loss"] for m in open_run(tmp_path / "sft").read_metrics() if "loss" in m]
    assert first == pytest.approx(expected, rel=1e-4)


def test_the_output_layer_works_on_labelled_places_only(
    base, demonstrations, tmp_path, monkeypatch
):
    counts: list[int] = []
    function = cast("Any", trl.trainer.utils)._ChunkedLogProbFunction
    apply = function.apply

    def counted(states, *args):
        counts.append(len(states))
        return apply(states, *args)

    monkeypatch.setattr(function, "apply", counted)
    made = config(
        SFTConfig,
        tmp_path / "sft",
        demonstrations,
        model=QLORA | {"base": str(base)},
        max_steps=1,
        per_device_train_batch_size=100,
    )
    with watching(monkeypatch) as seen:
        sft.run(made)
    labels = [label for row in seen[0].trainer.train_dataset["labels"] for label in row]
    assert counts[0] == sum(label != -100 for label in labels) < len(labels)


def test_every_epoch_has_an_order_of_its_own(make_sft, preferences, tmp_path, monkeypatch):
    start = str(make_sft())
    orders: list[list[int]] = []
    each = ByLength.__iter__

    def noted(self):
        orders.append(list(each(self)))
        return iter(orders[-1])

    monkeypatch.setattr(ByLength, "__iter__", noted)
    keys = {"sft": start, "max_steps": -1, "num_train_epochs": 2}
    reward.run(config(RewardConfig, tmp_path / "reward", preferences, **keys))
    first, second = orders
    assert sorted(first) == sorted(second)
    assert first != second


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo"])
def test_neither_checkpointing_nor_cutting_a_batch_changes_what_is_learned(
    stage, make_sft, base, demonstrations, preferences, tmp_path
):
    module, kind = {"sft": (sft, SFTConfig), "reward": (reward, RewardConfig),
                    "dpo": (dpo, DPOConfig)}[stage]  # fmt: skip
    data = demonstrations if stage == "sft" else preferences
    start = {"model": QLORA | {"base": str(base)}} if stage == "sft" else {"sft": str(make_sft())}
    ways = {
        "plain": {},
        "checkpointed": {"gradient_checkpointing": True},
        "cut": {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
    }
    found = {}
    for way, keys in ways.items():
        # SGD: Adam would blow a rounding error in a tiny gradient up to a whole step
        optimizer = {"trainer": {"optim": "sgd"}, "learning_rate": 0.5}
        module.run(config(kind, tmp_path / way, data, **start, **keys, **optimizer))
        found[way] = load_file(open_run(tmp_path / way).adapter / "adapter_model.safetensors")
    for name, plain in found["plain"].items():
        assert_close(found["checkpointed"][name], plain)
        assert_close(found["cut"][name], plain, rtol=1e-4, atol=1e-5)  # padded differently
    assert any("lora_B" in name and t.abs().max() > 1e-4 for name, t in found["plain"].items())


def test_evaluating_in_between_changes_nothing_that_is_learned(base, demonstrations, tmp_path):
    model = QLORA | {"base": str(base)}
    for name, every in (("often", 1), ("never", 100)):
        keys = {"model": model, "max_steps": 3, "eval_steps": every}
        sft.run(config(SFTConfig, tmp_path / name, demonstrations, **keys))
    often, never = (
        load_file(open_run(tmp_path / n).adapter / "adapter_model.safetensors")
        for n in ("often", "never")
    )
    assert all(torch.equal(often[name], never[name]) for name in never)


def test_sampling_in_eval_mode_leaves_gradients_as_in_a_fresh_model(make_sft):
    def gradients(*, after_sampling: bool) -> torch.Tensor:
        model, tokenizer = load_start(Start.of_run(make_sft()))
        if after_sampling:
            prompts = [encode_prompt(tokenizer, p) for p in tiny.prompts(4)]
            sample_ids(model, tokenizer, prompts, Sampling(max_new_tokens=5, seed=0))
            logits(model)
        model.train()(input_ids=IDS, labels=IDS).loss.backward()
        found = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        assert len(found) == sum(p.requires_grad for p in model.parameters())
        return torch.cat(found)

    fresh, used = gradients(after_sampling=False), gradients(after_sampling=True)
    assert torch.cosine_similarity(fresh, used, dim=0) >= 0.999
    assert_close(used.norm(), fresh.norm(), rtol=1e-3, atol=0)


def test_no_4_bit_layer_may_repack_itself_for_avx512(make_sft, monkeypatch):
    # the gradients above cannot go wrong on a CPU without AVX512-BF16: pretend that this one has it
    monkeypatch.setattr(bitsandbytes.nn.modules, "has_avx512bf16", lambda: True)
    assert Linear4bit(64, 64).support_avx512bf16_for_cpu
    model, _ = load_start(Start.of_run(make_sft()))
    flags = [m.support_avx512bf16_for_cpu for m in model.modules() if isinstance(m, Linear4bit)]
    assert len(flags) == 14
    assert not any(flags)


def test_dropout_is_off_in_dpo(base, demonstrations, preferences, tmp_path):
    model = {"base": str(base), "lora": {"rank": 4, "dropout": 0.5}}
    sft.run(config(SFTConfig, tmp_path / "sft", demonstrations, model=model))
    dpo.run(config(DPOConfig, tmp_path / "dpo", preferences, sft=str(tmp_path / "sft")))
    [first, _] = [m["loss"] for m in open_run(tmp_path / "dpo").read_metrics() if "loss" in m]
    assert first == pytest.approx(math.log(2), abs=1e-6)


@pytest.mark.parametrize("tuning", ["qlora", "ia3"])
def test_the_reference_of_dpo_is_the_sft_policy(
    tuning, make_sft, preferences, tmp_path, monkeypatch
):
    start = make_sft(tuning)
    with watching(monkeypatch) as seen:
        dpo.run(config(DPOConfig, tmp_path / "dpo", preferences, sft=str(start)))
    model = seen[0].model
    assert set(model.peft_config) == {"default", "ref"}
    model.set_adapter("ref")
    reference = logits(model)
    assert_close(reference, logits(load_start(Start.of_run(start))[0]), rtol=0, atol=0)
    assert (reference - logits(load_base(Start.of_run(start).spec))).abs().max() > 1e-3
    # exactly the same policy at first: not one that was rounded to bf16 on the way
    losses = [m["loss"] for m in open_run(tmp_path / "dpo").read_metrics() if "loss" in m]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[1] < losses[0] - 1e-3


def test_adapters_and_heads_stay_fp32_from_the_first_step(
    make_sft, preferences, tmp_path, monkeypatch
):
    for module, kind in ((reward, RewardConfig), (dpo, DPOConfig)):
        name = module.__name__.rpartition(".")[2]
        with watching(monkeypatch) as seen:
            keys = {"sft": str(make_sft()), "max_steps": 1}
            module.run(config(kind, tmp_path / name, preferences, **keys))
        [watched] = seen
        assert {t.dtype for t in watched.trained.values()} == {torch.float32}
        moments = [s["exp_avg"].dtype for s in watched.trainer.optimizer.state.values()]
        assert moments
        assert set(moments) == {torch.float32}
        assert any("lm_head" in n for n in watched.trained) == (module is reward)


def test_reward_weights_are_not_rounded_to_bf16(make_sft, preferences, tmp_path, monkeypatch):
    with watching(monkeypatch) as seen:
        keys = {"sft": str(make_sft()), "max_steps": 1, "learning_rate": 1e-9}
        reward.run(config(RewardConfig, tmp_path / "reward", preferences, **keys))
    saved = load_file(open_run(make_sft()).adapter / "adapter_model.safetensors")
    ours = {n.replace(".default", ""): t for n, t in seen[0].trained.items()}
    for name, tensor in saved.items():
        assert_close(ours[name], tensor, rtol=0, atol=1e-7)


SCORE = """
import json, sys
from rlhf.model.scorer import Scorer, load_scorer
print(json.dumps([load_scorer(run).score_ids(*json.loads(rows)) for run, rows in
                  zip(sys.argv[1::2], sys.argv[2::2])]))
"""


def test_a_reward_run_scores_the_same_in_a_new_process(
    make_sft, preferences, tmp_path, monkeypatch
):
    asked, here, logged = [], [], []
    for pad_is_eos in (False, True):
        out = tmp_path / f"reward-{pad_is_eos}"
        keys = {"sft": str(make_sft(pad_is_eos=pad_is_eos)), "eval_fraction": 0.3, "max_steps": 3}
        made = config(
            RewardConfig,
            out,
            preferences,
            **{k: v for k, v in keys.items() if k != "eval_fraction"},
        )
        with watching(monkeypatch) as seen:
            reward.run(made)
        # what training measured on the live model, batch by batch
        [*_, last] = [m for m in open_run(out).read_metrics() if "eval_margin" in m]
        logged.append((last["eval_margin"], last["eval_accuracy"]))
        rows = seen[0].trainer.eval_dataset
        pairs = [*rows["chosen_ids"], *rows["rejected_ids"]]
        here.append(load_scorer(out).score_ids(pairs, [[]] * len(pairs)))
        asked += [str(out), json.dumps([pairs, [[]] * len(pairs)])]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCORE, *asked],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path.cwd())},
    )
    there = json.loads(done.stdout)
    assert there == here
    for scores, (margin, accuracy) in zip(there, logged, strict=True):
        half = len(scores) // 2
        gaps = [c - r for c, r in zip(scores[:half], scores[half:], strict=True)]
        assert fmean(gaps) == pytest.approx(margin, abs=1e-4)  # batches were padded differently
        assert fmean(g > 0 for g in gaps) == pytest.approx(accuracy)


def test_ties_count_half_and_a_short_batch_no_more_than_its_rows(make_sft, tmp_path):
    torch.manual_seed(0)
    model, tokenizer = load_start(Start.of_run(make_sft()))
    rows = torch.randint(5, 200, (10, 8)).tolist()
    pairs = {"chosen_ids": rows[:5], "rejected_ids": rows[5:8] + rows[3:5]}  # the last two tie
    arguments = RewardArguments(
        str(tmp_path),
        per_device_eval_batch_size=4,
        activation_checkpointing=False,
        bf16=False,
        report_to=[],
        dataloader_pin_memory=False,
    )
    data = Dataset.from_dict(pairs)
    with scoring(model) as head:
        with unrounded(model):
            trainer = PairTrainer(
                model=model, args=arguments, train_dataset=data, processing_class=tokenizer
            )
        found = trainer.evaluate(data)
    scorer = Scorer(Actor(InMemory(model), "default", tokenizer, RLock()), head)
    chosen, rejected = (scorer.score_ids(ids, [[]] * 5) for ids in pairs.values())
    points = [0.5 if c == r else float(c > r) for c, r in zip(chosen, rejected, strict=True)]
    assert points[3:] == [0.5, 0.5]
    assert found["eval_accuracy"] == fmean(points)
    gaps = [c - r for c, r in zip(chosen, rejected, strict=True)]
    assert found["eval_margin"] == pytest.approx(fmean(gaps), abs=1e-4)


def test_the_margin_is_taken_off_inside_the_loss(make_sft, preferences, tmp_path):
    losses = {}
    for use in (False, True):
        out = tmp_path / str(use)
        keys = {"sft": str(make_sft()), "use_margin": use, "max_steps": 1}
        reward.run(config(RewardConfig, out, preferences, **keys))
        [losses[use]] = [m["loss"] for m in open_run(out).read_metrics() if "loss" in m]
    assert losses[True] > losses[False] + 0.05


def test_early_stopping_keeps_the_best(base, demonstrations, tmp_path):
    keys = {
        "model": QLORA | {"base": str(base)},
        "max_steps": 30,
        "eval_steps": 2,
        "learning_rate": 0.1,  # far too high, so that it soon gets worse
        "lr_scheduler_type": "constant",
    }
    sft.run(config(SFTConfig, tmp_path / "sft", demonstrations, **keys, early_stopping_patience=1))
    run = open_run(tmp_path / "sft")
    losses = {m["step"]: m["eval_loss"] for m in run.read_metrics() if "eval_loss" in m}
    best = min(losses, key=lambda step: losses[step])
    assert run.facts["best_step"] == best
    assert best < run.facts["steps"] < 30
    sft.run(config(SFTConfig, tmp_path / "best", demonstrations, **keys | {"max_steps": best}))
    kept, expected = (
        load_file(open_run(folder).adapter / "adapter_model.safetensors")
        for folder in (run.path, tmp_path / "best")
    )
    assert all(torch.equal(kept[name], expected[name]) for name in expected)


def test_the_same_seed_gives_the_same_weights_and_another_gives_others(
    make_sft, preferences, tmp_path
):
    files = {}
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        keys = {"sft": str(make_sft()), "seed": seed}
        reward.run(config(RewardConfig, tmp_path / name, preferences, **keys))
        run = open_run(tmp_path / name)
        files[name] = run.head.read_bytes()
    assert files["one"] == files["two"] != files["three"]


def test_a_run_says_what_it_came_from(make_sft, preferences, tmp_path):
    dpo.run(config(DPOConfig, tmp_path / "dpo", preferences, sft=str(make_sft())))
    facts = open_run(tmp_path / "dpo").facts
    assert facts["parents"]["sft"]["path"] == str(make_sft())
    assert facts["base"]["storage"] == "nf4"
    assert facts["base"]["tuning"] == "qlora"
    assert facts["data"].keys() == {str(preferences)}
    assert facts["records"]["train"] + facts["records"]["eval"] == 24
    assert facts["steps"] == 2


def test_held_out_rows_are_evaluated_after_the_last_step(make_sft, preferences, tmp_path):
    keys = {"sft": str(make_sft()), "max_steps": 3, "eval_steps": 2}
    made = config(RewardConfig, tmp_path / "reward", preferences, **keys)
    reward.run(made)
    steps = [m["step"] for m in open_run(made.out).read_metrics() if "eval_accuracy" in m]
    assert steps == [2, 3]
    assert len(load(made.data, Preference).eval) > 0


def test_what_the_reward_model_reads_ends_with_the_end_token(
    make_sft, preferences, tmp_path, monkeypatch
):
    with watching(monkeypatch) as seen:
        reward.run(config(RewardConfig, tmp_path / "reward", preferences, sft=str(make_sft())))
    trainer = seen[0].trainer
    end = trainer.processing_class.eos_token_id
    rows = [*trainer.train_dataset["chosen_ids"], *trainer.train_dataset["rejected_ids"]]
    assert all(row[-1] == end and row[-2] != end for row in rows)
    preference = load(config(RewardConfig, tmp_path, preferences, sft="").data, Preference).train[0]
    tokenizer = trainer.processing_class
    prompt = preference.prompt
    expected = encode_prompt(tokenizer, prompt) + encode_response(
        tokenizer, prompt, preference.chosen
    )
    assert trainer.train_dataset[0]["chosen_ids"] == expected
