"""``rlhf plan``: a table, a verdict and the knobs to turn, from a config alone."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from rlhf import cli
from rlhf.config import ModelConfig, SFTConfig, load_config
from rlhf.errors import ModelError
from rlhf.memory import weights
from rlhf.memory.phases import Setup, phases
from rlhf.memory.plan import PLANNED, RESERVE, PlanOptions, facts, run, stage_of, table
from rlhf.memory.shapes import KNOWN, read_shape
from tests.unit.test_cli import ENVIRONMENT, mistake

ROOT = Path(__file__).parents[2]
GPU_CONFIGS = sorted(
    path
    for family in ("llama3-8b", "qwen3-0.6b")
    for path in (ROOT / "configs" / family).glob("*.yaml")
)
PPO_8B = ROOT / "configs" / "llama3-8b" / "ppo.yaml"
GIB = 1 << 30


def plan(config: Path, *overrides: str, **options):
    return run(PlanOptions(config=config, overrides=list(overrides), **options))


@pytest.mark.parametrize("path", GPU_CONFIGS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_a_shipped_config_fits_24_gib_and_its_comment_is_the_plan(path: Path):
    found = plan(path, gpu_memory=24.0)
    assert found.fits
    assert found.advice == ()
    [said] = re.findall(r"Memory, about ([\d.]+) GiB", path.read_text())
    assert float(said) == pytest.approx(found.peak.total / GIB, rel=0.05)


def test_the_bases_of_the_configs_are_known_without_a_network():
    models = [load_config(SFTConfig, p).model for p in GPU_CONFIGS if p.stem == "sft"]
    named = {model.base for model in models if model}
    assert named == set(KNOWN)


def test_the_8b_ppo_plan_adds_up_from_its_parts():
    found = plan(PPO_8B)
    shape = read_shape("meta-llama/Llama-3.1-8B")
    by_phase = {p.name: {i.name: i.bytes for i in p.items} for p in found.phases}
    assert list(by_phase) == ["sampling", "scoring", "training"]
    for items in by_phase.values():
        assert items["base in nf4"] == weights.trunk_bytes(shape, "nf4", 2)
        assert items["embeddings and output"] == 2 * 128256 * 4096 * 2
        for role in ("policy", "reference", "reward", "value"):
            assert items[f"adapter: {role}"] == 41_943_040 * 4
        # two moments of two adapters and a head, in fp32, and a count for each tensor
        tensors = 2 * 32 * 7 * 2 + 2
        assert items["optimizer: adamw_torch_fused"] == 8 * (2 * 41_943_040 + 4097) + 4 * tensors
    assert by_phase["training"]["gradients"] == 4 * (2 * 41_943_040 + 4097)
    # 64 prompts of 512 tokens with room for 64, at 131072 bytes each
    assert by_phase["sampling"]["KV cache"] == 64 * (512 + 64) * 131_072
    assert "gradients" not in by_phase["sampling"]
    for phase in found.phases:
        assert phase.total == sum(i.bytes for i in phase.items)
    assert found.peak.total == max(p.total for p in found.phases)


def test_a_value_head_saves_an_adapter_and_what_trains_it():
    adapter, head = plan(PPO_8B), plan(PPO_8B, "value_model=head")
    saved = [a.total - b.total for a, b in zip(adapter.phases, head.phases, strict=True)]
    weights = 41_943_040
    counts = 32 * 7 * 2 * 4  # of the optimizer's steps, one for each tensor
    assert saved == [12 * weights + counts, 12 * weights + counts, 16 * weights + counts]


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "ppo"])
def test_the_advice_makes_it_fit(stage: str):
    path = PPO_8B.with_name(f"{stage}.yaml")
    wide = ["per_device_train_batch_size=16", "gradient_checkpointing=false"]
    found = plan(path, *wide, gpu_memory=10.0)
    assert found.fits is False
    assert "gradient_checkpointing=true" in found.advice
    mended = plan(path, *wide, *found.advice, gpu_memory=10.0)
    assert mended.fits
    assert mended.peak.total + RESERVE <= 10 * GIB
    if stage != "ppo":  # the optimizer's steps stay what they were
        before, after = (
            load_config(PLANNED[stage], path, [*wide, *more]) for more in ([], found.advice)
        )
        sizes = [
            c.per_device_train_batch_size * c.gradient_accumulation_steps for c in (before, after)
        ]
        assert sizes[0] == sizes[1]


def test_what_no_knob_can_help_is_said(capsys):
    assert cli.main(["plan", str(PPO_8B), "--gpu-memory", "5"]) == 1
    said = capsys.readouterr()
    assert "does not fit 5 GiB with any knob of this config" in said.out
    assert said.err == ""


def test_the_table_has_a_line_for_each_item_and_a_verdict(capsys):
    assert cli.main(["plan", str(PPO_8B), "rollout_batch_size=32", "--gpu-memory", "24"]) == 0
    text = capsys.readouterr().out
    lines = text.splitlines()
    assert lines[0].split() == ["GiB", "sampling", "scoring", "training"]
    assert re.search(r"^KV cache +2\.25$", text, re.MULTILINE)
    assert re.search(r"^gradients +0\.31$", text, re.MULTILINE)
    assert "ppo on meta-llama/Llama-3.1-8B: " in text
    assert re.search(r"fits 24 GiB, with \d+\.\d GiB to spare", text)
    assert "prompts of 512 tokens and responses of 256" in text
    assert "computed, not measured" in text


def test_json_is_for_programs(capsys):
    assert cli.main(["plan", str(PPO_8B), "--json", "--prompt-length", "100"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["peak"]["bytes"] == found["phases"][found["peak"]["phase"]]["total"]
    assert found["fits"] is None
    for phase in found["phases"].values():
        assert phase["total"] == sum(phase["items"].values())
    assert found == json.loads(json.dumps(facts(plan(PPO_8B, prompt_length=100))))


def test_a_plan_needs_no_torch():
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from rlhf.cli import main; main();"
            "print([m for m in ('torch', 'transformers', 'bitsandbytes') if m in sys.modules])",
            "plan",
            str(PPO_8B),
        ],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_run_is_followed_to_its_base(tmp_path: Path):
    """Through the folder of a run, through the config beside ours that will write it, or not."""
    sft = {"out": "runs/a", "model": {"base": "Qwen/Qwen3-0.6B-Base", "lora": {"rank": 7}}}
    data = {"train": [{"path": "t.jsonl"}], "max_length": 200}
    folder = tmp_path / "dpo-run"
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps(sft | {"out": str(folder), "data": data}))
    (folder / "run.json").write_text('{"stage": "sft", "status": "finished"}')
    ppo = {"out": "x", "data": data, "policy": str(folder), "reward": "runs/judge"}
    (tmp_path / "my-ppo.yaml").write_text(json.dumps(ppo))
    with pytest.raises(Exception, match="runs/judge: there is no such run, and no config beside"):
        plan(tmp_path / "my-ppo.yaml")
    judge = {"out": "runs/judge", "data": data, "sft": "runs/a"}
    (tmp_path / "the-reward.yaml").write_text(json.dumps(judge))
    (tmp_path / "old_sft.yaml").write_text(json.dumps(sft | {"data": data}))
    found = plan(tmp_path / "my-ppo.yaml")
    assert found.base == "Qwen/Qwen3-0.6B-Base"
    # queries and output, keys and values, gate, up and down: in and out, of each layer
    widths = 2 * (1024 + 2048) + 2 * (1024 + 1024) + 3 * (1024 + 3072)
    items = {i.name: i.bytes for i in found.peak.items}
    assert items["adapter: policy"] == items["adapter: reward"] == 28 * 7 * 4 * widths


def test_another_base_is_planned_for_where_the_runs_are_not_there(tmp_path: Path):
    path = tmp_path / "ppo.yaml"
    path.write_text(PPO_8B.read_text())
    with pytest.raises(Exception, match="give the base with --base"):
        plan(path)
    assert plan(path, base="meta-llama/Llama-3.1-8B").phases == plan(PPO_8B).phases
    small = plan(PPO_8B, base="Qwen/Qwen3-0.6B-Base")
    assert small.base == "Qwen/Qwen3-0.6B-Base"
    assert small.peak.total < plan(PPO_8B).peak.total


def test_pretraining_is_planned_in_fp32_from_the_architecture():
    found = plan(ROOT / "configs" / "demo" / "pretrain.yaml")
    training = {i.name: i.bytes for i in found.phases[0].items}
    shape = read_shape(str(ROOT / "data" / "demo-base"))
    assert training["gradients"] == 4 * shape.parameters
    assert training["optimizer: adamw_torch_fused"] == 8 * shape.parameters + 4


@pytest.mark.parametrize(
    ("name", "stage"), [("ppo.yaml", "ppo"), ("my-sft_2.yaml", "sft"), ("Reward.yml", "reward")]
)
def test_the_file_name_tells_the_stage(name: str, stage: str):
    assert stage_of(Path(name)) == stage


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.yaml"], "add --stage with one of pretrain, sft, reward, dpo, ppo"),
        (["sft-then-ppo.yaml"], "its name does not say which stage"),
        (["nowhere/ppo.yaml"], "cannot be read"),
        ([str(PPO_8B), "--gpu-memory", "0"], "`gpu_memory`: input should be greater than 0"),
        ([str(PPO_8B), "--prompt-length", "-1"], "`prompt_length`"),
        ([str(PPO_8B), "data.max_length=256"], "leaves no room for a prompt"),
        ([str(PPO_8B), "max_new_token=1"], "did you mean `max_new_tokens`"),
        ([str(PPO_8B), "--base", "nowhere/config.json"], "no such folder, and no config"),
        (["--gpu-memory"], "expected one argument"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: list[str], message: str, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert message in mistake(capsys, "plan", *arguments)


def test_an_optimizer_that_is_not_known_is_counted_as_adam_and_said_so():
    sft = PPO_8B.with_name("sft.yaml")
    found = plan(sft, "trainer.optim=adafactor")
    assert "optim: adafactor are not known here and counted as Adam's" in table(found)
    kept = {i.name: i.bytes for i in found.peak.items}
    assert kept["optimizer: adafactor"] == 8 * 41_943_040


def test_more_of_anything_never_takes_less():
    config = load_config(PLANNED["ppo"], PPO_8B)
    setup = Setup(read_shape("meta-llama/Llama-3.1-8B"), ModelConfig(base="b"))
    base = {p.name: p.total for p in phases(config, setup)}
    for change, grows in [
        ({"rollout_batch_size": 128}, "sampling"),
        ({"per_device_eval_batch_size": 32}, "scoring"),
        ({"per_device_train_batch_size": 4}, "training"),
        ({"gradient_checkpointing": False}, "training"),
    ]:
        other = {p.name: p.total for p in phases(replace(config, **change), setup)}
        assert other[grows] > base[grows]
        assert all(other[name] >= base[name] for name in base)


def test_experts_are_planned_for_in_16_bits_while_they_are_loaded(make_base, tmp_path):
    base = str(make_base("mixtral"))
    file = tmp_path / "sft.yaml"
    file.write_text(f"out: x\nmodel: {{base: {base}}}\ndata: {{train: [{{path: x.jsonl}}]}}\n")
    loading, *_ = run(PlanOptions(config=file)).phases
    sizes = {item.name: item.bytes for item in loading.items}
    assert loading.name == "loading"
    assert sizes["experts, 16 bits"] == 2 * 4 * (2 * 128 * 64 + 64 * 128) * 2
    with pytest.raises(ModelError, match="experts cannot be stored as int8"):
        run(PlanOptions(config=file, overrides=["model.tuning=lora", "model.quantization=int8"]))
