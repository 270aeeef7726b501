"""One PPO run of ours on a model of random weights, timed; the counterpart of an anchor program.

`ppo_vs_trl.py` calls it. MODEL is a folder of a causal LM with an `<eos>`; WORK takes the runs.
"""

import argparse
import json
import resource
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM

from rlhf.chat import encode_prompt
from rlhf.config import RewardConfig, SFTConfig, build
from rlhf.model.engine.generate import Sampling, sample_ids
from rlhf.model.load import load_tokenizer
from rlhf.ppo.arguments import PPOArguments
from rlhf.ppo.trainer import PPOTrainer
from rlhf.sandbox.world import prompts
from rlhf.stages import reward, sft

CHAT = (
    "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<eos>"
    "{% endgeneration %}{% else %}{{ m.content }} {% endif %}{% endfor %}"
)

DEMO_BASE = Path(__file__).parents[2] / "data" / "demo-base"
_MEAN_RESPONSE = 37.0
_EOS = 1

_SHAPE = {"updates": 3, "batch": 32, "micro": 8, "epochs": 2, "prompt": 32, "response": 48,
          "lora": 16, "threads": 2}  # fmt: skip


def main() -> None:
    """Make the runs that PPO starts from, once; then train and print one JSON line."""
    given = _arguments()
    torch.set_num_threads(given.threads)
    runs = given.work
    if given.prepare:
        _prepare(given)
        return
    asked = _prompts(given)
    before = _peak_mb()
    trainer = PPOTrainer(
        runs / "sft",
        runs / "reward",
        PPOArguments(
            output_dir=str(given.work / "out"),
            num_rollouts=given.updates,
            rollout_batch_size=given.batch,
            per_device_train_batch_size=given.micro,
            per_device_eval_batch_size=given.micro,
            num_ppo_epochs=given.epochs,
            num_mini_batches=1,
            max_new_tokens=given.response,
            value_model=given.value,
            value_warmup_rollouts=0,
            learning_rate=1e-5,
            report_to=[],
            use_cpu=True,
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
        ),
        Dataset.from_dict({"prompt": asked}),
    )
    started = time.perf_counter()
    trainer.train()
    wall = time.perf_counter() - started
    logged = [row for row in trainer.state.log_history if "response_length" in row]
    num = given.batch * given.updates
    sys.stdout.write(
        json.dumps(
            {
                "system": f"rlhf, value {given.value}",
                "samples_per_s": round(num / wall, 3),
                "wall_s": round(wall, 2),
                "rss_over_import_mb": round(_peak_mb() - before),
                "mean_response": sum(row["response_length"] for row in logged) / len(logged),
                "seconds": {
                    part: round(sum(row[f"time/{part}"] for row in logged), 2)
                    for part in ("sampling", "scoring")
                },
            }
        )
        + "\n"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("model", type=Path)
    parser.add_argument("work", type=Path)
    for name, default in _SHAPE.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--value", choices=["adapter", "head"], default="adapter")
    parser.add_argument("--nf4", action="store_true")
    parser.add_argument("--prepare", action="store_true", help="make the runs, and nothing else")
    parser.add_argument("--prompts", type=Path)
    return parser.parse_args()


def _prepare(given: argparse.Namespace) -> None:
    """A policy and a reward run of one step each; with ``--prompts`` also these, and a model that
    ends its responses."""
    given.work.mkdir(parents=True, exist_ok=True)
    if given.prompts and not given.prompts.exists():
        _write_sandbox_prompts(given.prompts)
        _teach_to_end(given.model, _prompts(given))
    (given.model / "chat_template.jinja").write_text(CHAT)
    rows = [{"prompt": f"w{i}", "chosen": f"w{i} w2", "rejected": f"w{i} w3"} for i in range(8)]
    pairs, talks = given.work / "pairs.jsonl", given.work / "talks.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]
    talks.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = {
        "base": str(given.model),
        "tuning": "qlora" if given.nf4 else "lora",
        "quantization": "auto" if given.nf4 else "none",
        "lora": {"rank": given.lora},
    }
    for stage, kind, path, more in (
        (sft, SFTConfig, talks, {"model": model}),
        (reward, RewardConfig, pairs, {"sft": str(given.work / "sft")}),
    ):
        out = given.work / kind.__name__.removesuffix("Config").lower()
        if not out.exists():
            data = {"train": [{"path": str(path)}], "eval_fraction": 0.0}
            shared: dict[str, Any] = {"max_steps": 1, "learning_rate": 1e-6}
            stage.run(build(kind, {"out": str(out), "data": data, **shared, **more}))
    sys.stdout.write("{}\n")


def _teach_to_end(folder: Path, asked: Sequence[str]) -> None:
    """Train a model to draw words at random and to end so often that its responses are long enough
    on average."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = load_tokenizer(str(folder))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    prompts, target = [tokenizer(text)["input_ids"] for text in asked], _MEAN_RESPONSE
    while True:
        _teach(model, optimizer, 1 / target)
        drawn = sample_ids(model, tokenizer, prompts, Sampling(96, seed=0))
        mean = sum(map(len, drawn)) / len(drawn)
        if abs(mean / _MEAN_RESPONSE - 1) < 0.05:
            break
        target *= (_MEAN_RESPONSE / mean) ** 0.7
    model.save_pretrained(folder)


def _teach(model: Any, optimizer: torch.optim.Optimizer, chance: float) -> None:
    """Move the chance to end, wherever in a text, and leave the words as likely as they are."""
    for _ in range(40):
        ids = torch.randint(4, model.config.vocab_size, (8, 96))
        end = model(input_ids=ids).logits.log_softmax(dim=-1)[..., _EOS]
        loss = -(end * chance + torch.log1p(-end.exp()) * (1 - chance)).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def _write_sandbox_prompts(path: Path) -> None:
    """What customers ask the sandbox's help desk, each of its tokens written as a word."""
    tokenizer = load_tokenizer(str(DEMO_BASE))
    with path.open("w") as file:
        for prompt in prompts(0, 256):
            words = " ".join(f"w{i}" for i in encode_prompt(tokenizer, prompt))
            file.write(json.dumps({"prompt": words}) + "\n")


def _prompts(given: argparse.Namespace) -> list[str]:
    """Those of a file, or random words."""
    num = given.batch * given.updates
    if given.prompts:
        rows = [json.loads(line)["prompt"] for line in given.prompts.read_text().splitlines()]
        return [rows[i % len(rows)] for i in range(num)]
    generator = torch.Generator().manual_seed(0)
    words = torch.randint(0, 8000, (num, given.prompt), generator=generator).tolist()
    return [" ".join(f"w{i}" for i in row) for row in words]


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
