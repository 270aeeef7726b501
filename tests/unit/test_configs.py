"""Every config under configs/ loads; every mistake is refused, and the right key is named."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from hypothesis import given
from hypothesis import strategies as st

from rlhf.config import (
    CONFIG_OF,
    SIBLINGS,
    KTOConfig,
    LoraConfig,
    ModelConfig,
    PPOConfig,
    PretrainConfig,
    RewardConfig,
    RLOOConfig,
    SFTConfig,
    StageConfig,
    build,
    load_config,
    load_stage,
    to_dict,
    to_yaml,
)
from rlhf.config.config_help import manual
from rlhf.errors import ConfigError

ROOT = Path(__file__).parents[2]
FILES = sorted(p for p in (ROOT / "configs").glob("*/*.yaml") if p.stem in CONFIG_OF)

SFT = {"out": "runs/x", "model": {"base": "b"}, "data": {"train": [{"path": "t.jsonl"}]}}
PPO = {"out": "runs/x", "policy": "p", "reward": "r", "data": {"train": [{"path": "t.jsonl"}]}}


def written(tmp_path: Path, config: object) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(config if isinstance(config, str) else json.dumps(config))
    return path


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_shipped_config_loads_and_says_what_it_is_for(path: Path):
    config = load_config(CONFIG_OF[path.stem], path)
    assert config.out.startswith("runs/")
    assert path.read_text().startswith("#")


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "ppo"])
@pytest.mark.parametrize("family", ["qwen3-0.6b", "llama3-8b"])
def test_every_family_has_every_stage_with_its_memory_and_chained_runs(family: str, stage: str):
    path = ROOT / "configs" / family / f"{stage}.yaml"
    text = path.read_text()
    assert "Memory, about" in text
    assert "ot measured on a GPU" in text
    config = to_dict(load_config(CONFIG_OF[stage], path))
    assert config["out"] == f"runs/{family}/{stage}"
    parents = {config.get(key) for key in ("sft", "policy", "reward")} - {None}
    assert parents <= {f"runs/{family}/sft", f"runs/{family}/reward"}


def test_an_unknown_key_is_refused_with_the_nearest_right_one(tmp_path: Path):
    for wrong, key, near in [
        (SFT | {"learning_rat": 1e-5}, "learning_rat", "learning_rate"),
        (
            SFT | {"model": {"base": "b", "quantisation": "nf4"}},
            "model.quantisation",
            "quantization",
        ),
        (SFT | {"data": {"train": [{"pth": "t"}]}}, "data.train.0.pth", "path"),
    ]:
        with pytest.raises(ConfigError, match=f"unknown key `{key}`; did you mean `{near}`"):
            load_config(SFTConfig, written(tmp_path, wrong))


@pytest.mark.parametrize("stage", ["ppo", "rloo", "grpo"])
def test_the_price_of_kl_has_one_place_and_no_key_for_another(tmp_path: Path, stage: str):
    keys = {"policy": "p", "reward": "r", "out": "o", "data": {"train": [{"path": "t"}]}}
    with pytest.raises(ConfigError, match="unknown key `kl_placement`"):
        load_config(CONFIG_OF[stage], written(tmp_path, keys | {"kl_placement": "loss"}))


def test_all_mistakes_are_named_at_once(tmp_path: Path):
    wrong = {"model": {"base": "b", "tuning": "lorra"}, "data": {"train": []}, "seed": "one"}
    with pytest.raises(ConfigError) as caught:
        load_config(SFTConfig, written(tmp_path, wrong))
    for part in ("`out` is missing", "model.tuning", "data.train", "seed", "config.yaml:"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("learning_rate", 0),
        ("learning_rate", "fast"),
        ("seed", 1.5),
        ("seed", True),
        ("seed", "1"),
        ("out", 3),
        ("gradient_checkpointing", "yes please"),
        ("per_device_train_batch_size", 0),
        ("data", {"train": [{"path": "t", "weight": -1}]}),
        ("data", {"train": [{"path": "t"}], "eval_fraction": 1}),
        ("model", {"base": "b", "tuning": "full", "quantization": "nf4"}),
        ("model", {"base": "b", "tuning": "qlora", "quantization": "int8"}),
    ],
)
def test_a_bad_value_is_refused_and_named(tmp_path: Path, key: str, value: object):
    with pytest.raises(ConfigError, match=key):
        load_config(SFTConfig, written(tmp_path, SFT | {key: value}))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "write key=value"),
        ("=1", "write key=value"),
        ("sed=1", "unknown key `sed`; did you mean `seed`"),
        ("out.name=1", "'out' has a value"),
        ("data.train.1.path=x", "'1' is not one of its 1 entries"),
        ("data.train.x=1", "'x' is not one of its 1 entries"),
        ("seed=[", "not YAML"),
        ("seed=x", "`seed`"),
    ],
)
def test_a_bad_override_is_refused(tmp_path: Path, override: str, message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        load_config(SFTConfig, written(tmp_path, SFT), [override])


def test_overrides_reach_everywhere(tmp_path: Path):
    config = load_config(
        SFTConfig,
        written(tmp_path, SFT),
        ["seed=7", "model.lora.rank=8", "data.train.0.path=mine.jsonl", "report_to=[wandb]"],
    )
    assert config.model
    assert (config.seed, config.model.lora.rank, config.report_to) == (7, 8, ["wandb"])
    assert config.data.train[0].path == "mine.jsonl"


def test_scientific_notation_is_a_number(tmp_path: Path):
    path = written(tmp_path, f"{json.dumps(SFT)[:-1]}, learning_rate: 1e-5}}")
    assert load_config(SFTConfig, path).learning_rate == 1e-5
    assert load_config(SFTConfig, path, ["learning_rate=2e-5"]).learning_rate == 2e-5


@pytest.mark.parametrize("text", ["", "- a", "just words", "a: [", "\tkey: 1"])
def test_a_file_without_keys_is_refused_in_one_line(tmp_path: Path, text: str):
    with pytest.raises(ConfigError) as caught:
        load_config(SFTConfig, written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(SFTConfig, tmp_path / "nothing.yaml")


def test_ppo_sizes_that_do_not_divide_are_refused_with_the_numbers():
    with pytest.raises(ConfigError, match=r"rollout_batch_size \(64\) must be a multiple"):
        build(PPOConfig, PPO | {"num_mini_batches": 3})


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (PPOConfig, {"samples_per_prompt": 3}, "multiple of samples_per_prompt"),
        (PPOConfig, {"gradient_accumulation_steps": 2}, "leave it out"),
        (PPOConfig, {"max_steps": 5}, "num_rollouts says how long"),
        (RewardConfig, {}, "either `sft` (a run folder) or `model`"),
        (RewardConfig, {"sft": "s", "model": {"base": "b"}}, "either `sft`"),
        (PretrainConfig, {}, "either `base` to train on, or the `architecture`"),
        (PretrainConfig, {"architecture": {}}, "either a `tokenizer`, or the `vocab_size`"),
        (PretrainConfig, {"base": "b", "vocab_size": 9}, "a base keeps its tokenizer"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(
    kind: type[StageConfig], changes: dict[str, object], message: str
):
    own = PPO if kind is PPOConfig else {"out": "x", "data": {"train": [{"path": "t"}]}}
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(kind, own | changes)


@pytest.mark.parametrize(
    ("tuning", "quantization", "storage"),
    [
        ("qlora", "auto", "nf4"),
        ("lora", "auto", "none"),
        ("lora", "int8", "int8"),
        ("dora", "nf4", "nf4"),
        ("full", "auto", "none"),
    ],
)
def test_how_the_base_is_stored_follows_from_one_word(tuning, quantization, storage):
    assert ModelConfig(base="b", tuning=tuning, quantization=quantization).storage == storage


def test_an_override_fills_what_the_file_leaves_empty(tmp_path: Path):
    path = written(tmp_path, SFT | {"trainer": None})
    assert load_config(SFTConfig, path, ["trainer.adam_beta1=0.8"]).trainer == {"adam_beta1": 0.8}
    with pytest.raises(ConfigError, match=r"data\.train\.0"):
        load_config(SFTConfig, path, ["data.train.0=x"])


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_a_config_written_out_is_the_config_that_is_loaded(path: Path, tmp_path: Path):
    config = load_config(CONFIG_OF[path.stem], path)
    assert load_config(type(config), written(tmp_path, to_yaml(config))) == config


@given(
    rate=st.floats(min_value=1e-12, max_value=1e3),
    rank=st.integers(1, 512),
    base=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1),
)
def test_any_config_survives_being_written_out(
    tmp_path_factory: pytest.TempPathFactory, rate: float, rank: int, base: str
):
    config = replace(
        build(SFTConfig, SFT),
        learning_rate=rate,
        model=ModelConfig(base=base, lora=LoraConfig(rank=rank)),
    )
    path = tmp_path_factory.mktemp("configs") / "c.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    assert load_config(SFTConfig, path) == config


def test_the_manual_lists_every_key_with_its_default_and_its_docstring():
    text = manual(PPOConfig)
    assert "  kl_coef: float = 0.05\n      Price of one nat of KL(policy || reference)" in text
    assert "  policy: str (required)" in text
    assert "  clip_range_high: float | null = null" in text
    assert "  data.train.0.path: str (required)" in text
    assert "  gradient_checkpointing: bool = false" in text
    assert "  seed: int = 0" in text, "keys of the base class too"
    sft = manual(SFTConfig)
    assert "  model.lora.rank: int = 16" in sft
    assert "  data.eval.0: keys as of data.train.0" in sft
    assert max(map(len, text.splitlines())) <= 92
    for key in to_dict(build(PPOConfig, PPO)):
        assert f"  {key}: " in text


LAUNCHES = {"ddp": "multi_gpu", "fsdp2": "use_fsdp", "deepspeed": "use_deepspeed"}


def test_every_launch_config_is_one_that_is_known():
    found = (ROOT / "configs/accelerate").glob("*.yaml")
    assert {path.stem for path in found} == LAUNCHES.keys()


@pytest.mark.parametrize("name", LAUNCHES)
def test_accelerate_understands_every_launch_config(name: str):
    path = ROOT / f"configs/accelerate/{name}.yaml"
    assert path.read_text().startswith("#")
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "-m", "rlhf"])
    known = vars(arguments).keys()
    resolved, config, _ = cast("Any", _validate_launch_command(arguments))
    assert config is not None
    for keys in (config.fsdp_config, config.deepspeed_config):
        assert keys.keys() <= known
    assert [kind for kind in LAUNCHES.values() if getattr(resolved, kind)] == [LAUNCHES[name]]
    assert resolved.num_processes == 2
    assert resolved.mixed_precision == "no"


METHODS = [(stage, family) for family in SIBLINGS for stage in family]
OWN = {"dpo": "dpo.yaml", "kto": "dpo.yaml"}


@pytest.mark.parametrize("stage", [stage for stage, _ in METHODS])
@pytest.mark.parametrize("family", ["demo", "qwen3-0.6b", "llama3-8b"])
def test_one_word_is_changed_to_compare_methods(family: str, stage: str):
    path = ROOT / "configs" / family / OWN.get(stage, "ppo.yaml")
    config, note = load_stage(stage, path)
    assert type(config) is CONFIG_OF[stage]
    assert config.out == f"runs/{family}/{stage}"
    assert "\n" not in note
    if stage == path.stem:
        assert note == ""
    else:
        assert f"the run is written to runs/{family}/{stage}" in note
    if stage == "grpo" and family == "demo":
        assert "grpo has no use for value_learning_rate, value_warmup_rollouts;" in note


def test_what_siblings_share_keeps_its_value(tmp_path: Path):
    path = written(tmp_path, PPO | {"kl_coef": 0.2, "learning_rate": 3e-4, "gamma": 0.9})
    config, note = load_stage("rloo", path)
    assert isinstance(config, RLOOConfig)
    assert (config.kl_coef, config.learning_rate) == (0.2, 3e-4)
    assert note == f"{path} is a sibling's: rloo has no use for gamma"


@pytest.mark.parametrize(
    ("stage", "given", "own"),
    [("rloo", 1, 4), ("rloo", 8, 8), ("grpo", 1, 4), ("online-dpo", 1, 2), ("online-dpo", 8, 2),
     ("best-of-n", 1, 4), ("best-of-n", 16, 16), ("ppo", 8, 8)],
)  # fmt: skip
def test_a_number_of_samples_that_cannot_be_gives_way(
    tmp_path: Path, stage: str, given: int, own: int
):
    theirs = {"samples_per_prompt": given} | ({"gamma": 0.9} if stage != "ppo" else {})
    config, note = load_stage(stage, written(tmp_path, PPO | theirs))
    assert to_dict(config)["samples_per_prompt"] == own
    assert (f"samples_per_prompt is {own} instead of {given}" in note) == (own != given)


def test_only_a_siblings_yaml_is_adapted_and_only_where_it_is_known(tmp_path: Path):
    for keys, message in [
        ({"samples_per_prompt": 1}, "samples_per_prompt"),  # nothing says that it is PPO's
        ({"gamma": 0.9, "gama": 1.0}, "unknown key `gama`"),
        ({"gamma": 0.9, "sft": "x"}, "unknown key `sft`"),
    ]:
        with pytest.raises(ConfigError, match=message):
            load_stage("rloo", written(tmp_path, PPO | keys))
    for override, message in [("gamma=0.9", "unknown key `gamma`"), ("samples_per_prompt=1", "2")]:
        with pytest.raises(ConfigError, match=message):
            load_stage("rloo", written(tmp_path, PPO | {"lam": 0.9}), [override])
    config, _ = load_stage("rloo", written(tmp_path, PPO | {"out": "runs/ppo"}), ["out=runs/ppo"])
    assert config.out == "runs/ppo"


@pytest.mark.parametrize(
    ("stage", "keys", "message"),
    [
        ("rloo", {"samples_per_prompt": 5}, "rollout_batch_size (64) must be a multiple of"),
        ("grpo", {"max_steps": 5}, "num_rollouts says how long"),
        ("online-dpo", {"per_device_train_batch_size": 1}, "must be even"),
        ("best-of-n", {"learning_rate": 1e-5}, "unknown key `learning_rate`"),
    ],
)
def test_what_a_method_cannot_do_is_refused(stage: str, keys: dict[str, object], message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        build(CONFIG_OF[stage], PPO | keys)


def test_kto_needs_two_rows_in_a_batch():
    own = {"out": "x", "sft": "s", "data": {"train": [{"path": "t"}]}}
    with pytest.raises(ConfigError, match="at least 2: KTO measures the KL"):
        build(KTOConfig, own | {"per_device_train_batch_size": 1})


@pytest.mark.parametrize(
    ("old", "new"),
    [("value_warmup_steps", "value_warmup_rollouts"), ("is_cap", "importance_weight_cap")],
)
def test_a_key_under_its_old_name_is_refused_with_the_new_one(old, new):
    with pytest.raises(ConfigError, match=f"`{old}` is called `{new}` now"):
        build(PPOConfig, {"out": "x", "policy": "p", "reward": "r", old: 2})
    with pytest.raises(ConfigError, match=f"unknown key `{old}`; "):  # it never was one there
        build(RewardConfig, {"out": "x", "sft": "p", old: 2})
