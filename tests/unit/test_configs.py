"""Every config under configs/ loads; every mistake is refused, and the right key is named."""

import json
import re
import shlex
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
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
    SFTConfig,
    StageConfig,
    build,
    load_config,
    load_stage,
    minimal,
    starter,
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
    for part in ("model.tuning", "data.train", "seed", "config.yaml:"):
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
        ("~seed", "'~seed': there is no such key to take out"),
        ("~out.name", "there is no such key to take out"),
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
        load_config(SFTConfig, path, ["~trainer", "data.train.0=3"])


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


def test_every_stage_has_a_config_for_the_demo():
    assert {path.stem for path in FILES if path.parent.name == "demo"} == set(CONFIG_OF)


def printed(error: pytest.ExceptionInfo[ConfigError]) -> list[str]:
    """The command that a refusal prints, as the words that a shell makes of it."""
    return shlex.split(str(error.value).split("`")[-2])


@pytest.mark.parametrize(("stage", "family"), METHODS)
@pytest.mark.parametrize("folder", ["demo", "qwen3-0.6b", "llama3-8b"])
def test_a_siblings_config_is_refused_with_the_command_that_runs_it(folder, stage, family):
    path = ROOT / "configs" / folder / f"{family[0]}.yaml"
    plain = yaml.safe_load(path.read_text())
    known = {f.name for f in fields(CONFIG_OF[stage])}
    foreign = [key for key in plain if key not in known]
    if not foreign:  # it is taken at its word, its folder included
        two = ["per_device_train_batch_size=2"] * (stage == "kto")  # of DPO's, one is enough
        assert load_stage(stage, path, two).out == plain["out"]
        return
    with pytest.raises(ConfigError) as caught:
        load_stage(stage, path, ["seed=7"])
    assert f"{stage} has no use for {', '.join(foreign)}; run `" in str(caught.value)
    program, name, file, *overrides = printed(caught)
    assert (program, name, file) == ("rlhf", stage, str(path))
    config = load_stage(stage, Path(file), overrides)
    assert config.out == f"runs/{folder}/{stage}"
    assert config.seed == 7
    shared = to_dict(load_config(CONFIG_OF[family[0]], path))
    own = to_dict(config)
    for key in plain.keys() & known - {"out"}:
        assert own[key] == shared[key], key


@pytest.mark.parametrize(
    ("stage", "value"), [("rloo", 1), ("grpo", 1), ("online-dpo", 8), ("best-of-n", 1)]
)
def test_a_value_that_only_siblings_can_use_is_named_and_the_command_does_without(
    tmp_path: Path, stage: str, value: int
):
    path = written(tmp_path, PPO | {"samples_per_prompt": value})
    with pytest.raises(ConfigError, match="`samples_per_prompt`: input should be") as caught:
        load_stage(stage, path)
    assert printed(caught) == ["rlhf", stage, str(path), "~samples_per_prompt"]
    config = load_stage(stage, path, ["~samples_per_prompt"])
    assert to_dict(config)["samples_per_prompt"] == (2 if stage == "online-dpo" else 4)


def test_an_override_that_only_siblings_know_is_left_out_of_the_command(tmp_path: Path):
    path = written(tmp_path, PPO)
    with pytest.raises(ConfigError, match="rloo has no use for gamma") as caught:
        load_stage("rloo", path, ["kl_coef=0.1", "gamma=0.9", "out=runs/a b"])
    assert printed(caught) == ["rlhf", "rloo", str(path), "kl_coef=0.1", "out=runs/a b"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"gamma": 0.9, "gama": 1.0}, "unknown key `gama`"),
        ({"gamma": 0.9, "sft": "x"}, "unknown key `sft`"),
        ({"gamma": 0.9, "samples_per_prompt": 1, "rollout_batch_size": 6}, "unknown key `gamma`"),
    ],
)
def test_no_command_is_printed_that_would_be_refused_too(tmp_path: Path, keys, message):
    with pytest.raises(ConfigError, match=message) as caught:
        load_stage("rloo", written(tmp_path, PPO | keys))
    assert "run `" not in str(caught.value)


def test_a_key_with_a_tilde_has_its_default(tmp_path: Path):
    path = written(tmp_path, SFT | {"seed": 3, "trainer": {"adam_beta1": 0.8, "optim": "sgd"}})
    config = load_config(SFTConfig, path, ["~seed", "~trainer.optim"])
    assert (config.seed, config.trainer) == (0, {"adam_beta1": 0.8})


@pytest.mark.parametrize("stage", CONFIG_OF)
def test_no_yaml_is_needed_and_what_is_missing_is_named_with_an_example(stage: str):
    with pytest.raises(ConfigError) as caught:
        load_stage(stage, None)
    said = str(caught.value)
    assert said.startswith("command line: `data` is missing; ")
    example = said.split("for example `rlhf ")[1].removesuffix("`")
    assert example == minimal(stage)
    name, *words = shlex.split(example)
    for word in words:
        assert (key := word.split("=")[0].split(".")[0]) in said.split("for example")[0], key
    config = load_stage(name, None, words)
    assert [source.path for source in config.data.train] == ["FILE"]
    assert config.out == ""


@pytest.mark.parametrize("stage", CONFIG_OF)
def test_a_starter_loads_as_it_is_and_with_every_default_written_out(stage: str, tmp_path: Path):
    text = starter(stage)
    config = load_stage(stage, written(tmp_path, text))
    assert config == load_stage(stage, None, shlex.split(minimal(stage))[1:])
    lines = [re.sub(r"^( *)#(?! \S)", r"\1", line) for line in text.splitlines()]
    assert load_stage(stage, written(tmp_path, "\n".join(lines))) == config
    spoken = {line.split(":")[0].strip(" -") for line in lines if not line.strip().startswith("#")}
    assert spoken >= {field.name for field in fields(CONFIG_OF[stage])}
    assert "# The run folder to write" in text


@pytest.mark.parametrize(
    ("words", "paths"),
    [
        (["data.train=a.jsonl"], ["a.jsonl"]),
        (["data.train=a.jsonl, b.jsonl"], ["a.jsonl", "b.jsonl"]),
        (["data.train=[a.jsonl, 'b,c.jsonl']"], ["a.jsonl", "b,c.jsonl"]),
        (["data.train=[a.jsonl, {path: b.jsonl, weight: 2}]"], ["a.jsonl", "b.jsonl"]),
        (["data.train.0.path=a.jsonl"], ["a.jsonl"]),
        (["data.train=a", "data.eval=b"], ["a"]),
    ],
)
def test_training_data_may_be_named_by_their_paths_alone(words: list[str], paths: list[str]):
    config = load_stage("sft", None, ["model.base=b", *words])
    assert [source.path for source in config.data.train] == paths
    again = load_stage("sft", None, ["model.base=b", *words, "seed=0"])
    assert config == again


def test_a_missing_key_deep_down_is_named_by_its_whole_name():
    with pytest.raises(ConfigError, match=r"`data\.train\.0\.path` is missing; `model\.base` is"):
        load_stage("sft", None, ["model.tuning=lora", "data.train.0.format=hh"])


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
