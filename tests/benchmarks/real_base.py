"""A pretrained base that others made (SmolLM2-135M-Instruct) through SFT and DPO in nf4: 20 steps.

Does the loss fall, does the tuned policy end its answers by itself, and does a new process that
loads the runs say the same of the same tokens?
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from common import places, report

from rlhf.config import DPOConfig, SFTConfig, SourceConfig, build
from rlhf.data.sources import read
from rlhf.model.engine.generate import Sampling
from rlhf.model.policies import load_policies
from rlhf.records import Demonstration, Prompt
from rlhf.runs import open_run
from rlhf.stages import dpo, sft

NUM_STEPS, NUM_PROMPTS, MAX_NEW_TOKENS = 20, 16, 96
SHARED: dict[str, Any] = {
    "max_steps": NUM_STEPS,
    "per_device_train_batch_size": 8,
    "learning_rate": 3e-4,
    "warmup_steps": 2,
    "logging_steps": 1,
}


def main() -> None:
    """Train both stages where they are not there yet, then answer and reload."""
    where = places()
    runs = {stage: where.work / f"real-{stage}" for stage in ("sft", "dpo")}
    shared = {**SHARED, "seed": where.seed}
    if not runs["sft"].exists():
        train = [{"path": where.file("sgd_dialogues/train.jsonl.gz"), "weight": 0.1}]
        data = {"train": train, "eval_fraction": 0.0, "max_length": 384, "max_dropped": 0.5}
        model = where.model(rank=16)
        sft.run(build(SFTConfig, {"out": str(runs["sft"]), "model": model, "data": data, **shared}))
    if not runs["dpo"].exists():
        # few pairs, each seen several times: 20 steps over fresh pairs show noise only
        train = [{"path": where.file("hh_harmless/train.jsonl.gz"), "limit": 48}]
        data = {"train": train, "eval_fraction": 0.0, "max_length": 256, "max_dropped": 0.6}
        out = {"out": str(runs["dpo"]), "sft": str(runs["sft"])}
        dpo.run(build(DPOConfig, {**out, "data": data, **shared}))
    here = answers(where.base, runs, where.file("sgd_dialogues/dev.jsonl.gz"))
    command = [sys.executable, __file__, "--again", where.base, *map(str, runs.values())]
    again = subprocess.run(
        [*command, where.file("sgd_dialogues/dev.jsonl.gz")],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    found = {
        name: {
            "ended_by_itself": said["ended"],
            "reload_equal": said["nll"] == json.loads(again.stdout)[name]["nll"],
            "first": said["texts"],
        }
        for name, said in here.items()
    }
    losses = {stage: curve(path) for stage, path in runs.items()}
    report({"benchmark": "real_base", "seed": where.seed, "losses": losses, **found})


def curve(run: Path) -> dict[str, float]:
    """The mean training loss of the first and of the last five steps."""
    losses = [line["loss"] for line in open_run(run).read_metrics() if "loss" in line]
    return {"first": sum(losses[:5]) / 5, "last": sum(losses[-5:]) / 5, "steps": len(losses)}


def answers(base: str, runs: dict[str, Path], dialogues: str) -> dict[str, Any]:
    """What the base and each run write to the first turns of unseen dialogues, greedily."""
    rows = read(SourceConfig(path=dialogues, limit=NUM_PROMPTS), Demonstration)
    prompts = [Prompt(row.messages[:1]) for row in rows]
    replies = [row.messages[1].content for row in rows]
    policies = load_policies([base, *runs.values()])
    sampling = Sampling(max_new_tokens=MAX_NEW_TOKENS, temperature=0.0)
    found = {}
    for name in policies.names:
        drawn = policies.sample(name, prompts, sampling)
        found[name] = {
            "ended": sum(len(ids) < MAX_NEW_TOKENS for ids in drawn) / len(drawn),
            "texts": policies.respond(name, prompts[:3], sampling),
            "nll": [list(map(float, pair)) for pair in policies.nll(name, prompts, replies)],
        }
    return found


if __name__ == "__main__":
    torch.manual_seed(0)
    if sys.argv[1] == "--again":
        base, first, second, dialogues = sys.argv[2:]
        json.dump(answers(base, {"sft": Path(first), "dpo": Path(second)}, dialogues), sys.stdout)
    else:
        main()
